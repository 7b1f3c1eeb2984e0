package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
)

// patientEnv never rolls a segment before its stream's end.
var patientEnv = []string{
	"RESERVOIR_ARCHIVE_ROLL_AGE=1h",
	"RESERVOIR_ARCHIVE_POLL_INTERVAL=10ms",
	"RESERVOIR_ARCHIVE_POLL_MAX_INTERVAL=50ms",
	"RESERVOIR_LOG_LEVEL=debug",
	"RESERVOIR_LOG_FORMAT=json",
}

const stopped = "stopped; everything in hand is committed"

// fill adds n entries to a stream, one millisecond after the other.
func fill(t *testing.T, w *world, rec *record, stream string, n int) {
	t.Helper()
	p := newProducers(t, w.redis.URL(), rec, 1)[0]
	value := []byte(strings.Repeat("0123456789", 10))
	first := len(rec.streams[stream])
	for from := 0; from < n; from += 1000 {
		var batch []entry
		for i := from; i < min(n, from+1000); i++ {
			batch = append(batch, entry{stream, event.Event{
				ID: event.ID{Ms: uint64(1_790_000_000_000 + first + i)},
				Fields: []event.Field{
					{Name: []byte("n"), Value: strconv.AppendInt(nil, int64(first+i), 10)},
					{Name: []byte("payload"), Value: value},
				},
			}})
		}
		if err := p.send(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
}

// admin is a client for looking at Redis.
func (w *world) admin(t *testing.T) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(w.redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	opts.DisableIdentity = true
	c := redis.NewClient(opts)
	t.Cleanup(func() { c.Close() })
	return c
}

// calls is how often Redis was asked for a range.
func calls(t *testing.T, c *redis.Client) int {
	t.Helper()
	info, err := c.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(info, "cmdstat_xrange:calls=")
	if !found {
		return 0
	}
	text, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// archived is how many entries of a stream the archive has.
func (w *world) archived(t *testing.T, stream string) (entries, commits uint64) {
	t.Helper()
	log, err := w.archive(t).Log(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	last := log.Last()
	if last == nil {
		return 0, 0
	}
	return last.Totals.Events, last.Number
}

// TestSIGTERM stops an archiver in the midst of a long stream: what it has read
// is committed, in one segment however small, and the next run goes on there.
func TestSIGTERM(t *testing.T) {
	t.Parallel()
	const entries, stream = 120_000, "long"
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	fill(t, w, rec, stream, entries)
	admin := w.admin(t)
	d := start(t, w.with(patientEnv), "archive")
	deadline := time.Now().Add(time.Minute)
	for calls(t, admin) < 30 {
		if time.Now().After(deadline) {
			t.Fatalf("the archiver does not read:\n%s", tail(d.output()))
		}
		pause(t, time.Millisecond, d.ended)
	}
	d.signal(t, syscall.SIGTERM)
	if status := d.wait(t, 30*time.Second); status != 0 || d.said(stopped) != 1 {
		t.Fatalf("status %d:\n%s", status, tail(d.output()))
	}
	got, commits := w.archived(t, stream)
	if got < 10_000 || got >= entries || commits != 1 {
		t.Errorf("%d of %d entries are archived by %d commits: want a part, by one", got, entries, commits)
	}
	t.Logf("%d of %d entries had been read and were committed", got, entries)
	// Nothing was left behind that no commit names.
	if r := mustReservoir(t, w.env, "verify"); !strings.Contains(r.stdout, "0 problems, 0 warnings") {
		t.Error(r.stdout)
	}
	w.finish(t, rec)
}

// TestSIGTERMWhilePending stops an archiver that has nothing in hand, since it
// reads a stream only when its entries have waited for long enough: they wait on
// in Redis for the next run.
func TestSIGTERMWhilePending(t *testing.T) {
	t.Parallel()
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	fill(t, w, rec, "quiet", 10)
	d := start(t, w.with(patientEnv), "archive")
	d.mustSay(t, committed, 0) // what was there at the start
	fill(t, w, rec, "quiet", 10)
	pause(t, 300*time.Millisecond, d.ended) // it looks at the stream some times
	d.signal(t, syscall.SIGTERM)
	if status := d.wait(t, 30*time.Second); status != 0 || d.said(stopped) != 1 {
		t.Fatalf("status %d:\n%s", status, tail(d.output()))
	}
	if got, _ := w.archived(t, "quiet"); got != 10 {
		t.Errorf("%d entries are archived, want the 10 that were there at the start", got)
	}
	w.finish(t, rec)
}

// TestSecondSignal: while the first waits for a commit that does not get through,
// the second ends the process at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(fmt.Sprint(second), func(t *testing.T) {
			w, rec := newS3World(t, stack.RedisOptions{}), newRecord()
			fill(t, w, rec, "held", 1000)
			p := newProxy(t, w.s3.Endpoint(), newRand(1, 1))
			release := p.hold()
			defer release()
			d := start(t, w.with(patientEnv, p.env()), "archive")
			select {
			case <-p.arrived:
			case <-time.After(time.Minute):
				t.Fatalf("no commit came:\n%s", tail(d.output()))
			}
			d.signal(t, syscall.SIGTERM)
			pause(t, 300*time.Millisecond, d.ended)
			if !d.running() {
				t.Fatalf("the first signal did not wait for the commit:\n%s", tail(d.output()))
			}
			d.signal(t, second)
			if status := d.wait(t, 5*time.Second); status != 130 {
				t.Errorf("status %d, want 130", status)
			}
			release()
			w.finish(t, rec)
		})
	}
}
