package archiver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/redisstream"
)

// TestCrashSweep lives a small life of an archive (see [life]) that crashes at one
// object store operation, before or after its effect, then lives it again with a
// fresh archiver and no faults; and so for every single operation.
func TestCrashSweep(t *testing.T) {
	for name, past := range pasts {
		t.Run(name, func(t *testing.T) { sweep(t, past, faulty.CrashAt, crashAndStartAfresh) })
	}
}

func crashAndStartAfresh(t *testing.T, l *life, store *faulty.Store) {
	t.Helper()
	ctx, die := context.WithCancel(t.Context())
	defer die()
	// Before it tries again it says so, and that is too late: it is dead by then.
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		if store.Crashed() {
			die()
		}
		return len(p), nil
	}), nil))
	if err := l.live(ctx, t, store, log, 1); err != nil && !errors.Is(err, faulty.ErrCrashed) {
		t.Fatalf("the crash came out as another error: %v", err)
	}
	if err := l.live(t.Context(), t, l.store, slog.New(slog.DiscardHandler), 1); err != nil {
		t.Fatalf("a fresh start after the crash: %v", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

// TestErrorSweep lives the same life with one operation that fails, before or after
// its effect: the same archiver gets over it.
func TestErrorSweep(t *testing.T) {
	failAt := func(n int, after bool) faulty.Plan { return faulty.FailAt(n, after, faulty.ErrInjected) }
	for name, past := range pasts {
		t.Run(name, func(t *testing.T) { sweep(t, past, failAt, failAndGoOn) })
	}
}

func failAndGoOn(t *testing.T, l *life, store *faulty.Store) {
	t.Helper()
	if err := l.live(t.Context(), t, store, slog.New(slog.DiscardHandler), 2); err != nil {
		t.Fatalf("the archiver did not get over it: %v", err)
	}
}

// pasts are how many commits stream "a" begins with: none, and as many as it takes
// for the first drain to come to a snapshot.
var pasts = map[string]int{"new": 0, "snapshot": 97}

// sweep calls try with a fault at every operation of a life, by several workers,
// and checks what is archived after each.
func sweep(t *testing.T, past int, faultAt func(n int, after bool) faulty.Plan, try func(*testing.T, *life, *faulty.Store)) {
	const workers = 4
	server := stacktest.Redis(t, stack.RedisOptions{Args: []string{"--databases", fmt.Sprint(workers + 1)}})
	template := t.TempDir()
	prologue(t, server, template, past)
	for worker := 1; worker <= workers; worker++ {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			client, admin := connect(t, server, worker)
			for n := worker; ; n += workers {
				for _, after := range []bool{false, true} {
					l := &life{harness: &harness{client: client, admin: admin}, gaps: past}
					l.begin(t, template, worker)
					o := observed{plan: faultAt(n, after), n: n, past: past}
					try(t, l, faulty.New(l.store, o.next))
					if o.hit.N == 0 {
						t.Logf("swept up to operation %d", n)
						return
					}
					if l.check(t); t.Failed() {
						t.Fatalf("with a fault at operation %d, %s %s, after its effect %t", n, o.hit.Op, o.hit.Key, after)
					}
					if o.hit.Op != faulty.Put && o.hit.Op != faulty.Delete {
						break // no effect, so no difference
					}
				}
			}
		})
	}
}

// observed is a plan that tells which operation it hit. Where there is a past, only
// the writing of commits, and snapshots, count: the other operations are those of an
// archive without one.
type observed struct {
	plan faulty.Plan
	n    int
	past int

	count int
	hit   faulty.Step
}

func (o *observed) next(s faulty.Step) faulty.Fault {
	if o.past > 0 && !strings.Contains(s.Key, "a/00000001/log/snapshot/") && !(s.Op == faulty.Put && strings.Contains(s.Key, "a/00000001/log/")) {
		return faulty.Fault{}
	}
	o.count++
	s.N = o.count
	if s.N == o.n {
		o.hit = s
	}
	return o.plan(s)
}

func connect(t *testing.T, server *stack.Redis, db int) (*redisstream.Client, *redis.Client) {
	t.Helper()
	client, err := redisstream.Connect(t.Context(), redisstream.Config{URL: fmt.Sprintf("%s/%d", server.URL(), db)})
	if err != nil {
		t.Fatal(err)
	}
	admin := redis.NewClient(&redis.Options{Addr: server.Addr(), DB: db, DisableIdentity: true})
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), admin.Close()); err != nil {
			t.Error(err)
		}
	})
	return client, admin
}

const sweepHour = 3_600_000 // milliseconds

// life is that of an archive of two streams: it is drained twice, with an hour's
// end and a loss in between, compacted and collected.
type life struct {
	*harness
	chapters int // published
	gaps     int // in stream a
}

