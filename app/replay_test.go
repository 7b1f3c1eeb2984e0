package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// archived is a site with streams in the archive.
func archived(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	t.Setenv("RESERVOIR_JOBS_POLL", "20ms")
	s.add(t, "orders", 1, 100)
	s.add(t, "payments", 1, 50)
	works(t, "archive", "--once")
	return s
}

// replayList is the output of list with --json.
type replayList struct{ Replays []shownJob }

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func TestReplayRun(t *testing.T) {
	s := archived(t)
	out := works(t, "replay", "run", "--stream", "*", "--tenant", "tenant1", "--into", "redis:{stream}:replay", "--name", "again", "--reason", "bug 7")
	if !strings.Contains(out, "succeeded: 51 of 51 events replayed") {
		t.Errorf("printed %s", out)
	}
	if n := s.admin.XLen(t.Context(), "orders:replay").Val() + s.admin.XLen(t.Context(), "payments:replay").Val(); n != 34+17 {
		t.Errorf("%d entries", n)
	}
	list := decode[replayList](t, works(t, "replay", "list", "--all", "--json"))
	if len(list.Replays) != 1 || list.Replays[0].Name != "again" || list.Replays[0].State != jobs.Succeeded {
		t.Fatalf("list %+v", list)
	}
	if out := works(t, "replay", "list"); strings.Contains(out, list.Replays[0].ID) {
		t.Errorf("it ended, and is listed: %s", out)
	}
	if out := works(t, "replay", "show", list.Replays[0].ID); !strings.Contains(out, "bug 7") || !strings.Contains(out, "payments") {
		t.Errorf("show %s", out)
	}
	shown := decode[replayShown](t, works(t, "replay", "show", list.Replays[0].ID, "--json"))
	if len(shown.Plan.Streams) != 2 || shown.Progress.Selected != 51 {
		t.Errorf("show %+v", shown)
	}
	works(t, "replay", "watch", list.Replays[0].ID)
}

// TestReplayRestores: a stream that was deleted is as it was.
func TestReplayRestores(t *testing.T) {
	s := archived(t)
	before, info := s.entries(t, "orders"), s.admin.XInfoStream(t.Context(), "orders").Val()
	s.do(t, "DEL", "orders")
	works(t, "replay", "run", "--stream", "orders", "--into", "redis:{stream}", "--set", "ids=keep", "--set", "allow_source=true")
	wantSame(t, s.entries(t, "orders"), before)
	if got := s.admin.XInfoStream(t.Context(), "orders").Val(); got.LastGeneratedID != info.LastGeneratedID || got.EntriesAdded != info.EntriesAdded || got.Length != info.Length {
		t.Errorf("restored %+v, was %+v", got, info)
	}
}

func TestReplayToStdoutAndFile(t *testing.T) {
	archived(t)
	if out := works(t, "replay", "run", "--stream", "orders", "--limit", "3", "--into", "-"); strings.Count(out, "\n") != 3 || !strings.Contains(out, `"id":"3-1"`) {
		t.Errorf("stdout %s", out)
	}
	fails(t, exitUsage, "--json prints the replay", "replay", "run", "--stream", "orders", "--into", "-", "--json")
	works(t, "replay", "run", "--stream", "orders", "--into", "file:out.jsonl")
	text, err := os.ReadFile("out.jsonl")
	if err != nil || bytes.Count(text, []byte("\n")) != 100 {
		t.Errorf("file %.200s, %v", text, err)
	}
}

// TestReplayRunOfAnother: flags that would do nothing are refused, --dry-run most
// of all.
func TestReplayRunOfAnother(t *testing.T) {
	archived(t)
	job := decode[jobs.Job](t, works(t, "replay", "create", "--stream", "orders", "--into", "redis:copy", "--paused", "--json"))
	for _, flags := range [][]string{{"--dry-run"}, {"--rate", "5"}, {"--tenant", "acme"}} {
		fails(t, exitUsage, flags[0], append([]string{"replay", "run", job.ID}, flags...)...)
	}
	works(t, "replay", "run", job.ID, "--json")
}

