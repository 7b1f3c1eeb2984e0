package app

import (
	"bytes"
	"context"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/reservoirhq/reservoir/jobs"
)

// TestServerIsRefused: what works on the bucket itself goes through no server, and says so.
func TestServerIsRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("RESERVOIR_STORE_URL", "file://"+t.TempDir())
	const id = "01KAJ4M5N6P7Q8R9S0T1V2W3X4"
	for _, args := range []string{
		"worker", "archive --once", "projector", "serve", "verify", "gc", "streams", "events --stream x", "token list", "doctor", "migrate status",
		"replay run --stream x --into redis:y", "replay run " + id, "rebuild run orders", "rebuild dry-run orders", "replay dead-letters retry " + id + " --run",
	} {
		fails(t, exitUsage, "not through a server, which --server names", append(strings.Fields(args), "--server", "http://127.0.0.1:1")...)
	}
	t.Setenv("RESERVOIR_SERVER", "http://127.0.0.1:1")
	fails(t, exitUsage, "not through a server, which RESERVOIR_SERVER names", "replay", "run", "--stream", "x", "--into", "redis:y")
	works(t, "streams", "list") // where only the environment names one, it is not meant
	fails(t, exitFailure, "call the server http://127.0.0.1:1", "replay", "list")
	fails(t, exitUsage, "is not the URL of a server", "replay", "list", "--server", "localhost:8080")
	fails(t, exitUsage, "client.token_file", "replay", "list", "--token-file", "missing")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	fails(t, exitFailure, "not as a server of reservoir does", "replay", "list", "--server", other.URL)
}

// TestTokensOfCommands: who has none, or one of too low a role, is told which is needed; the
// token itself is never shown.
func TestTokensOfCommands(t *testing.T) {
	s := archived(t)
	viewer := strings.TrimSpace(works(t, "token", "create", "--name", "eve", "--role", "viewer", "--quiet"))
	at, _ := s.serving(t, "--work=false")
	job := decode[jobs.Job](t, works(t, "replay", "create", "--stream", "orders", "--into", "redis:copy", "--paused", "--json"))
	fails(t, exitFailure, "with the role viewer", "replay", "list", "--server", at)
	t.Setenv("RESERVOIR_TOKEN", viewer+"x")
	_, _, stderr := command(t, "replay", "list", "--server", at)
	if strings.Contains(stderr, viewer) || !strings.Contains(stderr, "with the role viewer") {
		t.Errorf("of a wrong token: %s", stderr)
	}
	t.Setenv("RESERVOIR_TOKEN", "")
	file := write(t, viewer+"\n")
	if out := works(t, "replay", "list", "--server", at, "--token-file", file); !strings.Contains(out, job.ID) {
		t.Errorf("listed: %s", out)
	}
	works(t, "replay", "estimate", "--stream", "orders", "--server", at, "--token-file", file)
	for _, args := range []string{"resume " + job.ID, "create --stream orders --into redis:x", "dead-letters purge " + job.ID + " --all"} {
		fails(t, exitFailure, "with the role operator", append([]string{"replay"}, append(strings.Fields(args), "--server", at, "--token-file", file)...)...)
	}
}