// prologue makes the past of stream "a", in Redis's database 0 and in a directory:
// every one of its entries was lost.
func prologue(t *testing.T, server *stack.Redis, dir string, past int) {
	t.Helper()
	_, admin := connect(t, server, 0)
	store, err := objectstore.NewLocal(dir, objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	arch, err := archive.Open(t.Context(), store, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := arch.Log(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(past) {
		id := event.ID{Ms: sweepHour + i}
		if err := admin.XAdd(t.Context(), &redis.XAddArgs{Stream: "a", ID: id.String(), Values: []string{"n", "v"}}).Err(); err != nil {
			t.Fatal(err)
		}
		_, err := log.Append(t.Context(), archive.Commit{
			Kind: archive.KindGap, Head: id, EntriesAdded: i + 1,
			Gap: &archive.Gap{After: log.Head(), UpTo: id, Lost: 1, Exact: true, Cause: archive.CauseTrimmed},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.XTrimMaxLen(t.Context(), "a", 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// begin copies the past into the worker's database and a directory of its own.
func (l *life) begin(t *testing.T, template string, db int) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	store, err := objectstore.NewLocal(dir, objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	l.store = store
	l.record = map[string][]event.Event{}
	if err := l.admin.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	zero := l.admin.Conn()
	defer zero.Close()
	if err := errors.Join(zero.Select(t.Context(), 0).Err(), zero.Copy(t.Context(), "a", "a", db, true).Err(), zero.Select(t.Context(), db).Err()); err != nil {
		t.Fatal(err)
	}
}

// publish puts the next chapter into Redis.
func (l *life) publish(t *testing.T, chapter int) {
	t.Helper()
	if chapter < l.chapters {
		return
	}
	l.chapters++
	at := func(stream string, ms ...uint64) {
		for _, ms := range ms {
			l.addAt(t, stream, event.ID{Ms: 2*sweepHour + ms}, int(ms%100))
		}
	}
	switch chapter {
	case 0:
		at("a", 1, 2, 3, 4, sweepHour, sweepHour+1) // three segments
		at("b", 7, 8, 9)
	case 1:
		at("a", sweepHour+2, sweepHour+3, sweepHour+4, sweepHour+5)
		at("b", 10, 11)
		if err := l.admin.XTrimMaxLen(t.Context(), "a", 2).Err(); err != nil {
			t.Fatal(err)
		}
		l.record["a"] = slices.Delete(l.record["a"], 6, 8)
		l.gaps++
	}
}

// live lives the life, from where it is, on a store. What fails is tried so often.
func (l *life) live(ctx context.Context, t *testing.T, store objectstore.Store, log *slog.Logger, tries int) error {
	t.Helper()
	again := func(step func() error) (err error) {
		for range tries {
			if err = step(); err == nil {
				return nil
			}
			t.Logf("failed: %v", err)
		}
		return err
	}
	var arch *archive.Archive
	err := again(func() (err error) {
		arch, err = archive.Open(ctx, store, archive.Options{Writer: "sweep"})
		return err
	})
	if err != nil {
		return err
	}
	a, err := archiver.New(l.client, arch, archiver.Options{Include: []string{"*"}, Roll: archiver.Roll{Count: 2}, Concurrency: 1},
		log, nil)
	if err != nil {
		t.Fatal(err)
	}
	for chapter := range 2 {
		l.publish(t, chapter)
		err := again(func() error {
			s, err := a.Once(ctx)
			for _, left := range s.Left {
				err = errors.Join(err, left.Err)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, stream := range []string{"a", "b"} {
		err := again(func() error {
			_, err := arch.Compact(ctx, archive.CompactSpec{Stream: stream})
			return err
		})
		if err != nil {
			return err
		}
		err = again(func() error {
			_, err := arch.GC(ctx, archive.GCSpec{Stream: stream, Grace: time.Nanosecond, Force: true})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// check wants everything in the archive once, the losses once, and nothing wrong
// with it.
func (l *life) check(t *testing.T) {
	t.Helper()
	for stream, gaps := range map[string]int{"a": l.gaps, "b": 0} {
		l.harness.check(t, stream)
		if got := l.harness.gaps(t, stream); len(got) != gaps {
			t.Errorf("%d gaps in %s, want %d", len(got), stream, gaps)
		} else if gaps > 0 && (got[gaps-1].Lost != 2 || !got[gaps-1].Exact) {
			t.Errorf("the last gap is %+v, want one of exactly 2", got[gaps-1])
		}
		if got := l.segments(t, stream); len(got) != segmentsAfter[stream] {
			t.Errorf("%d segments of %s after compaction, want %d", len(got), stream, segmentsAfter[stream])
		}
		report, err := l.archive(t).Verify(t.Context(), archive.VerifySpec{Stream: stream})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			if f.Kind != archive.FindingGap {
				t.Errorf("verify found: %s", f)
			}
		}
	}
}

var segmentsAfter = map[string]int{"a": 2, "b": 1} // one for each hour
