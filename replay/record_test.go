package replay_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/replay"
)

// A target that has lost its record of the replay, but not the events, pauses the
// replay, also when it is resumed; one that has lost both gets them again.
func TestTargetLosesItsRecord(t *testing.T) {
	b := newBench(t)
	events := b.fill("a", 2500, time.Hour, time.Second)
	lost := remedy.Wrap(fmt.Errorf("no key: %w", replay.ErrRecordLost), "Begin anew.")
	gone := false
	b.target.fault = func(n int, after bool) error {
		if n == 3 && !after {
			gone = true
			b.target.position = replay.Position{}
			return lost
		}
		return nil
	}
	b.target.openErr = func() error {
		if gone {
			return lost
		}
		return nil
	}
	quick := replay.FailurePolicy{Retry: replay.RetryPolicy{Initial: time.Millisecond}}
	id := b.create(replay.Spec{Failures: quick}).ID
	written := -1
	for attempt := range 2 {
		job := b.run(id)
		if job.State != jobs.Paused || !strings.Contains(job.StateReason, "no key") || !strings.Contains(job.StateReason, "Begin anew.") ||
			!strings.Contains(job.StateReason, b.target.got[len(b.target.got)-1].ID.String()) {
			t.Fatalf("attempt %d: it is %s: %s", attempt, job.State, job.StateReason)
		}
		if n := len(b.target.got); n == 0 || written >= 0 && n != written {
			t.Fatalf("attempt %d: %d events, %d before", attempt, n, written)
		}
		written = len(b.target.got)
	}
	if b.target.written.IsZero() {
		t.Error("the sink was not told that something is written")
	}
	gone, b.target.got = false, nil
	if job := b.run(id); job.State != jobs.Succeeded {
		t.Fatalf("it is %s: %s", job.State, job.StateReason)
	}
	b.want(events)
}

// A replay of dead letters whose worker is killed, and which is cancelled then,
// removes the letters that the target has.
func TestCancelledRetryRemovesWhatWasTaken(t *testing.T) {
	b := newBench(t)
	b.fill("a", 300, time.Hour, time.Second)
	b.target.poison = func(e *event.Event) error {
		if e.ID.Ms%100_000 < 1000 {
			return errCrash
		}
		return nil
	}
	failed := b.replay(replay.Spec{Failures: replay.FailurePolicy{MaxDeadLetters: 10}}).ID
	b.target.poison = nil
	letters := func() (n int) {
		for _, err := range b.svc.DeadLetters(t.Context(), failed, "") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	if n := letters(); n != 3 {
		t.Fatalf("%d letters, want 3", n)
	}
	b.target.position, b.target.got, b.target.epoch, b.target.writes = replay.Position{}, nil, 0, 0 // another target
	id := b.create(replay.Spec{DeadLettersOf: failed}).ID
	var crash atomic.Bool
	b.target.fault = func(n int, after bool) error {
		if n == 2 && after {
			crash.Store(true)
			return errCrash
		}
		return nil
	}
	dying := faulty.New(b.store, func(faulty.Step) faulty.Fault { return faulty.Fault{Crash: crash.Load()} })
	if _, err := b.try(t.Context(), dying, id); err == nil {
		t.Fatal("it did not crash")
	}
	b.target.fault = nil
	if _, err := b.jobs.Cancel(t.Context(), id, jobs.Change{}); err != nil {
		t.Fatal(err)
	}
	if job := b.run(id); job.State != jobs.Cancelled {
		t.Fatalf("it is %s: %s", job.State, job.StateReason)
	}
	if n := letters(); n != 1 || len(b.target.got) != 2 {
		t.Errorf("%d letters are left, and the target has %d events; want 1 and 2", n, len(b.target.got))
	}
}
