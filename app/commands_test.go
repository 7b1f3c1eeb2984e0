package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// site is a Redis and a directory that the configuration names.
type site struct {
	dir    string
	server *stack.Redis
	admin  *redis.Client
	client *redisstream.Client
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), server: stacktest.Redis(t, stack.RedisOptions{})}
	t.Chdir(t.TempDir())
	t.Setenv("RESERVOIR_REDIS_URL", s.server.URL())
	t.Setenv("RESERVOIR_STORE_URL", "file://"+s.dir)
	s.admin = redis.NewClient(&redis.Options{Addr: s.server.Addr(), DisableIdentity: true})
	client, err := redisstream.Connect(t.Context(), redisstream.Config{URL: s.server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	s.client = client
	t.Cleanup(func() {
		if err := s.admin.Close(); err != nil {
			t.Error(err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *site) do(t *testing.T, args ...any) {
	t.Helper()
	if err := s.admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
}

// add adds entries with IDs of from-1 to to-1.
func (s *site) add(t *testing.T, stream string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		s.do(t, "XADD", stream, fmt.Sprintf("%d-1", n), "event_id", fmt.Sprint("e", n), "event_type", fmt.Sprint("T", n%2),
			"tenant", fmt.Sprint("tenant", n%3), "aggregate_type", "order", "aggregate_id", n%4, "payload", fmt.Sprintf(`{"n":%d}`, n))
	}
}

// entries gives what Redis holds of a stream.
func (s *site) entries(t *testing.T, stream string) []event.Event {
	t.Helper()
	var events []event.Event
	for e, err := range s.client.Scan(t.Context(), stream, event.ID{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e.Clone())
	}
	return events
}

func wantSame(t *testing.T, got, want []event.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range want {
		if !got[i].Equal(&want[i]) {
			t.Fatalf("entry %d is %s %q, want %s %q", i, got[i].ID, got[i].Fields, want[i].ID, want[i].Fields)
		}
	}
}

// works runs a command that must succeed.
func works(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	status, stdout, stderr := command(t, args...)
	if status != exitOK {
		t.Fatalf("%q: status %d: %s%s", args, status, stdout, stderr)
	}
	return stdout
}

// fails runs a command that must end with that status, one error and a remedy.
func fails(t *testing.T, status int, want string, args ...string) {
	t.Helper()
	got, stdout, stderr := command(t, args...)
	if got != status || !strings.Contains(stderr, want) {
		t.Fatalf("%q: status %d, want %d and %q:\n%s%s", args, got, status, want, stdout, stderr)
	}
	if strings.Count(stderr, "error: ") != 1 || !strings.Contains(stderr, "remedy: ") {
		t.Fatalf("%q: want one error with a remedy:\n%s", args, stderr)
	}
}

func write(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// odd adds entries that are hard to keep as they are.
func (s *site) odd(t *testing.T, stream string) {
	t.Helper()
	for _, fields := range [][]any{
		{"", ""},
		{"a", "1", "a", "2", "b", "3", "a", "1"},
		{"\xff\x00", "\x00\xfe\r\n"},
		{"payload", `{"$base64":"x"}`},
		{"payload", "{\"a\" :  [1,2]}", "event_type", "x\ny"},
		{"payload", strings.Repeat("long ", 50_000)},
		{"data", `{"id":"1","type":"t","data":{"x":1}}`},
	} {
		s.do(t, append([]any{"XADD", stream, "*"}, fields...)...)
	}
}

func TestRoundTrip(t *testing.T) {
	s := newSite(t)
	s.add(t, "orders", 1, 2500)
	s.odd(t, "orders")
	original := s.entries(t, "orders")
	works(t, "archive", "--once")

	for _, format := range []string{"jsonl", "parquet"} {
		file := write(t, works(t, "events", "--stream", "orders", "--output", "raw", "--format", format))
		works(t, "import", file, "--stream", "copy-"+format, "--keep-ids")
		wantSame(t, s.entries(t, "copy-"+format), original)
	}
	segments, err := filepath.Glob(filepath.Join(s.dir, "streams/orders/*/jsonl/*/*/*.jsonl.zst"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %q, %v", segments, err)
	}
	for _, segment := range segments {
		works(t, "import", segment, "--stream", "segments", "--keep-ids", "--force")
	}
	wantSame(t, s.entries(t, "segments"), original)
	works(t, "import", segments[0], "--stream", "anew")
	for i, e := range s.entries(t, "anew") {
		e.ID = original[i].ID
		if !e.Equal(&original[i]) {
			t.Fatalf("entry %d is %q", i, e.Fields)
		}
	}
}

// TestImportAgain: an import that keeps IDs can be run again, and never adds to
// or hides what is not its own.
func TestImportAgain(t *testing.T) {
	s := newSite(t)
	s.add(t, "orders", 1, 3000)
	original := s.entries(t, "orders")
	works(t, "archive", "--once")
	text := works(t, "events", "--stream", "orders", "--output", "raw")
	lines := strings.SplitAfter(text, "\n")
	whole := write(t, text)
	summary := func(args ...string) (got imported) {
		t.Helper()
		if err := json.Unmarshal([]byte(works(t, append(args, "--json", "--keep-ids")...)), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}

	works(t, "import", write(t, strings.Join(lines[:1234], "")), "--stream", "part", "--keep-ids")
	if got := summary("import", whole, "--stream", "part"); got.Added != 3000-1234 || got.Skipped != 1234 {
		t.Fatalf("after a part: %+v", got)
	}
	if got := summary("import", whole, "--stream", "part"); got.Added != 0 || got.Skipped != 3000 {
		t.Fatalf("again: %+v", got)
	}
	wantSame(t, s.entries(t, "part"), original)

	s.add(t, "different", 1, 1499)
	s.do(t, "XADD", "different", "1500-1", "other", "1")
	fails(t, exitFailure, "line 1500: entry 1500-1: stream \"different\" has another entry", "import", whole, "--stream", "different", "--keep-ids")
	s.add(t, "foreign", 1, 10)
	s.do(t, "XADD", "foreign", "10-5", "other", "1")
	fails(t, exitFailure, "holds 10-5, which is not imported", "import", whole, "--stream", "foreign", "--keep-ids")
	if got := summary("import", whole, "--stream", "foreign", "--force"); got.Added != 2990 {
		t.Fatalf("with force: %+v", got)
	}
	s.do(t, "XADD", "before", "0-7", "other", "1")
	fails(t, exitFailure, "stream is not empty", "import", whole, "--stream", "before", "--keep-ids")
	s.do(t, "XADD", "beyond", "5000-0", "other", "1")
	fails(t, exitFailure, "line 1: entry 1-1: cannot be added", "import", whole, "--stream", "beyond", "--keep-ids", "--force")
	for stream, length := range map[string]int64{"different": 1500, "before": 1, "beyond": 1, "foreign": 3001} {
		if n := s.admin.XLen(t.Context(), stream).Val(); n != length {
			t.Errorf("%s has %d entries, want %d", stream, n, length)
		}
	}
}

func TestImportErrors(t *testing.T) {
	s := newSite(t)
	s.do(t, "SET", "text", "x")
	good := `{"id":"1-1","fields":{"a":"1"}}` + "\n"
	for _, c := range []struct {
		name, text, want string
		status           int
		args             []string
		added            int64
	}{
		{"syntax", good + "\n" + `{"x":}`, "line 3, byte 6", exitFailure, nil, 1},
		{"syntax, keeping IDs", good + "\n" + `{"x":}`, "run the same command again", exitFailure, []string{"--keep-ids"}, 1},
		{"no ID", good + "\n\n" + `{"x":1}`, "line 4: entry has no ID", exitFailure, []string{"--keep-ids"}, 1},
		{"order", good + good, "line 2: entry 1-1: comes after 1-1", exitFailure, []string{"--keep-ids"}, 1},
		{"no fields", good + `{"id":"2-0","fields":{}}`, "line 2: entry 2-0: has no fields", exitFailure, nil, 1},
		{"not a stream", good, "not a stream", exitFailure, []string{"--stream", "text"}, 0},
		{"force alone", good, "--force goes with --keep-ids", exitUsage, []string{"--force"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream := "into " + c.name
			args := append([]string{"import", write(t, c.text), "--stream", stream}, c.args...)
			status, _, stderr := command(t, args...)
			if status != c.status || !strings.Contains(stderr, c.want) {
				t.Errorf("status %d: %s", status, stderr)
			}
			if n := s.admin.XLen(t.Context(), stream).Val(); n != c.added {
				t.Errorf("%d entries added, want %d", n, c.added)
			}
		})
	}
	fails(t, exitFailure, "no such file", "import", "nowhere.jsonl", "--stream", "x")
	fails(t, exitUsage, "into which stream", "import", "x.jsonl")
}

func TestEvents(t *testing.T) {
	s := newSite(t)
	s.add(t, "orders", 1, 20)
	s.add(t, "orders 2", 1, 2)
	works(t, "archive", "--once")
	for _, c := range []struct {
		args string
		want string // numbers of the events
	}{
		{"--stream orders --limit 3", "1 2 3"},
		{"--stream orders --from 18", "18 19 20"},
		{"--stream orders --from 3-2 --to 5-1", "4 5"},
		{"--stream orders --to 2-0", "1"},
		{"--stream orders --type T0 --tenant tenant1", "4 10 16"},
		{"--stream orders --type T? --aggregate order/3 --limit 2", "3 7"},
		{"--stream orders --event-id e7 --event-id e9", "7 9"},
		{"--stream orders --where payload.n>18", "19 20"},
		{"--stream orders* --where payload.n<2", "1 1"},
		{"--stream orders --from 2030-01-01", ""},
	} {
		for _, format := range []string{"parquet", "jsonl"} {
			t.Run(c.args+" "+format, func(t *testing.T) {
				out := works(t, append(append([]string{"events", "--format", format}, strings.Fields(c.args)...), "-o", "jsonl")...)
				var got []string
				for line := range strings.Lines(out) {
					var v struct{ Payload struct{ N int } }
					if err := json.Unmarshal([]byte(line), &v); err != nil {
						t.Fatal(err)
					}
					got = append(got, fmt.Sprint(v.Payload.N))
				}
				if strings.Join(got, " ") != c.want {
					t.Errorf("events %q, want %q", got, c.want)
				}
			})
		}
	}
	want := `{"stream":"orders","id":"7-1","time":"1970-01-01T00:00:00.007Z","event_id":"e7","type":"T1","tenant":"tenant1",` +
		`"aggregate_type":"order","aggregate_id":"3","payload":{"n":7}}` + "\n"
	if got := works(t, "events", "--stream", "orders", "--event-id", "e7"); got != want {
		t.Errorf("jsonl %s", got)
	}
	if got := works(t, "events", "--stream", "orders", "--event-id", "e7", "-o", "table"); !strings.Contains(got, "7-1  ") || !strings.Contains(got, `order/3               {"n":7}`) {
		t.Errorf("table %s", got)
	}
	_, _, stderr := command(t, "events", "--stream", "orders", "--type", "nothing", "--stats")
	if !strings.Contains(stderr, "0 of 1 segments, 1 pruned") {
		t.Errorf("stats %s", stderr)
	}
	fails(t, exitFailure, `nothing in the archive matches "ordres"`, "events", "--stream", "ordres")
	for _, args := range []string{"", "--stream x --from yesteryear", "--stream x --where )", "--stream x -o xml", "--stream x --format csv", "--stream orders* -o raw", "--stream x --from 5 --to 4"} {
		fails(t, exitUsage, "", append([]string{"events"}, strings.Fields(args)...)...)
	}
}

// TestEventsWarnOfGaps: a range in which entries were lost is not given silently.
func TestEventsWarnOfGaps(t *testing.T) {
	s := newSite(t)
	s.add(t, "orders", 1, 5)
	works(t, "archive", "--once")
	s.add(t, "orders", 6, 10)
	s.do(t, "XTRIM", "orders", "MAXLEN", 2)
	if status, stdout, _ := command(t, "archive", "--once"); status != exitProblems {
		t.Fatalf("status %d: %s", status, stdout)
	}
	if _, _, stderr := command(t, "events", "--stream", "orders"); !strings.Contains(stderr, "warning: orders: 3 entries after 5-1") {
		t.Errorf("stderr %q", stderr)
	}
	if _, _, stderr := command(t, "events", "--stream", "orders", "--to", "5-1"); stderr != "" {
		t.Errorf("a warning of what is outside of the range: %q", stderr)
	}
}

// closedPipe is what stdout is when the reader of a pipe has gone.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// TestEventsIntoHead ends quietly.
func TestEventsIntoHead(t *testing.T) {
	s := newSite(t)
	s.add(t, "orders", 1, 5)
	works(t, "archive", "--once")
	var stderr bytes.Buffer
	status := run(t.Context(), Options{}, []string{"events", "--stream", "orders"}, strings.NewReader(""), closedPipe{}, &stderr)
	if status != exitOK || stderr.Len() > 0 {
		t.Errorf("status %d: %s", status, stderr.String())
	}
}

// TestFollow: archive first, then live, while the archiver goes on.
func TestFollow(t *testing.T) {
	s := newSite(t)
	s.add(t, "orders", 1, 50)
	works(t, "archive", "--once")
	s.add(t, "orders", 51, 60)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	in, out := io.Pipe()
	var stderr bytes.Buffer
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, Options{}, []string{"events", "--stream", "orders", "--follow", "-o", "raw"}, strings.NewReader(""), out, &stderr)
		out.Close()
	}()
	seen := make(chan string)
	go func() {
		defer close(seen)
		text := make([]byte, 1<<20)
		var rest []byte
		for {
			n, err := in.Read(text)
			if err != nil {
				return
			}
			rest = append(rest, text[:n]...)
			for {
				line, after, found := bytes.Cut(rest, []byte("\n"))
				if !found {
					break
				}
				seen <- string(line)
				rest = after
			}
		}
	}()
	next := 1
	expect := func(upTo int) {
		t.Helper()
		for ; next <= upTo; next++ {
			select {
			case line := <-seen:
				if want := fmt.Sprintf(`{"id":"%d-1"`, next); !strings.HasPrefix(line, want) {
					t.Fatalf("line %s, want %s", line, want)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("event %d does not come: %s", next, stderr.String())
			}
		}
	}
	expect(60)
	s.add(t, "orders", 61, 70)
	works(t, "archive", "--once")
	s.do(t, "XTRIM", "orders", "MAXLEN", 0)
	s.add(t, "orders", 71, 80)
	expect(80)
	works(t, "archive", "--once")
	s.add(t, "orders", 81, 81)
	expect(81)
	cancel(errInterrupted)
	if got := <-status; got != exitInterrupted {
		t.Errorf("status %d: %s", got, stderr.String())
	}
	if line, more := <-seen; more {
		t.Errorf("more came: %s", line)
	}
}

func TestStreams(t *testing.T) {
	s := newSite(t)
	s.add(t, "archived", 1, 10)
	works(t, "archive", "--once")
	s.do(t, "DEL", "archived")
	s.add(t, "lagging", 1, 10)
	works(t, "archive", "--once", "--stream", "lagging")
	now := time.Now().UnixMilli()
	s.do(t, "XADD", "lagging", fmt.Sprintf("%d-1", now-60_000), "n", "11")
	s.do(t, "XADD", "lagging", fmt.Sprintf("%d-1", now), "n", "12")
	s.add(t, "new", 1, 3)
	s.add(t, "gap", 1, 10)
	works(t, "archive", "--once", "--stream", "gap")
	s.add(t, "gap", 11, 20)
	s.do(t, "XTRIM", "gap", "MAXLEN", 4)
	status := func(args ...string) map[string]archiver.Status {
		t.Helper()
		var list streamList
		if err := json.Unmarshal([]byte(works(t, append([]string{"streams", "--json"}, args...)...)), &list); err != nil {
			t.Fatal(err)
		}
		streams := map[string]archiver.Status{}
		for _, st := range list.Streams {
			streams[st.Stream] = st
		}
		return streams
	}

	all := status()
	if st := all["archived"]; len(all) != 4 || st.Live != nil || st.Events != 10 || st.Head.Ms != 10 || st.Segments != 2 {
		t.Errorf("archived: %+v", st)
	}
	if st := all["lagging"]; st.Live == nil || st.Live.Lag != 2 || st.Live.LagSeconds < 60 || st.Live.LagSeconds > 80 || st.Live.Length != 12 || st.Live.Unarchived != 0 {
		t.Errorf("lagging: %+v %+v", st, st.Live)
	}
	if st := all["new"]; st.Archived || st.Live.Lag != 3 {
		t.Errorf("new: %+v", st)
	}
	if st := all["gap"]; st.Live.Lag != 10 || st.Live.Unarchived != 6 || st.Gaps != 0 {
		t.Errorf("gap, before it is recorded: %+v %+v", st, st.Live)
	}
	if got := works(t, "streams"); !strings.Contains(got, "LOST: gap: 6 entries beyond the head are gone") {
		t.Errorf("streams: %s", got)
	}
	if status, _, _ := command(t, "archive", "--once"); status != exitProblems {
		t.Error("a loss went without notice")
	}
	if st := status("--gaps", "g*")["gap"]; st.Lost != 6 || st.Gaps != 1 || len(st.GapList) != 1 || !st.GapList[0].Exact || st.GapList[0].After.Ms != 10 || st.Live.Lag != 0 {
		t.Errorf("gap: %+v", st)
	}
	if got := works(t, "streams", "--gaps"); !strings.Contains(got, "trimmed") || !strings.Contains(got, "10-1") {
		t.Errorf("gaps: %s", got)
	}

	s.do(t, "DEL", "lagging")
	s.do(t, "XADD", "lagging", "4-4", "a", "b")
	if st := status()["lagging"]; !st.Live.Replaced || st.Live.Lag != 1 {
		t.Errorf("replaced: %+v %+v", st, st.Live)
	}

	s.do(t, "SET", "archived", "a text")
	if code, got, _ := command(t, "streams", "archived"); code != exitProblems || !strings.Contains(got, "FAILED: archived: ") || !strings.Contains(got, "not a stream") {
		t.Errorf("status %d: %s", code, got)
	}
	if off := status("--offline"); len(off) != 4 || off["gap"].Live != nil || off["gap"].Lost != 6 {
		t.Errorf("offline: %+v", off)
	}
	t.Setenv("RESERVOIR_REDIS_URL", "redis://127.0.0.1:1")
	code, got, stderr := command(t, "streams")
	if code != exitOK || !strings.Contains(stderr, "redis cannot be reached") || strings.Contains(got, "LAG") || !strings.Contains(got, "lagging") {
		t.Errorf("without Redis: status %d: %s%s", code, got, stderr)
	}
}

// TestManyStreams: more than are looked at together, in order.
func TestManyStreams(t *testing.T) {
	s := newSite(t)
	pipe := s.admin.Pipeline()
	for n := range 1203 {
		pipe.Do(t.Context(), "XADD", fmt.Sprintf("s%04d", n), "1-1", "a", "b")
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	var list streamList
	if err := json.Unmarshal([]byte(works(t, "streams", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	for n := range 1203 {
		if n >= len(list.Streams) || list.Streams[n].Stream != fmt.Sprintf("s%04d", n) || list.Streams[n].Live.Lag != 1 {
			t.Fatalf("stream %d of %d", n, len(list.Streams))
		}
	}
}
