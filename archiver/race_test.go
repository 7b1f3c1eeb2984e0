package archiver_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
)

// readd adds recorded events again, with their IDs.
func (h *harness) readd(t *testing.T, stream string, from, to int) {
	t.Helper()
	for _, e := range h.record[stream][from:to] {
		if err := h.admin.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: e.ID.String(), Values: values(&e)}).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// A stream that was moved to another server entry by entry keeps its IDs, but
// its counter begins anew: with fewer than the archive has, or, if the archiver
// comes late, with more.
func TestStreamWhoseCounterBeganAnew(t *testing.T) {
	for _, later := range []int{0, 5, 40, 300} {
		h := newHarness(t, stack.RedisOptions{})
		h.add(t, "s", 100)
		h.once(t, archiver.Options{})
		h.admin.Del(t.Context(), "s")
		h.readd(t, "s", 90, 100)
		if later > 0 {
			h.add(t, "s", later)
		}
		h.once(t, archiver.Options{})
		h.once(t, archiver.Options{})
		h.add(t, "s", 3)
		h.once(t, archiver.Options{})
		h.check(t, "s")
		if n := h.incarnations(t, "s"); n != 2 {
			t.Errorf("%d later: %d incarnations, want 2", later, n)
		}
		if gaps := h.gaps(t, "s"); len(gaps) != 0 {
			t.Errorf("%d later: gaps %+v, want none", later, gaps)
		}
	}
}

// A stream that is gone for good has nothing waiting in it, and is forgotten:
// there may be a new name every second. If it comes back it is found again.
func TestRemovedStreamsAreForgotten(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 20)
	h.add(t, "named", 20)
	reg := prometheus.NewRegistry()
	a, err := archiver.New(h.client, h.archive(t), archiver.Options{
		Include: []string{"named", "s*"}, PollInterval: 5 * time.Millisecond, PollMaxInterval: 20 * time.Millisecond,
		DiscoverInterval: 20 * time.Millisecond, Roll: archiver.Roll{Age: time.Millisecond},
	}, slog.New(slog.NewTextHandler(t.Output(), nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	eventually(t, "the entries are archived", func(context.Context) bool { return a.Progress().Events == 40 })
	h.admin.Del(t.Context(), "s", "named")
	eventually(t, "one stream is followed", func(context.Context) bool { return gauge(t, reg, "reservoir_archiver_streams") == 1 })
	eventually(t, "nothing waits", func(context.Context) bool { return a.Progress().Pending == 0 })
	if n := gauge(t, reg, "reservoir_archiver_lag_entries"); n != 0 {
		t.Errorf("a lag of %v entries in streams that are gone", n)
	}
	h.add(t, "s", 5)
	eventually(t, "the stream is archived again", func(context.Context) bool { return a.Progress().Events == 45 })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.check(t, "s")
}

// gauge adds up the values of a gauge.
func gauge(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// A stream that is named and does not exist is looked at as seldom as any quiet
// one.
func TestRemovedStreamIsQuiet(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 20)
	a := h.archiver(t, archiver.Options{
		Include: []string{"s"}, PollInterval: 5 * time.Millisecond, PollMaxInterval: time.Hour, Roll: archiver.Roll{Age: time.Millisecond},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	eventually(t, "the entries are archived", func(context.Context) bool { return a.Progress().Events == 20 })
	h.admin.Del(t.Context(), "s")
	eventually(t, "that is recorded", func(context.Context) bool { return a.Progress().Gaps == 1 })
	looks := func() int {
		calls, err := h.admin.InfoMap(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if _, err := fmt.Sscanf(calls["Commandstats"]["cmdstat_xinfo|stream"], "calls=%d", &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventually(t, "a second passes with hardly a look", func(ctx context.Context) bool {
		before := looks()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return looks()-before <= 2
	})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Redis comes back with an older state, without entries that the archiver has
// seen in it. Writing that down fails at first: the loss is recorded later.
func TestWentBackIsRecordedAfterAFailure(t *testing.T) {
	for _, after := range []bool{false, true} {
		h := newHarness(t, stack.RedisOptions{})
		plain := h.store
		var failed atomic.Bool
		h.store = faulty.New(plain, func(s faulty.Step) faulty.Fault {
			if s.Op == faulty.Put && strings.HasSuffix(s.Key, "00002.json") && failed.CompareAndSwap(false, true) {
				return faulty.Fault{Err: faulty.ErrInjected, After: after}
			}
			return faulty.Fault{}
		})
		h.add(t, "s", 20)
		a := h.archiver(t, archiver.Options{PollInterval: 10 * time.Millisecond, PollMaxInterval: 10 * time.Millisecond, Roll: archiver.Roll{Age: time.Hour}})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		eventually(t, "the first entries are archived", func(context.Context) bool { return a.Progress().Events == 20 })
		old, err := h.admin.Dump(t.Context(), "s").Result()
		if err != nil {
			t.Fatal(err)
		}
		h.add(t, "s", 7)
		eventually(t, "the daemon has seen the others", func(context.Context) bool { return a.Progress().Pending == 7 })
		if err := h.admin.RestoreReplace(t.Context(), "s", 0, old).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the loss is committed", func(context.Context) bool { return a.Progress().Lost == 7 })
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		h.store = plain
		h.wantGap(t, "s", 7, false, archive.CauseFailover)
	}
}

// What was deleted before it was archived shows at the end of the stream only,
// and producers see to it that Once never finds that where it looked for it.
func TestOnceFindsDeletionsWhileProducersWrite(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	plain := h.store
	h.add(t, "s", 20)
	h.once(t, archiver.Options{})
	h.add(t, "s", 10)
	deleted := h.record["s"][25]
	h.record["s"] = append(h.record["s"][:25:25], h.record["s"][26:]...)
	if err := h.admin.XDel(t.Context(), "s", deleted.ID.String()).Err(); err != nil {
		t.Fatal(err)
	}
	written := 0
	h.store = faulty.New(plain, func(s faulty.Step) faulty.Fault {
		if s.Op == faulty.List && s.Key == "streams/s/" && written == 0 {
			written = 50
			h.add(t, "s", written) // after Once has looked at the stream
		}
		return faulty.Fault{}
	})
	summary := h.once(t, archiver.Options{})
	if written == 0 {
		t.Fatal("nothing was written meanwhile")
	}
	if summary.Lost != 1 {
		t.Errorf("Once found %d entries lost, want the one that was deleted", summary.Lost)
	}
	h.store = plain
	h.once(t, archiver.Options{})
	h.wantGap(t, "s", 1, true, archive.CauseDeleted)
	h.check(t, "s")
}

// Redis is restarted in the midst of a drain: whatever the reader then says, the
// archive ends right.
func TestServerChangesInTheMidst(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{AOF: true})
	for range 30 {
		h.add(t, "s", 2000)
	}
	a := h.archiver(t, archiver.Options{PollInterval: 5 * time.Millisecond, Roll: archiver.Roll{Count: 3000, Age: time.Millisecond}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	eventually(t, "it has begun", func(context.Context) bool { return a.Progress().Events > 0 })
	if err := h.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is archived", func(context.Context) bool { return a.Progress().Events == 60_000 })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.check(t, "s")
	if n := h.incarnations(t, "s"); n != 1 {
		t.Errorf("%d incarnations, want one", n)
	}
}
