package demo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/demo"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
)

// build builds reservoir, once.
var build = sync.OnceValues(func() (path string, err error) {
	dir, err := os.MkdirTemp("", "reservoir-test-")
	path = filepath.Join(dir, "reservoir")
	if err != nil {
		return path, err
	}
	cmd := exec.Command("go", "build", "-o", path, "../../cmd/reservoir")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return path, fmt.Errorf("build reservoir: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if !testing.Short() {
			path, err := build()
			if err := errors.Join(err, os.RemoveAll(filepath.Dir(path))); err != nil {
				fmt.Fprintln(os.Stderr, err)
				status = 1
			}
		}
		os.Exit(status)
	}))
}

func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a server: run without -short")
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a demo to its end, and closes it.
func run(t *testing.T, opts demo.Options) (demo.Result, *demo.Demo, string) {
	t.Helper()
	var story, tables []string // which are told at once
	opts.Show = func(n demo.Notice) {
		name := strings.TrimPrefix(fmt.Sprintf("%T", n), "demo.")
		switch n.(type) {
		case demo.Progress, demo.Replayed:
		case demo.Building, demo.Built, demo.Noticed, demo.Corrected, demo.Compared, demo.Swapped, demo.RolledBack, demo.RolledForth:
			tables = append(tables, name)
		default:
			story = append(story, name)
		}
	}
	d, err := demo.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	result, err := d.Run(t.Context())
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range result.Problems {
		t.Error(p)
	}
	if want := "Building Built Noticed Corrected Compared Swapped RolledBack RolledForth"; result.Tables != nil && strings.Join(tables, " ") != want {
		t.Errorf("the tables' story %q, want %q", tables, want)
	}
	return result, d, strings.Join(story, " ")
}

func TestShop(t *testing.T) {
	opts := demo.Options{Program: program(t), Dir: filepath.Join(t.TempDir(), "demo"), Duration: 4 * time.Second, Rate: 500}
	result, d, story := run(t, opts)
	if want := "Ready Killed Trimmed Restarted Published Drained Replaying"; story != want {
		t.Errorf("story %q, want %q", story, want)
	}
	total := result.Total()
	if total.Published != 2000 || total.Archived+total.Lost != 2000 || total.Lost == 0 || len(total.Gaps) != 1 || result.Kills != 1 {
		t.Errorf("total %+v, %d kills", total, result.Kills)
	}
	replayed(t, result, "shop:payments", "acme", "")
	if b := result.Tables; b == nil || b.Orders == 0 || b.Paid.Orders == 0 || b.Spans < b.Steps || b.Steps < b.Orders || b.Asked == 0 {
		t.Errorf("tables %+v", b)
	}
	// With the servers gone, the configuration names the files that stay.
	out, err := exec.CommandContext(t.Context(), opts.Program, "verify", "--config", d.ConfigFile()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("%d events", total.Archived)) {
		t.Errorf("verify afterwards: %v: %s", err, out)
	}
	if _, err := demo.Start(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a directory that is in use: %v", err)
	}
}

// replayed fails unless what was selected of a stream was replayed, all of it.
func replayed(t *testing.T, result demo.Result, stream, tenant, eventType string) {
	t.Helper()
	r := result.Replay
	if r == nil {
		t.Fatalf("nothing was replayed: %s", result.NoReplay)
	}
	if r.Stream != stream || r.Tenant != tenant || r.Type != eventType || r.Target != "replay:"+stream {
		t.Errorf("replayed tenant %q, type %q of %s into %s", r.Tenant, r.Type, r.Stream, r.Target)
	}
	if p := r.Job.Progress; r.Archived == 0 || r.InTarget != r.Archived || p.Selected != r.Archived || r.Job.State != jobs.Succeeded {
		t.Errorf("the archive has %d, %d were selected, the target has %d; the replay %s", r.Archived, p.Selected, r.InTarget, r.Job.State)
	}
}

// TestProblemsShow: an archive that lost an event behind the demo's back does not pass.
func TestProblemsShow(t *testing.T) {
	opts := demo.Options{Program: program(t), Dir: t.TempDir(), Duration: time.Second, Rate: 500}
	var d *demo.Demo
	opts.Show = func(n demo.Notice) {
		if _, ok := n.(demo.Drained); ok {
			damage(t, d.ArchiveDir())
		}
	}
	d, err := demo.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if result, err := d.Run(t.Context()); err == nil && len(result.Problems) == 0 {
		t.Error("a segment was cut, and nobody noticed")
	} else if result.Replay != nil {
		t.Error("a damaged archive was replayed")
	}
}

// damage cuts one segment short.
func damage(t *testing.T, dir string) {
	segments, err := filepath.Glob(filepath.Join(dir, "streams", "*", "*", "jsonl", "*", "*", "*.zst"))
	if err != nil || len(segments) == 0 {
		t.Errorf("no segments in %s: %v", dir, err)
		return
	}
	if err := os.Truncate(segments[0], 100); err != nil {
		t.Error(err)
	}
}