// TestReplayFile: a whole replay in a file, and flags over it.
func TestReplayFile(t *testing.T) {
	s := archived(t)
	file := write(t, "streams: [orders]\nto: \"9\"\nsink: {type: redis, options: {stream: copy}}\npace: {factor: 100, max_silence: 5s}\nfailures: {retry: {initial: 10ms, max: 1s}}\n")
	job := decode[jobs.Job](t, works(t, "replay", "create", "--file", file, "--limit", "4", "--json", "--paused"))
	spec, err := specOf(&job)
	if err != nil || spec.Pace.MaxSilence != 5*time.Second || spec.Failures.Retry.Max != time.Second || spec.Limit != 4 || job.State != jobs.Paused {
		t.Errorf("spec %+v, %v", spec, err)
	}
	works(t, "replay", "run", job.ID)
	if n := s.admin.XLen(t.Context(), "copy").Val(); n != 4 {
		t.Errorf("%d entries", n)
	}
	fails(t, exitUsage, "strems", "replay", "create", "--file", write(t, "strems: [a]\n"))
	fails(t, exitUsage, "no duration", "replay", "create", "--file", write(t, "pace: {max_silence: long}\n"))
}

// TestReplayRefuses: what is wrong is refused before anything is written, with a
// remedy.
func TestReplayRefuses(t *testing.T) {
	s := archived(t)
	keys := s.admin.DBSize(t.Context()).Val()
	for _, c := range []struct {
		name, args string
		want       string
	}{
		{"nothing", "", "streams: no stream is named"},
		{"an impossible range", "--stream orders --from 5 --to 4 --into redis:x", "lies after"},
		{"beyond the head", "--stream orders --from 2030-01-01 --into redis:x", "nothing to replay"},
		{"an unknown stream", "--stream ordres --into redis:x", `Did you mean "orders"?`},
		{"a host", "--stream orders --into https://example.com/x", "replay.allow_hosts"},
		{"a typo in the condition", "--stream orders --into redis:x --where payload.n>>3", "1:11"},
		{"the source", "--stream orders --into redis:orders", "allow_source"},
		{"the source by a template", "--stream * --into redis:{stream}", "allow_source"},
		{"a stream that is not fresh", "--stream orders --into redis:payments --set ids=keep", "IDs can be kept in a fresh stream only"},
		{"no sink", "--stream orders", "sink.type"},
		{"an unknown sink", "--stream orders --into pigeon:post", "redis:pigeon:post is a stream of that name"},
		{"a bare name", "--stream orders --into copy", "Write redis:copy for a stream"},
		{"an unknown option", "--stream orders --into redis:x --set strem=y", "The options of redis are"},
		{"no option", "--stream orders --into redis:x --set y", "want key=value"},
		{"options of nothing", "--stream orders --set a=b", "--set gives options of --into"},
		{"rate and speed", "--stream orders --into redis:x --rate 5 --speed 2x", "both are given"},
		{"a rate", "--stream orders --into redis:x --rate fast", "30/m"},
		{"a speed", "--stream orders --into redis:x --speed -1x", "0.5x"},
		{"a group that is not there", "--stream orders --into redis:x --group g --max-lag 5", "XGROUP CREATE"},
		{"lag of no group", "--stream orders --into redis:x --max-lag 5", "consumer group"},
		{"no upcasters", "--stream orders --into redis:x --upcast", "replay.upcasters"},
		{"an order", "--stream orders --into redis:x --order random", "order"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, command := range []string{"run", "create"} {
				fails(t, exitUsage, c.want, append([]string{"replay", command}, strings.Fields(c.args)...)...)
			}
		})
	}
	fails(t, exitUsage, "reservoir replay run", "replay", "create", "--stream", "orders", "--into", "-")
	if n := s.admin.DBSize(t.Context()).Val(); n != keys {
		t.Errorf("%d keys in Redis, there were %d", n, keys)
	}
	s.wantNoJobs(t)
}

// wantNoJobs fails the test when anything of a job is in the bucket.
func (s *site) wantNoJobs(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.dir, "jobs"), func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return fs.SkipAll
		}
		if err == nil && !d.IsDir() {
			t.Errorf("there is %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReplayEstimate(t *testing.T) {
	s := archived(t)
	est := decode[replay.Estimate](t, works(t, "replay", "estimate", "--stream", "*", "--type", "T0", "--rate", "10", "--json"))
	if est.Total != (replay.Count{Events: 75, Precision: replay.Exact}) || est.Duration.Expected != 7500*time.Millisecond || est.Target != nil {
		t.Errorf("estimate %+v", est)
	}
	for _, command := range [][]string{{"estimate"}, {"run", "--dry-run"}, {"create", "--dry-run"}} {
		out := works(t, append(append([]string{"replay"}, command...), "--stream", "orders", "--where", "payload.n > 10", "--into", "redis:{stream}:replay")...)
		for _, want := range []string{"exactly once", "90", "tenant2", "1970-01-01", `{"n":11}`, `{"n":100}`} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %s in %s", command, want, out)
			}
		}
	}
	_, _, stderr := command(t, "replay", "estimate", "--stream", "orders", "--into", "redis:copy")
	if !strings.Contains(stderr, "archived again") {
		t.Errorf("no warning that the archiver takes the target: %s", stderr)
	}
	s.wantNoJobs(t)
}

