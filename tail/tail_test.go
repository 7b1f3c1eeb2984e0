package tail_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/tail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const stream = "orders"

type harness struct {
	admin  *redis.Client
	client *redisstream.Client
	arch   *archive.Archive
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	server := stacktest.Redis(t, stack.RedisOptions{})
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{admin: redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})}
	if h.client, err = redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()}); err != nil {
		t.Fatal(err)
	}
	if h.arch, err = archive.Open(t.Context(), store, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.client.Close(); err != nil {
			t.Error(err)
		}
		if err := h.admin.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *harness) add(t *testing.T, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		h.do(t, "XADD", stream, strconv.Itoa(n)+"-1", "type", "T"+strconv.Itoa(n%2), "n", n)
	}
}

func (h *harness) do(t *testing.T, args ...any) {
	t.Helper()
	if err := h.admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) archiver(t *testing.T, opts archiver.Options) *archiver.Archiver {
	t.Helper()
	opts.Include = []string{stream}
	a, err := archiver.New(h.client, h.arch, opts, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *harness) once(t *testing.T) {
	t.Helper()
	if _, err := h.archiver(t, archiver.Options{}).Once(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// read gives the milliseconds of the IDs of what has come, as text.
func read(ctx context.Context, t *testing.T, tl *tail.Tail) string {
	t.Helper()
	text := ""
	for b, err := range tl.Batches(ctx) {
		if err != nil {
			return text + " " + err.Error()
		}
		for i := range b.Len() {
			text += fmt.Sprintf(" %d:%d", b.Incarnation, b.ID(i).Ms)
		}
	}
	return text
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: read %q, want %q", what, got, want)
	}
}

func TestArchiveThenLive(t *testing.T) {
	h := newHarness(t)
	var lost []redisstream.Loss
	tl := tail.New(h.arch, h.client, tail.Spec{Stream: stream, Lost: func(l redisstream.Loss) { lost = append(lost, l) }})
	defer tl.Close()
	want(t, "no stream yet", read(t.Context(), t, tl), "")
	h.add(t, 1, 3)
	want(t, "never archived", read(t.Context(), t, tl), " 1:1 1:2 1:3")
	want(t, "nothing new", read(t.Context(), t, tl), "")
	h.add(t, 4, 5)
	h.once(t)
	want(t, "archived meanwhile", read(t.Context(), t, tl), " 1:4 1:5")
	h.add(t, 6, 8)
	h.once(t)
	h.do(t, "XTRIM", stream, "MAXLEN", 1)
	h.add(t, 9, 9)
	want(t, "archived and trimmed meanwhile", read(t.Context(), t, tl), " 1:6 1:7 1:8 1:9")
	h.add(t, 10, 12)
	h.once(t)
	h.do(t, "XTRIM", stream, "MAXLEN", 0)
	want(t, "archived and emptied meanwhile", read(t.Context(), t, tl), " 1:10 1:11 1:12")
	if len(lost) > 0 {
		t.Fatalf("lost %+v", lost)
	}
	h.add(t, 13, 16)
	h.do(t, "XTRIM", stream, "MAXLEN", 1)
	want(t, "trimmed before it was archived", read(t.Context(), t, tl), " 1:16")
	if len(lost) != 1 || lost[0].Lost != 3 {
		t.Fatalf("lost %+v, want 3 entries", lost)
	}

	other := tail.New(h.arch, h.client, tail.Spec{Stream: stream})
	defer other.Close()
	want(t, "from the beginning", read(t.Context(), t, other), " 1:1 1:2 1:3 1:4 1:5 1:6 1:7 1:8 1:9 1:10 1:11 1:12 1:16")
	without := tail.New(h.arch, nil, tail.Spec{Stream: stream, Format: archive.JSONL})
	want(t, "without Redis", read(t.Context(), t, without), " 1:1 1:2 1:3 1:4 1:5 1:6 1:7 1:8 1:9 1:10 1:11 1:12")
}

// TestTrimmedAmongDeletions: a trim that the counters cannot tell from
// deletions further on must not hide what was archived.
func TestTrimmedAmongDeletions(t *testing.T) {
	h := newHarness(t)
	h.add(t, 1, 2)
	tl := tail.New(h.arch, h.client, tail.Spec{Stream: stream})
	defer tl.Close()
	want(t, "live", read(t.Context(), t, tl), " 1:1 1:2")
	h.add(t, 3, 3000)
	h.once(t)
	h.add(t, 3001, 6000)
	h.do(t, "XDEL", stream, "5999-1")
	h.do(t, "XTRIM", stream, "MINID", "=", "2500")
	n, next := 0, uint64(3)
	for b, err := range tl.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			if next == 5999 {
				next++
			}
			if b.ID(i).Ms != next {
				t.Fatalf("read %s, want %d", b.ID(i), next)
			}
			n++
			next++
		}
	}
	if n != 5997 {
		t.Fatalf("read %d events", n)
	}
}

