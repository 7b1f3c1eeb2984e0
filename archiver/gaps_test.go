package archiver_test

import (
	"context"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func TestTrimmedBeforeTheArchiverEverCame(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 100)
	h.admin.XTrimMaxLen(t.Context(), "s", 30)
	h.once(t, archiver.Options{})
	g := h.wantGap(t, "s", 70, true, archive.CauseTrimmed)
	if want := h.record["s"][70].ID.Prev(); g.UpTo != want || !g.After.IsZero() {
		t.Errorf("gap (%s, %s], want (0-0, %s]", g.After, g.UpTo, want)
	}
	h.checkEvents(t, "s", h.record["s"][70:])
}

func TestTrimmedBetweenRuns(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	last := h.add(t, "s", 50)
	h.once(t, archiver.Options{})
	h.add(t, "s", 100)
	h.admin.XTrimMaxLen(t.Context(), "s", 20)
	h.add(t, "s", 5)
	h.once(t, archiver.Options{})
	if g := h.wantGap(t, "s", 80, true, archive.CauseTrimmed); g.After != last {
		t.Errorf("the gap begins after %s, want %s", g.After, last)
	}
	want := append(h.record["s"][:50:50], h.record["s"][130:]...)
	h.checkEvents(t, "s", want)
	h.once(t, archiver.Options{})
	h.wantGap(t, "s", 80, true, archive.CauseTrimmed) // and not once more
}

func TestEverythingTrimmed(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 10)
	h.once(t, archiver.Options{})
	h.add(t, "s", 10)
	h.admin.XTrimMaxLen(t.Context(), "s", 0)
	h.once(t, archiver.Options{})
	h.wantGap(t, "s", 10, true, archive.CauseTrimmed)
	h.checkEvents(t, "s", h.record["s"][:10])
	h.add(t, "s", 3)
	h.once(t, archiver.Options{})
	h.wantGap(t, "s", 10, true, archive.CauseTrimmed)
	h.checkEvents(t, "s", append(h.record["s"][:10:10], h.record["s"][20:]...))
}

func TestTrimmingWhatIsArchivedIsNoLoss(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 40)
	h.once(t, archiver.Options{})
	h.admin.XTrimMaxLen(t.Context(), "s", 0)
	h.add(t, "s", 10)
	h.once(t, archiver.Options{})
	if gaps := h.gaps(t, "s"); len(gaps) != 0 {
		t.Errorf("gaps %+v, want none", gaps)
	}
	h.check(t, "s")
}

func TestDeletedEntries(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 20)
	h.once(t, archiver.Options{})
	h.add(t, "s", 10)
	for _, i := range []int{22, 25, 5} { // the last one is archived: no loss
		h.admin.XDel(t.Context(), "s", h.record["s"][i].ID.String())
	}
	h.once(t, archiver.Options{})
	gaps := h.gaps(t, "s")
	if len(gaps) != 1 || gaps[0].Lost != 2 || !gaps[0].Exact || gaps[0].Cause != archive.CauseDeleted && gaps[0].Cause != archive.CauseUnknown {
		t.Fatalf("gaps %+v, want one of exactly 2 deleted entries", gaps)
	}
	want := append(h.record["s"][:22:22], h.record["s"][23:25]...)
	h.checkEvents(t, "s", append(want, h.record["s"][26:]...))
}

func TestStreamDeletedAndMadeAnew(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 20)
	h.add(t, "other", 5)
	h.once(t, archiver.Options{})
	h.admin.Del(t.Context(), "s")
	h.add(t, "s", 7)
	h.add(t, "other", 5)
	h.once(t, archiver.Options{})
	h.check(t, "s")
	h.check(t, "other")
	if n := h.incarnations(t, "s"); n != 2 {
		t.Errorf("%d incarnations, want 2", n)
	}
	if n := h.incarnations(t, "other"); n != 1 {
		t.Errorf("%d incarnations of the other stream, want 1", n)
	}
}

func TestStreamDeletedForGood(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 20)
	h.once(t, archiver.Options{})
	h.admin.Del(t.Context(), "s")
	h.once(t, archiver.Options{})
	h.once(t, archiver.Options{})
	h.check(t, "s")
	h.wantGap(t, "s", 0, false, archive.CauseRemoved) // once
	h.add(t, "s", 3)
	h.once(t, archiver.Options{})
	h.check(t, "s")
	if n := h.incarnations(t, "s"); n != 2 {
		t.Errorf("%d incarnations, want 2", n)
	}
}