// write writes lines into a file and returns its path.
func write(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInput(t *testing.T) {
	exact := string(jsonl.AppendLine(nil, &event.Event{ID: event.ID{Ms: 5}, Fields: []event.Field{
		{Name: []byte("topic"), Value: []byte("b")}, {Name: []byte("x"), Value: []byte("\xff\x00")}, {Name: []byte("x")},
	}}))
	input := write(t, "mine.2026.jsonl",
		`{"topic":"a","n":1,"nested":{"x":[1,2]}}`, `{"topic":"b","text":"ümlaut"}`, strings.TrimSuffix(exact, "\n"))
	opts := demo.Options{Program: program(t), Input: input}
	for name, c := range map[string]struct {
		set  func(*demo.Options)
		want map[string]uint64
	}{
		"stream of the file's name": {func(*demo.Options) {}, map[string]uint64{"mine": 3}},
		"stream by name":            {func(o *demo.Options) { o.Stream = "my stream" }, map[string]uint64{"my stream": 3}},
		"stream by field":           {func(o *demo.Options) { o.StreamField = "topic" }, map[string]uint64{"a": 1, "b": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			opts := opts
			opts.Dir = t.TempDir()
			c.set(&opts)
			result, _, story := run(t, opts)
			if story != "Ready Published Drained" {
				t.Errorf("story %q: a short file gives no time for more, and nothing to select by", story)
			}
			if result.Replay != nil || !strings.Contains(result.NoReplay, "no type and no tenant") {
				t.Errorf("replayed %+v, or not because %q", result.Replay, result.NoReplay)
			}
			for _, s := range result.Streams {
				if c.want[s.Name] != s.Archived {
					t.Errorf("%s: %d events, want %v", s.Name, s.Archived, c.want)
				}
			}
			if len(result.Streams) != len(c.want) {
				t.Errorf("streams %+v, want %v", result.Streams, c.want)
			}
		})
	}
}

func TestLongInputIsInterrupted(t *testing.T) {
	var lines []string
	for i := range 2000 {
		lines = append(lines, fmt.Sprintf(`{"type":"Counted","n":%d}`, i))
	}
	opts := demo.Options{Program: program(t), Dir: t.TempDir(), Input: write(t, "n.jsonl", lines...), Duration: 4 * time.Second}
	result, _, story := run(t, opts)
	if total := result.Total(); story != "Ready Killed Restarted Published Drained Replaying" || total.Archived != 2000 || total.Lost != 0 {
		t.Errorf("story %q, total %+v", story, total)
	}
	replayed(t, result, "n", "", "Counted")
}

// TestErrorsBeforeAnythingStarts: what is wrong with the input is said with its line.
func TestErrorsBeforeAnythingStarts(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	good := `{"topic":"a"}`
	for name, c := range map[string]struct {
		opts demo.Options
		want string
	}{
		"no JSON":         {demo.Options{Input: write(t, "x", good, "", `{"a":`)}, "line 3"},
		"no object":       {demo.Options{Input: write(t, "x", good, `17`)}, "line 2"},
		"no fields":       {demo.Options{Input: write(t, "x", good, `{}`)}, "line 2: the event has no fields"},
		"no stream":       {demo.Options{Input: write(t, "x", good, `{"n":1}`), StreamField: "topic"}, `line 2: the event has no field "topic"`},
		"no events":       {demo.Options{Input: write(t, "x")}, "holds no events"},
		"no file":         {demo.Options{Input: "nowhere.jsonl"}, "no such file"},
		"a directory":     {demo.Options{Input: temp}, "not a file"},
		"two streams":     {demo.Options{Input: "x", Stream: "a", StreamField: "b"}, "not both"},
		"shop and stream": {demo.Options{Stream: "a"}, "goes with an input"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := demo.Start(t.Context(), c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	left, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if strings.HasPrefix(e.Name(), "reservoir-demo-") {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestInterruptionCleansUp(t *testing.T) {
	path := program(t)
	for name, c := range map[string]struct {
		own, keep, replay bool
		left              int // files in the directory; -1: not even that
	}{
		"own directory":         {true, false, false, -1},
		"directory of the user": {false, false, false, 0},
		"keep":                  {true, true, false, 6},
		"while it replays":      {true, false, true, -1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.own {
				dir = filepath.Join(dir, "new")
			}
			ctx, cancel := context.WithCancel(t.Context())
			opts := demo.Options{Program: path, Dir: dir, KeepDir: c.keep, Show: func(n demo.Notice) {
				switch n := n.(type) {
				case demo.Progress:
					if n.Archived > 0 && !c.replay {
						cancel()
					}
				case demo.Replayed:
					cancel()
				}
			}}
			if c.replay {
				opts.Duration, opts.Rate = time.Second, 500
			}
			d, err := demo.Start(ctx, opts)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Run(ctx); err == nil || ctx.Err() == nil {
				t.Errorf("it was not interrupted: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			entries, err := os.ReadDir(dir)
			if c.left < 0 && !os.IsNotExist(err) || c.left >= 0 && len(entries) != c.left {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

// TestWithoutServers: without Redis there is no demo, without S3 there is.
func TestWithoutServers(t *testing.T) {
	path := program(t)
	redis, err := stack.Binary("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	t.Chdir(t.TempDir()) // no cache of tools here
	_, err = demo.Start(t.Context(), demo.Options{Program: path})
	if err == nil || !strings.Contains(remedy.Of(err), "apt install redis-server") {
		t.Errorf("without Redis: %v, remedy %q", err, remedy.Of(err))
	}
	t.Setenv("RESERVOIR_TOOL_REDIS_SERVER", redis)
	result, d, _ := run(t, demo.Options{Program: path, Dir: t.TempDir(), Duration: time.Second, Rate: 200})
	if result.Total().Archived != 200 || !strings.HasSuffix(d.ArchiveDir(), "archive") {
		t.Errorf("without S3: %+v in %s", result.Total(), d.ArchiveDir())
	}
}