// TestReplayInterrupted: it is paused, and goes on where it was.
func TestReplayInterrupted(t *testing.T) {
	s := archived(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var out, errs bytes.Buffer
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, Options{}, []string{"replay", "run", "--stream", "orders", "--into", "redis:copy", "--rate", "20"}, strings.NewReader(""), &out, &errs)
	}()
	s.await(t, func() bool { return s.admin.XLen(t.Context(), "copy").Val() > 0 })
	cancel(errInterrupted)
	if got := <-status; got != exitInterrupted || !strings.Contains(out.String(), "go on here: reservoir replay run ") {
		t.Fatalf("status %d: %s%s", got, out.String(), errs.String())
	}
	list := decode[replayList](t, works(t, "replay", "list", "--json"))
	if len(list.Replays) != 1 || list.Replays[0].State != jobs.Paused || list.Replays[0].Lease != nil {
		t.Fatalf("list %+v", list)
	}
	works(t, "replay", "run", list.Replays[0].ID)
	if n := s.admin.XLen(t.Context(), "copy").Val(); n != 100 {
		t.Errorf("%d entries", n)
	}
}

func (s *site) await(t *testing.T, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !reached() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come")
		}
	}
}

// TestWorker: jobs that are created run, are paused, resumed and cancelled.
func TestWorker(t *testing.T) {
	s := archived(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var out, errs bytes.Buffer
	status := make(chan int, 1)
	go func() { status <- run(ctx, Options{}, []string{"worker"}, strings.NewReader(""), &out, &errs) }()

	works(t, "replay", "create", "--stream", "orders", "--into", "redis:a", "--watch")
	if n := s.admin.XLen(t.Context(), "a").Val(); n != 100 {
		t.Errorf("%d entries", n)
	}
	create := []string{"replay", "create", "--stream", "orders", "--into", "redis:b", "--rate", "50", "--json", "--idempotency-key", "k"}
	job := decode[jobs.Job](t, works(t, create...))
	s.await(t, func() bool { return s.admin.XLen(t.Context(), "b").Val() > 0 })
	if again := decode[jobs.Job](t, works(t, create...)); again.ID != job.ID {
		t.Errorf("the same request made %s and %s", job.ID, again.ID)
	}
	works(t, "replay", "pause", job.ID, "--reason", "lunch")
	if out := works(t, "replay", "list", "--state", "paused"); !strings.Contains(out, job.ID) {
		t.Errorf("list %s", out)
	}
	fails(t, exitFailure, "cannot be retried", "replay", "retry", job.ID)
	works(t, "replay", "resume", job.ID)
	works(t, "replay", "watch", job.ID)
	if n := s.admin.XLen(t.Context(), "b").Val(); n != 100 {
		t.Errorf("%d entries", n)
	}
	job = decode[jobs.Job](t, works(t, "replay", "create", "--stream", "orders", "--into", "redis:c", "--rate", "1", "--json"))
	works(t, "replay", "cancel", job.ID)
	if status, _, stderr := command(t, "replay", "watch", job.ID); status != exitProblems {
		t.Errorf("status %d: %s", status, stderr)
	}
	cancel(errInterrupted)
	if got := <-status; got != exitOK {
		t.Errorf("worker: status %d: %s", got, errs.String())
	}
	fails(t, exitFailure, "job not found", "replay", "show", "01KAZ3Q4J5M6N7P8Q9R0S1T2V3")
	fails(t, exitUsage, "26 digits", "replay", "show", "x")
	fails(t, exitUsage, "which replay?", "replay", "watch")
}

// TestDeadLetters: listed, shown, retried, purged.
func TestDeadLetters(t *testing.T) {
	archived(t)
	var mu sync.Mutex
	heal := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var body bytes.Buffer
		if _, err := body.ReadFrom(r.Body); err != nil {
			t.Error(err)
		}
		if !heal && strings.Contains(body.String(), `{"n":1}`) || strings.Contains(body.String(), `{"n":2}`) {
			http.Error(w, "poison", http.StatusUnprocessableEntity)
		}
	}))
	defer server.Close()
	status, _, stderr := command(t, "replay", "run", "--stream", "orders", "--to", "5-1", "--into", server.URL, "--max-dead-letters", "10")
	if status != exitProblems {
		t.Fatalf("status %d: %s", status, stderr)
	}
	id := decode[replayList](t, works(t, "replay", "list", "--all", "--json")).Replays[0].ID
	letters := decode[deadLetterList](t, works(t, "replay", "dead-letters", "list", id, "--json"))
	if len(letters.DeadLetters) != 2 || letters.DeadLetters[0].ID.Ms != 1 {
		t.Fatalf("letters %+v", letters)
	}
	if out := works(t, "replay", "dead-letters", "list", id, "--limit", "1"); !strings.Contains(out, "422") || strings.Contains(out, "2-1") {
		t.Errorf("list %s", out)
	}
	if out := works(t, "replay", "dead-letters", "show", id, letters.DeadLetters[1].Key); !strings.Contains(out, `"n": 2`) {
		t.Errorf("show %s", out)
	}
	mu.Lock()
	heal = true
	mu.Unlock()
	works(t, "replay", "dead-letters", "retry", id, letters.DeadLetters[0].Key, "--run")
	left := decode[deadLetterList](t, works(t, "replay", "dead-letters", "list", id, "--json"))
	if len(left.DeadLetters) != 1 || left.DeadLetters[0].ID.Ms != 2 {
		t.Errorf("left %+v", left)
	}
	fails(t, exitUsage, "which dead letters?", "replay", "dead-letters", "purge", id)
	fails(t, exitFailure, "no such dead letter", "replay", "dead-letters", "purge", id, letters.DeadLetters[0].Key)
	if out := works(t, "replay", "dead-letters", "purge", id, "--all"); !strings.Contains(out, "purged 1 ") {
		t.Errorf("purge %s", out)
	}
	fails(t, exitUsage, "has no dead letters", "replay", "dead-letters", "retry", id)
}