func TestRangeAndFilter(t *testing.T) {
	h := newHarness(t)
	h.add(t, 1, 10)
	h.once(t)
	h.add(t, 11, 20)
	filter := event.Filter{Types: []string{"T0"}}
	matcher, err := filter.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to uint64
		filter   *event.Matcher
		want     string
		done     bool
	}{
		{9, 12, nil, " 1:9 1:10 1:11 1:12", true},
		{2, 4, nil, " 1:2 1:3 1:4", true},
		{13, 14, nil, " 1:13 1:14", true},
		{7, 14, matcher, " 1:8 1:10 1:12 1:14", true},
		{17, 0, nil, " 1:17 1:18 1:19 1:20", false},
		{19, 30, matcher, " 1:20", false},
		{25, 30, nil, "", false},
	} {
		r := event.Range{From: event.ID{Ms: c.from}, To: event.ID{Ms: c.to, Seq: 1}}
		if c.to == 0 {
			r.To = event.ID{}
		}
		tl := tail.New(h.arch, h.client, tail.Spec{Stream: stream, Range: r, Filter: c.filter})
		want(t, r.String(), read(t.Context(), t, tl), c.want)
		if tl.Done() != c.done {
			t.Errorf("%s: done %v", r, tl.Done())
		}
		tl.Close()
	}
}

func TestReplaced(t *testing.T) {
	h := newHarness(t)
	h.add(t, 1, 5)
	h.once(t)
	tl := tail.New(h.arch, h.client, tail.Spec{Stream: stream})
	defer tl.Close()
	want(t, "before", read(t.Context(), t, tl), " 1:1 1:2 1:3 1:4 1:5")
	h.do(t, "DEL", stream)
	want(t, "gone", read(t.Context(), t, tl), "")
	for n := range 3 {
		h.do(t, "XADD", stream, strconv.Itoa(n+1)+"-1", "other", n)
	}
	for _, err := range tl.Batches(t.Context()) {
		if !errors.Is(err, redisstream.ErrHistoryReplaced) {
			t.Fatalf("error %v of another history", err)
		}
	}
	h.once(t)
	again := tail.New(h.arch, h.client, tail.Spec{Stream: stream})
	defer again.Close()
	h.add(t, 4, 4)
	want(t, "after", read(t.Context(), t, again), " 1:1 1:2 1:3 1:4 1:5 2:1 2:2 2:3 2:4")
}

// TestSeam follows a stream that a producer, an archiver that trims, and
// somebody who trims what is archived all work on: every entry comes once.
func TestSeam(t *testing.T) {
	h := newHarness(t)
	const total = 20000
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	background := make(chan error, 2)
	runCtx, stopArchiver := context.WithCancel(ctx)
	engine := h.archiver(t, archiver.Options{
		PollInterval: 10 * time.Millisecond, PollMaxInterval: 20 * time.Millisecond, DiscoverInterval: time.Second,
		Roll: archiver.Roll{Age: 20 * time.Millisecond, Count: 700}, Trim: archiver.Trim{Enabled: true, Retain: time.Nanosecond},
	})
	go func() { background <- engine.Run(runCtx) }()
	var produced atomic.Int64
	go func() {
		background <- func() error {
			for n := 0; n < total; n += 50 {
				pipe := h.admin.Pipeline()
				for i := range 50 {
					pipe.Do(ctx, "XADD", stream, strconv.Itoa(n+i+1)+"-0", "n", n+i)
				}
				if _, err := pipe.Exec(ctx); err != nil {
					return err
				}
				produced.Store(int64(n + 50))
			}
			return nil
		}()
	}()

	next := uint64(1)
	tl := tail.New(h.arch, h.client, tail.Spec{Stream: stream, Lost: func(l redisstream.Loss) { t.Errorf("lost %+v", l) }})
	defer tl.Close()
	for rounds := 0; next <= total; rounds++ {
		if rounds%7 == 0 { // now and then fall behind the archiver
			for behind := time.Now(); time.Since(behind) < 30*time.Millisecond && produced.Load() < total; {
				if err := h.admin.Ping(ctx).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for b, err := range tl.Batches(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Len() {
				if b.ID(i).Ms != next {
					t.Fatalf("read %s, want %d", b.ID(i), next)
				}
				next++
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("read up to %d of %d: %v", next-1, total, ctx.Err())
		}
	}
	stopArchiver()
	for range 2 {
		if err := <-background; err != nil {
			t.Error(err)
		}
	}
	length, err := h.admin.XLen(t.Context(), stream).Result()
	if err != nil || length == total {
		t.Fatalf("nothing was trimmed (%d entries, %v): the test shows nothing", length, err)
	}
}

// A place in an incarnation that the stream never had is an error: it would be looked for
// for good.
func TestPlaceThatNeverWas(t *testing.T) {
	h := newHarness(t)
	h.add(t, 1, 3)
	for _, archived := range []bool{false, true} {
		if archived {
			if _, err := h.archiver(t, archiver.Options{}).Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r := tail.New(h.arch, h.client, tail.Spec{Stream: stream, Incarnation: 99999999})
		defer r.Close()
		for _, err := range r.Batches(ctx) {
			if !errors.Is(err, tail.ErrPlace) {
				t.Fatalf("archived %v: %v", archived, err)
			}
		}
		if ctx.Err() != nil {
			t.Fatal("it was looked for without end")
		}
	}
}