// Another stream of the same name may be longer and trimmed when it is seen
// first: that it was gone in between tells it from the one before.
func TestStreamMadeAnewThatOutgrewTheOldOne(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 5)
	h.once(t, archiver.Options{})
	h.admin.Del(t.Context(), "s")
	h.once(t, archiver.Options{})
	h.add(t, "s", 40)
	h.admin.XTrimMaxLen(t.Context(), "s", 10)
	h.once(t, archiver.Options{})
	if n := h.incarnations(t, "s"); n != 2 {
		t.Errorf("%d incarnations, want 2", n)
	}
	h.checkEvents(t, "s", append(h.record["s"][:5:5], h.record["s"][35:]...))
	if gaps := h.gaps(t, "s"); len(gaps) != 2 || gaps[1].Lost != 30 || !gaps[1].Exact {
		t.Errorf("gaps %+v, want the removal, and exactly 30 trimmed entries", gaps)
	}
}

// A run against the wrong Redis finds no stream at all. With the right one it
// goes on as if nothing had been.
func TestTheWrongRedis(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	right := h.server
	h.add(t, "s", 20)
	h.once(t, archiver.Options{})
	h.connect(t, stacktest.Redis(t, stack.RedisOptions{}))
	h.once(t, archiver.Options{})
	h.connect(t, right)
	h.add(t, "s", 4)
	h.once(t, archiver.Options{})
	h.check(t, "s")
	if n := h.incarnations(t, "s"); n != 1 {
		t.Errorf("%d incarnations, want one", n)
	}
}

func TestDeletedWithEntriesThatTheDaemonHadSeen(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 20)
	ctx, stop := context.WithCancel(t.Context())
	a := h.archiver(t, archiver.Options{
		PollInterval: 10 * time.Millisecond, PollMaxInterval: 10 * time.Millisecond, Roll: archiver.Roll{Age: time.Hour},
	})
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	eventually(t, "the first entries are archived", func(context.Context) bool { return a.Progress().Events == 20 })
	h.add(t, "s", 7)
	eventually(t, "the daemon has seen the others", func(context.Context) bool { return a.Progress().Pending == 7 })
	h.admin.Del(t.Context(), "s")
	eventually(t, "the loss is committed", func(context.Context) bool { return a.Progress().Lost == 7 })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.wantGap(t, "s", 7, false, archive.CauseRemoved)
	h.checkEvents(t, "s", h.record["s"][:20])
}

func TestEviction(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{Args: []string{"--maxmemory-policy", "allkeys-random"}})
	h.add(t, "s", 20)
	h.once(t, archiver.Options{})
	h.admin.ConfigSet(t.Context(), "maxmemory", "1") // everything goes
	h.admin.Set(t.Context(), "x", "y", 0)
	eventually(t, "the stream is evicted", func(ctx context.Context) bool { return h.admin.Exists(ctx, "s").Val() == 0 })
	h.admin.ConfigSet(t.Context(), "maxmemory", "0")
	h.add(t, "s", 5)
	h.once(t, archiver.Options{})
	h.check(t, "s")
	if n := h.incarnations(t, "s"); n != 2 {
		t.Errorf("%d incarnations, want 2", n)
	}
}

// A replica that was behind is promoted: what only the master had is in the
// archive already and stays, what the new master publishes then follows, and
// what both have is archived once.
func TestFailoverToAReplicaThatWasBehind(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	master := h.server
	replica := stacktest.Redis(t, stack.RedisOptions{ReplicaOf: master.Addr()})
	onReplica := adminOf(replica)
	defer onReplica.Close()
	h.add(t, "s", 30)
	eventually(t, "the replica has caught up", func(ctx context.Context) bool { return onReplica.XLen(ctx, "s").Val() == 30 })
	// Cut off here, it has what a replica has that is promoted too early.
	if err := onReplica.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	h.add(t, "s", 12)
	h.once(t, archiver.Options{})
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	h.connect(t, replica)
	h.add(t, "s", 25)
	h.once(t, archiver.Options{})
	h.check(t, "s")
	if n := h.incarnations(t, "s"); n != 2 {
		t.Errorf("%d incarnations, want 2", n)
	}
	if gaps := h.gaps(t, "s"); len(gaps) != 0 {
		t.Errorf("gaps %+v, want none: all that was published is archived", gaps)
	}
}
