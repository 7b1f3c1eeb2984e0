package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// workerEnv makes workers find jobs quickly, and say so.
var workerEnv = []string{
	"RESERVOIR_JOBS_LEASE_TTL=4s",
	"RESERVOIR_JOBS_POLL=50ms",
	"RESERVOIR_LOG_LEVEL=debug",
	"RESERVOIR_LOG_FORMAT=json",
}

// hastyEnv makes them lose jobs quickly too: even without a reason, on a machine
// that is busy.
var hastyEnv = append([]string{"RESERVOIR_JOBS_LEASE_TTL=500ms"}, workerEnv[1:]...)

// What workers log.
const (
	working   = "working"
	tookJob   = "took a job"
	leftJob   = "left a job"
	lostJob   = "lost a job"
	gaveBack  = "stopped; jobs that ran are given back"
	goingBack = "going back"
)

// lighter is n, or a part of it with the race detector, which makes the program
// several times slower; n again in the long run.
func lighter(n, part int) int {
	if raceDetector && !*long {
		return n / part
	}
	return n
}

// sell fills the shop's streams until n of their events are wanted, several of
// them in the same millisecond, and archives them. It gives the events that are
// wanted.
func sell(t *testing.T, w *world, n int, wanted func(*event.Event) bool) map[string][]event.Event {
	t.Helper()
	rec := newRecord()
	s := shop.New(shop.Options{Seed: 7, Start: time.UnixMilli(1_790_000_000_000)})
	p := newProducers(t, w.redis.URL(), rec, 1)[0]
	out := map[string][]event.Event{}
	var batch []entry
	for i, left := 0, n; left > 0; i++ {
		stream, e := s.Next()
		e.ID = event.ID{Ms: uint64(1_790_000_000_000 + i/5), Seq: uint64(i % 5)}
		batch = append(batch, entry{stream, e})
		if wanted == nil || wanted(&e) {
			out[stream] = append(out[stream], e)
			left--
		}
		if len(batch) == 1000 || left == 0 {
			if err := p.send(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	mustReservoir(t, w.env, "archive", "--once")
	return out
}

// field is the value of an event's first field of that name.
func field(e *event.Event, name string) string {
	for _, f := range e.Fields {
		if string(f.Name) == name {
			return string(f.Value)
		}
	}
	return ""
}

// jobStore reads the jobs from this process, by way of nothing that may fail on
// purpose.
func (w *world) jobStore(t *testing.T) *jobs.Store {
	t.Helper()
	store, err := objectstore.Open(t.Context(), w.store)
	if err != nil {
		t.Fatal(err)
	}
	return jobs.NewStore(store, jobs.StoreOptions{})
}

// job reads a job.
func (w *world) job(t *testing.T, id string) *jobs.Job {
	t.Helper()
	job, err := w.jobStore(t).Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// jobCount is how many jobs there are, ended ones too.
func (w *world) jobCount(t *testing.T) int {
	t.Helper()
	n := 0
	for _, err := range w.jobStore(t).List(t.Context(), jobs.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// create makes a replay by the command line, and gives its ID.
func (w *world) create(t *testing.T, args ...string) string {
	t.Helper()
	r := mustReservoir(t, w.with(workerEnv), append([]string{"replay", "create", "--json"}, args...)...)
	var job jobs.Job
	if err := json.Unmarshal([]byte(r.stdout), &job); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	return job.ID
}

// await waits until a job is as it should be.
func (w *world) await(t *testing.T, id string, limit time.Duration, what string, is func(*jobs.Job) bool) *jobs.Job {
	t.Helper()
	store, deadline := w.jobStore(t), time.Now().Add(limit)
	for {
		job, err := store.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if is(job) {
			return job
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v the replay was not %s:\n%s", limit, what, describe(job))
		}
		pause(t, 20*time.Millisecond, nil)
	}
}

// awaitState waits until a job is in a state, and no worker has it.
func (w *world) awaitState(t *testing.T, id string, state jobs.State, limit time.Duration) *jobs.Job {
	t.Helper()
	return w.await(t, id, limit, string(state), func(j *jobs.Job) bool {
		if j.State != state && j.State.Ended() {
			t.Fatalf("the replay ended, and was to be %s:\n%s", state, describe(j))
		}
		return j.State == state && j.Lease == nil
	})
}

func describe(j *jobs.Job) string {
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// mustLog wants the job's history to tell of something.
func mustLog(t *testing.T, j *jobs.Job, text string) {
	t.Helper()
	for _, l := range j.Log {
		if strings.Contains(l.Message, text) {
			return
		}
	}
	t.Errorf("the history of the replay does not say %q:\n%s", text, describe(j))
}

// crew is some workers that share the work.
type crew struct {
	env     []string
	workers []*daemon
	taken   int // how often a worker took a job, in lives that are over
}

// newCrew starts workers.
func newCrew(t *testing.T, env []string, n int) *crew {
	t.Helper()
	c := &crew{env: env}
	for range n {
		c.workers = append(c.workers, start(t, env, "worker"))
	}
	return c
}

// restart kills a worker and starts another one in its place.
func (c *crew) restart(t *testing.T, i int) {
	t.Helper()
	if !c.workers[i].running() {
		t.Fatalf("a worker ended by itself, with status %d:\n%s", c.workers[i].wait(t, 0), tail(c.workers[i].output()))
	}
	c.workers[i].kill(t)
	c.taken += c.workers[i].said(tookJob)
	c.workers[i] = start(t, c.env, "worker")
}

// calm kills all workers, and starts others that keep their jobs.
func (c *crew) calm(t *testing.T, env []string) {
	t.Helper()
	c.env = env
	for i := range c.workers {
		c.restart(t, i)
	}
}

// takes is how often a worker took a job.
func (c *crew) takes() int {
	n := c.taken
	for _, d := range c.workers {
		n += d.said(tookJob)
	}
	return n
}

// has reports whether a worker believes that it has a job.
func has(d *daemon) bool { return d.said(tookJob) > d.said(leftJob)+d.said(lostJob) }

// holder waits until one of the workers has a job, and gives its index. except
// is one that does not count.
func (c *crew) holder(t *testing.T, except int) int {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		for i, d := range c.workers {
			if i != except && has(d) {
				return i
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no worker took the job:\n%s", tail(c.workers[0].output()))
		}
		pause(t, 5*time.Millisecond, nil)
	}
}

// stream reads a stream page by page, and gives the entries as they are.
func readStream(t *testing.T, c *redis.Client, stream string, take func(*event.Event)) {
	t.Helper()
	const page = 2000
	for from := "-"; ; {
		reply, err := c.Do(t.Context(), "XRANGE", stream, from, "+", "COUNT", page).Slice()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reply {
			e := parseEntry(t, r)
			from = "(" + e.ID.String()
			take(e)
		}
		if len(reply) < page {
			return
		}
	}
}

func parseEntry(t *testing.T, reply any) *event.Event {
	t.Helper()
	pair, ok := reply.([]any)
	if !ok || len(pair) != 2 {
		t.Fatalf("%v is no entry", reply)
	}
	id, err := event.ParseID(fmt.Sprint(pair[0]))
	if err != nil {
		t.Fatal(err)
	}
	e := &event.Event{ID: id}
	texts, ok := pair[1].([]any)
	if !ok {
		t.Fatalf("entry %s has no fields: %v", id, pair[1])
	}
	for i := 0; i+1 < len(texts); i += 2 {
		e.Fields = append(e.Fields, event.Field{Name: fmt.Append(nil, texts[i]), Value: fmt.Append(nil, texts[i+1])})
	}
	return e
}

// checkReplayed holds a target stream against what was to be sent: each event
// once, byte for byte, with where it is from, in the order of its own stream and
// of time over all streams. Nothing else was ever added, and nothing is left for
// good of the replay in Redis.
func checkReplayed(t *testing.T, c *redis.Client, target, job string, want map[string][]event.Event) {
	t.Helper()
	next, total, latest := map[string]int{}, 0, uint64(0)
	readStream(t, c, target, func(e *event.Event) {
		n := len(e.Fields) - 3
		if n < 0 || string(e.Fields[n].Name) != "reservoir_replay" || string(e.Fields[n].Value) != job ||
			string(e.Fields[n+1].Name) != "reservoir_stream" || string(e.Fields[n+2].Name) != "reservoir_id" {
			t.Fatalf("entry %s does not say where it is from: %q", e.ID, e.Fields)
		}
		stream, from := string(e.Fields[n+1].Value), string(e.Fields[n+2].Value)
		if next[stream] >= len(want[stream]) {
			t.Fatalf("entry %s of %q is more than was to be replayed: %s", e.ID, stream, from)
		}
		w := want[stream][next[stream]]
		next[stream]++
		total++
		if got := (event.Event{ID: w.ID, Fields: e.Fields[:n]}); from != w.ID.String() || !got.Equal(&w) {
			t.Fatalf("entry %s is event %s of %q:\n%q, want event %s\n%q", e.ID, from, stream, got.Fields, w.ID, w.Fields)
		}
		if w.ID.Ms < latest {
			t.Fatalf("event %s of %q comes after one of %d: streams are not merged by time", w.ID, stream, latest)
		}
		latest = w.ID.Ms
	})
	for stream, events := range want {
		if next[stream] != len(events) {
			t.Errorf("%d events of %q were replayed, want %d", next[stream], stream, len(events))
		}
	}
	if info := c.XInfoStream(t.Context(), target).Val(); info.EntriesAdded != int64(total) || info.Length != int64(total) {
		t.Errorf("%d entries were ever added to %q and it has %d, want %d", info.EntriesAdded, target, info.Length, total)
	}
	wantNothingLeft(t, c)
}

// wantNothingLeft wants every checkpoint in Redis to expire.
func wantNothingLeft(t *testing.T, c *redis.Client) {
	t.Helper()
	for _, key := range c.Keys(t.Context(), "reservoir:*").Val() {
		if left := c.PTTL(t.Context(), key).Val(); left <= 0 {
			t.Errorf("the replay left %q for good", key)
		}
	}
}

// length is how many entries a stream has.
func length(t *testing.T, c *redis.Client, stream string) int64 {
	t.Helper()
	n, err := c.XLen(t.Context(), stream).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// awaitLength waits until a stream has so many entries.
func awaitLength(t *testing.T, c *redis.Client, stream string, n int64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for length(t, c, stream) < n {
		if time.Now().After(deadline) {
			t.Fatalf("stream %q has %d entries, want %d", stream, length(t, c, stream), n)
		}
		pause(t, 5*time.Millisecond, nil)
	}
}

// moment is a random time of up to most.
func moment(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(most)))
}