// TestServerByTLS: a server is trusted by the authority that is named.
func TestServerByTLS(t *testing.T) {
	t.Chdir(t.TempDir())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer rsv_t" || r.URL.Path != "/under/v1/jobs" || strings.Contains(r.URL.RawQuery, "cursor") {
			t.Errorf("%s %s, %v", r.Method, r.URL, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		if _, err := w.Write([]byte(`{"jobs":[]}`)); err != nil {
			t.Error(err)
		}
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of whom it is not trusted by
	server.StartTLS()
	defer server.Close()
	t.Setenv("RESERVOIR_TOKEN", "rsv_t")
	fails(t, exitFailure, "client.ca_file", "replay", "list", "--server", server.URL+"/under/")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	works(t, "replay", "list", "--server", server.URL+"/under/", "--server-ca", ca)
	fails(t, exitUsage, "there is no certificate", "replay", "list", "--server", server.URL, "--server-ca", write(t, "none"))
}

// TestWatchComesBack: who watches a job while the server is replaced sees its end.
func TestWatchComesBack(t *testing.T) {
	s := archived(t)
	between := &http.Transport{}
	defer between.CloseIdleConnections()
	var target atomic.Pointer[url.URL]
	lastID := make(chan string, 100)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lastID <- r.Header.Get("Last-Event-ID")
		at := target.Load()
		out, err := http.NewRequestWithContext(r.Context(), r.Method, at.JoinPath(r.URL.Path).String(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		out.Header = r.Header.Clone()
		answer, err := between.RoundTrip(out)
		if err != nil {
			http.Error(w, "the server is away", http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
		w.WriteHeader(answer.StatusCode)
		buf := make([]byte, 64<<10)
		for {
			n, err := answer.Body.Read(buf)
			if _, writeErr := w.Write(buf[:n]); writeErr != nil || err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
		}
	}))
	defer proxy.Close()
	serve := func(args ...string) (stop func()) {
		at, stop := s.serving(t, args...)
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		target.Store(u)
		return stop
	}
	stop := serve("--work=false")
	job := decode[jobs.Job](t, works(t, "replay", "create", "--stream", "orders", "--into", "redis:copy", "--paused", "--json"))
	var out, errs lockedText
	status := make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		status <- run(ctx, Options{}, []string{"replay", "watch", job.ID, "--server", proxy.URL}, strings.NewReader(""), &out, &errs)
	}()
	s.await(t, func() bool { return strings.Contains(errs.String(), "paused") })
	stop()
	s.await(t, func() bool { return len(lastID) > 1 }) // it comes back, and there is nobody
	serve()
	works(t, "replay", "resume", job.ID)
	if got := <-status; got != exitOK || !strings.Contains(out.String(), "succeeded: 100 of 100") {
		t.Errorf("status %d: %s%s", got, out.String(), errs.String())
	}
	if <-lastID != "" || <-lastID == "" {
		t.Error("it does not say what it has seen")
	}
}

// TestCompletion: shells complete what there is, also through a server.
func TestCompletion(t *testing.T) {
	s := archived(t)
	definitions := t.TempDir()
	text := "name: sales\nkind: sql\ndescription: what was sold\nsource: {streams: [orders]}\ntable: {engine: MergeTree, order_by: [n], columns: {n: UInt64}}\nselect: SELECT id_ms AS n FROM events\n"
	if err := os.WriteFile(filepath.Join(definitions, "sales.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RESERVOIR_PROJECTIONS_DIR", definitions)
	at, _ := s.serving(t, "--work=false")
	paused := decode[jobs.Job](t, works(t, "replay", "create", "--stream", "orders", "--into", "redis:copy", "--name", "again", "--paused", "--json")).ID
	pending := decode[jobs.Job](t, works(t, "replay", "create", "--stream", "orders", "--into", "redis:copy", "--json")).ID
	for _, c := range []struct{ args, want, not string }{
		{"replay show |", paused, "sales"},
		{"replay show |" + pending, pending, paused},
		{"replay resume |", paused + "\tpaused redis://", pending},
		{"replay pause |", pending, paused},
		{"replay retry |", "", paused},
		{"replay dead-letters list |", paused, ""},
		{"replay watch " + paused + " |", "", paused},
		{"replay list --state |pa", "paused", "pending"},
		{"replay list --state |failed,ca", "failed,cancelled", "paused"},
		{"replay create --order |", "stream", "orders"},
		{"replay create --stream |or", "orders", "payments"},
		{"rebuild show |", "", paused},
	} {
		for _, way := range [][]string{nil, {"--server", at}} {
			before, last, _ := strings.Cut(c.args, "|")
			args := append(append([]string{"__complete"}, strings.Fields(before)...), append(way, last)...)
			if i := strings.LastIndex(before, " --"); i >= 0 { // the flag's value comes right behind it
				args = append(append([]string{"__complete"}, strings.Fields(before[:i])...), append(way, strings.TrimSpace(before[i:]), last)...)
			}
			out := works(t, args...)
			if !strings.Contains(out, c.want) || c.not != "" && strings.Contains(out, c.not) || !strings.Contains(out, ":4\n") {
				t.Errorf("%v: want %q and not %q:\n%s", args, c.want, c.not, out)
			}
		}
	}
	if out := works(t, "__complete", "rebuild", "create", "s"); !strings.Contains(out, "sales\twhat was sold") {
		t.Errorf("projections: %s", out)
	}
	var buf bytes.Buffer
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		buf.WriteString(works(t, "completion", shell))
	}
	if !strings.Contains(buf.String(), "__complete") {
		t.Error("the scripts do not ask the program")
	}
}
