package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
)

// whole is all that Redis tells about a stream.
type whole struct {
	entries                []event.Event
	length, added          int64
	last, deleted, earlier string
}

func wholeStream(t *testing.T, c *redis.Client, stream string) whole {
	t.Helper()
	info, err := c.XInfoStream(t.Context(), stream).Result()
	if err != nil {
		t.Fatalf("%q: %v", stream, err)
	}
	w := whole{length: info.Length, added: info.EntriesAdded, last: info.LastGeneratedID, deleted: info.MaxDeletedEntryID, earlier: info.RecordedFirstEntryID}
	readStream(t, c, stream, func(e *event.Event) { w.entries = append(w.entries, *e) })
	return w
}

// TestReplayRestores archives streams, deletes them, and replays them into
// themselves with their IDs: they are what they were. Entries that were deleted
// or trimmed before they were archived stay away, and are counted all the same.
func TestReplayRestores(t *testing.T) {
	t.Parallel()
	seed := newSeed(t)
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	admin := w.admin(t)
	for _, p := range newProducers(t, w.redis.URL(), rec, seed) { // the shop's, and odd ones
		for range 20 {
			if err := p.send(t.Context(), p.batch(300)); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(t, w, rec, "trimmed", 3000)
	fill(t, w, rec, "deleted within", 3000)
	fill(t, w, rec, "last deleted", 3000)
	middle, last := rec.streams["deleted within"][1500].ID, rec.streams["last deleted"][2999].ID
	for _, args := range [][]any{
		{"XTRIM", "trimmed", "MAXLEN", "1000"},
		{"XDEL", "deleted within", middle.String()},
		{"XDEL", "last deleted", last.String()},
	} {
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	reservoir(t, w.env, "archive", "--once") // it fails, since entries were lost
	before := map[string]whole{}
	for stream := range rec.streams {
		before[stream] = wholeStream(t, admin, stream)
	}
	if err := admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	restore := []string{"replay", "run", "--stream", "*", "--into", "redis:{stream}", "--set", "ids=keep", "--set", "allow_source=true"}
	mustReservoir(t, w.with(workerEnv), restore...)
	for stream := range rec.streams {
		checkRestored(t, stream, wholeStream(t, admin, stream), before[stream])
	}
	wantNothingLeft(t, admin)

	jobs := w.jobCount(t)
	r := reservoir(t, w.with(workerEnv), "replay", "run", "--stream", "trimmed", "--into", "redis:{stream}", "--set", "ids=keep", "--set", "allow_source=true")
	wantOneError(t, r, 2, "exists, with 1000 entries", "fresh stream only", "remedy: Delete the stream")
	if got := w.jobCount(t); got != jobs {
		t.Errorf("the refused replay made %d jobs", got-jobs)
	}
}

func checkRestored(t *testing.T, stream string, got, want whole) {
	t.Helper()
	if !slices.EqualFunc(got.entries, want.entries, func(a, b event.Event) bool { return a.Equal(&b) }) {
		t.Errorf("%q: %d entries were restored, and are not the %d that there were", stream, len(got.entries), len(want.entries))
	}
	// The highest ID that was deleted is not in the archive.
	got.entries, want.entries, got.deleted, want.deleted = nil, nil, "", ""
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
		t.Errorf("%q was restored as\n%s, and was\n%s", stream, a, b)
	}
}

// TestReplayRestoresUnderTheArchiver restores a stream in its own place while the
// archiver looks, and kills the replay in the midst of it: the archiver sees no
// part of the stream, and archives nothing twice. What is added afterwards is
// archived on.
func TestReplayRestoresUnderTheArchiver(t *testing.T) {
	t.Parallel()
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	admin := w.admin(t)
	archiver := start(t, w.with(busyEnv), "archive")
	fill(t, w, rec, "orders", 3000)
	w.awaitLog(t, "orders", "to be archived", func(l *archive.Log) bool { return l.Head() == rec.streams["orders"][2999].ID })
	before := wholeStream(t, admin, "orders")
	if err := admin.Del(t.Context(), "orders").Err(); err != nil {
		t.Fatal(err)
	}
	w.awaitLog(t, "orders", "to be gone", func(l *archive.Log) bool {
		last := l.Last()
		return last.Gap != nil && last.Gap.Cause == archive.CauseRemoved
	})
	env := w.with(workerEnv)
	first := start(t, env, "replay", "run", "--stream", "orders", "--into", "redis:orders", "--set", "ids=keep", "--set", "allow_source=true", "--rate", "1500")
	var stage string
	deadline := time.Now().Add(30 * time.Second)
	for stage == "" || length(t, admin, stage) < 500 {
		if time.Now().After(deadline) || !first.running() {
			t.Fatalf("the replay restores nothing:\n%s", tail(first.output()))
		}
		if keys := admin.Keys(t.Context(), "reservoir:restoring:*").Val(); len(keys) == 1 {
			stage = keys[0]
		}
		if admin.Exists(t.Context(), "orders").Val() != 0 {
			t.Fatal("a part of the stream is there")
		}
		pause(t, 5*time.Millisecond, nil)
	}
	first.kill(t)
	var id string
	for job, err := range w.jobStore(t).List(t.Context(), jobs.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		id = job.ID
	}
	mustReservoir(t, env, "replay", "run", id)
	checkRestored(t, "orders", wholeStream(t, admin, "orders"), before)
	wantNothingLeft(t, admin)

	fill(t, w, rec, "orders", 500)
	w.awaitLog(t, "orders", "to go on", func(l *archive.Log) bool { return l.Head() == rec.streams["orders"][3499].ID })
	archiver.kill(t)
	plan, err := w.archive(t).Plan(t.Context(), archive.PlanSpec{Stream: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Views) != 1 || plan.Totals.Events != 3500 || plan.Totals.Lost != 0 {
		t.Errorf("%d incarnations, %d events, %d lost", len(plan.Views), plan.Totals.Events, plan.Totals.Lost)
	}
	i := 0
	for e, err := range plan.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if i == len(rec.streams["orders"]) || !e.Equal(&rec.streams["orders"][i]) {
			t.Fatalf("event %d of the archive is %s", i, e.ID)
		}
		i++
	}
	for stream, err := range w.archive(t).Streams(t.Context()) {
		if err != nil || stream != "orders" {
			t.Errorf("%q is archived, %v", stream, err)
		}
	}
	mustReservoir(t, w.env, "verify")
}

// awaitLog waits until the log of a stream is as it should be.
func (w *world) awaitLog(t *testing.T, stream, what string, is func(*archive.Log) bool) {
	t.Helper()
	arch, deadline := w.archive(t), time.Now().Add(time.Minute)
	for {
		log, err := arch.Log(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if is(log) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q was %s, and is not: the head is %s", stream, what, log.Head())
		}
		pause(t, 20*time.Millisecond, nil)
	}
}

// TestReplayRestoresAfterAFailover restores a stream that once came back older, and
// went on: it is what Redis has.
func TestReplayRestoresAfterAFailover(t *testing.T) {
	t.Parallel()
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	admin := w.admin(t)
	fill(t, w, rec, "orders", 100)
	mustReservoir(t, w.env, "archive", "--once")
	if err := admin.Del(t.Context(), "orders").Err(); err != nil {
		t.Fatal(err)
	}
	again := newRecord()
	fill(t, w, again, "orders", 60)
	for i := range 5 {
		args := []any{"XADD", "orders", fmt.Sprintf("%d-7", 1_790_000_000_070+i), "n", fmt.Sprint("other ", i)}
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	reservoir(t, w.env, "archive", "--once") // it says that another history came
	before := wholeStream(t, admin, "orders")
	restore := []string{"replay", "run", "--stream", "orders", "--into", "redis:{stream}-restored", "--set", "ids=keep"}
	r := mustReservoir(t, w.with(workerEnv), restore...)
	if !strings.Contains(r.stderr, "went back to an older state") {
		t.Errorf("no warning: %s", r.stderr)
	}
	checkRestored(t, "orders", wholeStream(t, admin, "orders-restored"), before)

	// So it is with raw lines, which do not say of which incarnation they are.
	raw := []string{"events", "--stream", "orders", "--output", "raw"}
	wantOneError(t, reservoir(t, w.env, raw...), 2, "\"orders\" has 2: their IDs", "--incarnation last")
	wantOneError(t, reservoir(t, w.env, append(raw, "--incarnation", "7")...), 2, "no incarnation 7", "reservoir streams")
	if r := mustReservoir(t, w.env, append(raw, "--incarnation", "2")...); strings.Count(r.stdout, "\n") != 5 {
		t.Errorf("the second incarnation is\n%s", r.stdout)
	}
	file := filepath.Join(t.TempDir(), "orders.jsonl")
	if err := os.WriteFile(file, []byte(mustReservoir(t, w.env, append(raw, "--incarnation", "last")...).stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	mustReservoir(t, w.env, "import", file, "--stream", "orders-imported", "--keep-ids")
	got, want := wholeStream(t, admin, "orders-imported").entries, before.entries
	if !slices.EqualFunc(got, want, func(a, b event.Event) bool { return a.Equal(&b) }) {
		t.Errorf("%d entries were imported, and are not the %d that there are", len(got), len(want))
	}
}

// TestReplayKnowsItsSourceByURL: a stream is not replayed into itself, by whatever
// name its Redis goes.
func TestReplayKnowsItsSourceByURL(t *testing.T) {
	t.Parallel()
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	admin := w.admin(t)
	fill(t, w, rec, "orders", 100)
	mustReservoir(t, w.env, "archive", "--once")
	env := w.with(workerEnv, []string{"RESERVOIR_REPLAY_ALLOW_HOSTS=*", "RESERVOIR_SINK_PASSWORD=hunter2"})
	_, port, err := net.SplitHostPort(w.redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{w.redis.URL() + "/0", "redis://localhost:" + port} {
		for _, command := range []string{"run", "create", "estimate"} {
			r := reservoir(t, env, "replay", command, "--stream", "orders", "--into", url)
			wantOneError(t, r, 2, "is a stream that is replayed", "remedy: Give the option stream")
		}
	}
	gone := env
	gone = append(gone[:len(gone):len(gone)], "RESERVOIR_REDIS_URL=redis://127.0.0.1:1/0")
	r := reservoir(t, gone, "replay", "run", "--stream", "orders", "--into", w.redis.URL())
	wantOneError(t, r, 2, "has the name of a stream that is replayed", "allow_source")
	if n := length(t, admin, "orders"); n != 100 {
		t.Errorf("the stream has %d entries", n)
	}
	mustReservoir(t, gone, "replay", "run", "--stream", "orders", "--into", w.redis.URL(), "--set", "stream={stream}:copy")
	if n := length(t, admin, "orders:copy"); n != 100 {
		t.Errorf("the copy has %d entries", n)
	}
	r = reservoir(t, env, "replay", "create", "--stream", "orders", "--into", "redis://bob:hunter2@127.0.0.1:"+port, "--set", "stream=x")
	wantOneError(t, r, 2, "holds a password", "${RESERVOIR_SINK_")
	if strings.Contains(r.stdout+r.stderr, "hunter2") {
		t.Errorf("the password is shown: %s", r.stderr)
	}
}
