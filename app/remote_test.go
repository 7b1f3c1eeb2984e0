package app

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/reservoirhq/reservoir/jobs"
)

// lockedText is a log that is read while it is written.
type lockedText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// serving runs `reservoir serve` in this process until the test ends, or stop is called,
// and gives its URL.
func (s *site) serving(t *testing.T, args ...string) (at string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	var logs lockedText
	status := make(chan int, 1)
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)
	go func() { status <- run(ctx, Options{}, args, strings.NewReader(""), &logs, &logs) }()
	stop = sync.OnceFunc(func() {
		cancel(errInterrupted)
		if got := <-status; got != exitOK {
			t.Errorf("the server ended with %d: %s", got, logs.String())
		}
	})
	t.Cleanup(stop)
	s.await(t, func() bool {
		for line := range strings.Lines(logs.String()) {
			var entry struct{ Msg, URL string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				at = entry.URL
			}
		}
		return at != ""
	})
	return at, stop
}

// Words that differ between two jobs, or two moments.
var differing = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`replayed in \S+( \(\S+\))?`), "replayed in TIME"},
	{regexp.MustCompile(`"(rate|left_ns)": [0-9.e+]+,?\s*`), ""},
	{regexp.MustCompile(`"(worker)": "[^"]*"`), `"$1": "WORKER"`},
	{regexp.MustCompile(`\bsee .reservoir .* --help.`), "see help"},
}

// sameWords leaves out what differs. JSON has its members in order then: a server takes
// a spec apart.
func sameWords(text string) string {
	var value any
	if json.Unmarshal([]byte(text), &value) == nil {
		if ordered, err := json.MarshalIndent(value, "", "  "); err == nil {
			text = string(ordered)
		}
	}
	for _, d := range differing {
		text = d.pattern.ReplaceAllString(text, d.word)
	}
	return text
}

// onlyErrors are the errors and remedies of what was written to standard error.
func onlyErrors(stderr string) string {
	_, text, _ := strings.Cut(stderr, "error: ")
	return text
}

// twoWays runs a command on the bucket and through the server, on the same job or, where
// it changes one, on one each, and wants the same of both.
func twoWays(t *testing.T, at string, args func(way string) []string) (direct string) {
	t.Helper()
	status, stdout, stderr := command(t, args("bucket")...)
	remoteStatus, remoteOut, remoteErr := command(t, append(args("server"), "--server", at)...)
	if status != remoteStatus || sameWords(stdout) != sameWords(remoteOut) || sameWords(onlyErrors(stderr)) != sameWords(onlyErrors(remoteErr)) {
		t.Errorf("reservoir %s\non the bucket: status %d\n%s%s\nthrough the server: status %d\n%s%s",
			strings.Join(args("bucket"), " "), status, sameWords(stdout), stderr, remoteStatus, sameWords(remoteOut), remoteErr)
	}
	return stdout
}

// same are the arguments for both ways.
func same(args ...string) func(string) []string {
	return func(string) []string { return append([]string(nil), args...) }
}