// TestShownReplay: the file that the guide shows is one.
func TestShownReplay(t *testing.T) {
	page, err := os.ReadFile("../docs/replay.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(page), "```yaml\n")
	shown, _, _ = strings.Cut(shown, "```")
	spec, err := parseReplayFile([]byte(shown))
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(time.Now()); err != nil || spec.To != "2026-11-20" || spec.Failures.Retry.Initial != 200*time.Millisecond {
		t.Errorf("%+v, %v", spec, err)
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]float64{"500": 500, "500/s": 500, "30/m": 0.5, "3600/h": 1, "0.5": 0.5} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "5/d", "-1", "0"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
	if got := strings.Join([]string{grouped(1), grouped(1234), grouped(1234567)}, " "); got != "1 1,234 1,234,567" {
		t.Error(got)
	}
}

// TestReplayDisplay: what is shown while the bar is drawn waits for nothing.
func TestReplayDisplay(t *testing.T) {
	var out bytes.Buffer
	a := newApp(Options{}, nil, nil, &out, nil)
	var err error
	if a.cfg, err = config.Load(config.Sources{}); err != nil {
		t.Fatal(err)
	}
	a.errTerminal = true
	d := a.newJobDisplay()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := range uint64(50_000) {
			d.show(&jobs.Job{State: jobs.Running, Progress: jobs.Progress{Done: n, Total: 50_000, Holding: "the group is behind"}})
		}
		d.close()
	}()
	await(t, ended)
}

// TestReplayRestoresLastIncarnation: what is restored is the stream as it was last,
// without the entries that were deleted with an older one of its name.
func TestReplayRestoresLastIncarnation(t *testing.T) {
	s := archived(t)
	s.do(t, "DEL", "orders")
	for i := range 5 {
		s.do(t, "XADD", "orders", strconv.Itoa(5000+i)+"-1", "type", "Again")
	}
	works(t, "archive", "--once")
	before, info := s.entries(t, "orders"), s.admin.XInfoStream(t.Context(), "orders").Val()
	s.do(t, "DEL", "orders")
	works(t, "replay", "run", "--stream", "orders", "--into", "redis:{stream}", "--set", "ids=keep", "--set", "allow_source=true")
	got := s.admin.XInfoStream(t.Context(), "orders").Val()
	if got.LastGeneratedID != info.LastGeneratedID || got.EntriesAdded != info.EntriesAdded || got.Length != info.Length {
		t.Errorf("restored %+v, was %+v", got, info)
	}
	wantSame(t, s.entries(t, "orders"), before)
}