// TestReplaysThroughServer: every command of replays gives the same on the bucket and
// through a server.
func TestReplaysThroughServer(t *testing.T) {
	s := archived(t)
	t.Setenv("RESERVOIR_USER", "anna")
	t.Setenv("RESERVOIR_TOKEN", strings.TrimSpace(works(t, "token", "create", "--name", "anna", "--role", "operator", "--quiet")))
	at, _ := s.serving(t)
	made := map[string]string{} // a job by way
	of := func(args ...string) func(string) []string {
		return func(way string) []string {
			out := append([]string(nil), args...)
			for i, arg := range out {
				out[i] = strings.NewReplacer("JOB", made[way], "WAY", way).Replace(arg)
			}
			return out
		}
	}
	create := func(args ...string) {
		t.Helper()
		args = append([]string{"replay", "create", "--name", "a copy", "--reason", "test", "--json"}, args...)
		for way, more := range map[string][]string{"bucket": nil, "server": {"--server", at}} {
			made[way] = decode[jobs.Job](t, works(t, append(of(args...)(way), more...)...)).ID
		}
	}
	both := func(args ...string) string {
		t.Helper()
		return twoWays(t, at, of(args...))
	}
	selected := []string{"--stream", "orders", "--tenant", "tenant1", "--where", "payload.n > 10"}
	into := append([]string{"--into", "redis:same", "--set", "ids=new"}, selected...)
	for _, args := range [][]string{
		append([]string{"replay", "estimate"}, selected...),
		append([]string{"replay", "estimate", "--json", "--rate", "10"}, into...),
		append([]string{"replay", "estimate", "--sample=false", "--events", "-1"}, selected...),
		append([]string{"replay", "create", "--dry-run"}, into...),
		append([]string{"replay", "create", "--paused"}, into...),
		append([]string{"replay", "create", "--paused", "--json"}, into...),
	} {
		both(args...)
	}

	create("--stream", "orders", "--stream", "payments", "--into", "redis:copy", "--paused")
	for _, args := range [][]string{
		{"pause", "JOB"}, // not possible
		{"show", "JOB"},
		{"resume", "JOB", "--reason", "go on"},
		{"watch", "JOB"},
		{"watch", "JOB", "--json"},
		{"show", "JOB"},
		{"show", "JOB", "--json"},
		{"retry", "JOB"}, // not possible
	} {
		both(append([]string{"replay"}, args...)...)
	}
	create("--stream", "orders", "--into", "redis:never", "--paused")
	both("replay", "cancel", "JOB", "--reason", "not needed", "--json")
	both("replay", "watch", "JOB")
	both("replay", "create", "--stream", "orders", "--into", "redis:WAY", "--watch", "--idempotency-key", "k-WAY")
	both("replay", "create", "--stream", "payments", "--into", "redis:WAY", "--idempotency-key", "k-WAY") // used already
	for _, args := range []string{"", "--all", "--all --json", "--state paused,succeeded", "--all --limit 2 --json", "--target redis:x", "--all --since 2020-01-01", "--since x", "--state lost"} {
		twoWays(t, at, same(append([]string{"replay", "list"}, strings.Fields(args)...)...))
	}

	poison := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "poison", http.StatusUnprocessableEntity) }))
	defer poison.Close()
	create("--stream", "orders", "--to", "4-1", "--into", poison.URL, "--max-dead-letters", "10")
	both("replay", "watch", "JOB")
	letters := decode[deadLetterList](t, both("replay", "dead-letters", "list", "JOB", "--json"))
	if len(letters.DeadLetters) != 4 {
		t.Fatalf("letters %+v", letters)
	}
	key := letters.DeadLetters[1].Key
	for _, args := range [][]string{
		{"list", "JOB"}, {"list", "JOB", "--limit", "2"}, {"list", "JOB", "--after", key, "--json"},
		{"show", "JOB", key}, {"show", "JOB", "nonsense"},
		{"retry", "JOB", key, "--reason", "mended", "--json"}, {"retry", "JOB"}, {"retry", "JOB", "nonsense"},
		{"purge", "JOB", key}, {"purge", "JOB", key}, {"purge", "JOB"}, {"purge", "JOB", "--all", "--json"}, {"retry", "JOB"},
	} {
		both(append([]string{"replay", "dead-letters"}, args...)...)
	}
	create("--stream", "orders", "--to", "4-1", "--into", poison.URL)
	both("replay", "watch", "JOB") // failed
	both("replay", "retry", "JOB")
}

// TestMistakesThroughServer: what is wrong is said the same way, with the same status.
func TestMistakesThroughServer(t *testing.T) {
	s := archived(t)
	at, _ := s.serving(t, "--work=false")
	const nobody = "01KAJ4M5N6P7Q8R9S0T1V2W3X4"
	for _, args := range []string{
		"replay show " + nobody, "replay watch " + nobody, "replay pause " + nobody, "replay cancel " + nobody, "replay show 17",
		"replay dead-letters list " + nobody, "replay dead-letters retry " + nobody, "replay dead-letters purge " + nobody + " --all", "replay dead-letters show " + nobody + " x",
		"replay estimate", "replay estimate --stream ordres", "replay estimate --stream orders --from 2030-01-01",
		"replay create", "replay create --stream orders --from 5 --to 4 --into redis:x", "replay create --stream orders --from 2030-01-01 --into redis:x",
		"replay create --stream ordres --into redis:x", "replay create --stream orders --into https://example.com/x", "replay create --stream orders --into redis:x --where payload.n>>3",
		"replay create --stream orders --into redis:orders", "replay create --stream orders --into redis:payments --set ids=keep", "replay create --stream orders",
		"replay create --stream orders --into pigeon:post", "replay create --stream orders --into copy", "replay create --stream orders --into redis:x --set strem=y",
		"replay create --stream orders --into redis:x --rate 5 --speed 2x", "replay create --stream orders --into redis:x --group g --max-lag 5",
		"replay create --stream orders --into redis:x --max-lag 5", "replay create --stream orders --into redis:x --upcast", "replay create --stream orders --into redis:x --order random",
		"replay create --stream orders --into -", "replay create --stream orders,ordres --into redis:x --order random --rate 5 --speed 2x",
	} {
		twoWays(t, at, same(strings.Fields(args)...))
	}
	s.wantNoJobs(t)
}
