package replay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/replay"
)

// A target that is down for a while is waited for; one that stays down pauses
// the replay, which sets nothing aside.
func TestTargetIsDown(t *testing.T) {
	for _, records := range []bool{true, false} {
		t.Run(fmt.Sprintf("records=%t", records), func(t *testing.T) {
			b := newBench(t)
			b.target.records = records
			quick := replay.FailurePolicy{Retry: replay.RetryPolicy{Initial: time.Millisecond}}
			events := b.fill("a", 2500, time.Hour, time.Second)
			down := 5
			b.target.fault = func(n int, after bool) error {
				if n > 1 && !after && down > 0 {
					down--
					return fmt.Errorf("write: %w", replay.ErrUnavailable)
				}
				return nil
			}
			b.replay(replay.Spec{Failures: quick})
			b.want(events)

			b.target.got, b.target.position = nil, replay.Position{}
			writes := b.target.writes
			b.target.fault = func(n int, after bool) error {
				if n > writes+1 {
					return fmt.Errorf("write: %w", replay.ErrUnavailable)
				}
				return nil
			}
			id := b.create(replay.Spec{Failures: replay.FailurePolicy{MaxDeadLetters: 100, Retry: replay.RetryPolicy{Attempts: 3, Initial: time.Millisecond}}}).ID
			job := b.run(id)
			if job.State != jobs.Paused || !strings.Contains(job.StateReason, "has been down since") || job.Progress.DeadLetters != 0 {
				t.Fatalf("it is %s: %s", job.State, job.StateReason)
			}
			// What was sent of the chunk at hand counts, after another failure too.
			for range 2 {
				if n := uint64(len(b.target.got)); n == 0 || n == 2500 || job.Progress.Done != n || job.Progress.Selected != n {
					t.Errorf("the target has %d events, and the progress is %+v", n, job.Progress)
				}
				b.target.openErr = func() error { return fmt.Errorf("open: %w", replay.ErrUnavailable) }
				if job = b.run(id); job.State != jobs.Paused {
					t.Fatalf("it is %s: %s", job.State, job.StateReason)
				}
			}
			b.target.openErr, b.target.fault = nil, nil
			if job = b.run(id); job.State != jobs.Succeeded {
				t.Fatalf("it is %s: %s, %v", job.State, job.StateReason, job.LastError)
			}
			b.want(events)
		})
	}
}

func TestPoison(t *testing.T) {
	poison := errors.New("too strange")
	for _, records := range []bool{true, false} {
		t.Run(fmt.Sprintf("records=%t", records), func(t *testing.T) {
			b := newBench(t)
			b.target.records = records
			events := b.fill("a", 1200, time.Hour, time.Second)
			odd := func(e *event.Event) bool { return e.ID.Ms%100_000 < 1000 } // 12 of them
			var good, bad []event.Event
			for _, e := range events {
				if odd(&e) {
					bad = append(bad, e)
				} else {
					good = append(good, e)
				}
			}
			b.target.poison = func(e *event.Event) error {
				if odd(e) {
					return poison
				}
				return nil
			}
			job := b.run(b.create(replay.Spec{Failures: replay.FailurePolicy{MaxDeadLetters: 12}}).ID)
			if len(bad) != 12 || job.State != jobs.Succeeded || job.Progress.DeadLetters != 12 || job.Progress.Selected != 1200 {
				t.Fatalf("%d bad; it is %s %s: %v; %+v", len(bad), job.State, job.StateReason, job.LastError, job.Progress)
			}
			b.want(good)
			i := 0
			for d, err := range b.svc.DeadLetters(t.Context(), job.ID, "") {
				if err != nil {
					t.Fatal(err)
				}
				if d.ID != bad[i].ID || d.Attempts != 3 || d.Error != poison.Error() || d.Stream != "a" || !strings.Contains(string(d.Event), bad[i].ID.String()) {
					t.Errorf("letter %d is %+v", i, d)
				}
				i++
			}
			if i != 12 {
				t.Errorf("%d letters", i)
			}

			b.target.got, b.target.position, b.target.epoch = nil, replay.Position{}, 0
			job = b.run(b.create(replay.Spec{Failures: replay.FailurePolicy{MaxDeadLetters: 5}}).ID)
			if job.State != jobs.Failed || !strings.Contains(job.LastError.Message, bad[5].ID.String()) || job.LastError.Remedy == "" || job.Progress.DeadLetters != 5 {
				t.Fatalf("it is %s: %+v, %d letters", job.State, job.LastError, job.Progress.DeadLetters)
			}
			if records {
				var before []event.Event
				for _, e := range good {
					if e.ID.Less(bad[5].ID) {
						before = append(before, e)
					}
				}
				b.want(before)
			}
			b.target.poison = nil
			if _, err := b.jobs.Retry(t.Context(), job.ID, jobs.Change{}); err != nil {
				t.Fatal(err)
			}
			if job = b.run(job.ID); job.State != jobs.Succeeded || job.Progress.Selected != 1200 || job.Progress.DeadLetters != 5 {
				t.Fatalf("it is %s: %v, %+v", job.State, job.LastError, job.Progress)
			}
			b.target.got, b.target.position, b.target.epoch = nil, replay.Position{}, 0
			retry, err := b.svc.RetryDeadLetters(t.Context(), job.ID, nil, replay.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if again := b.run(retry.ID); again.State != jobs.Succeeded {
				t.Fatalf("it is %s: %v", again.State, again.LastError)
			}
			b.want(bad[:5])
			for d, err := range b.svc.DeadLetters(t.Context(), job.ID, "") {
				t.Errorf("%v is left, %v", d, err)
			}
		})
	}
}

// An event that a predicate cannot be evaluated for is set aside, and the others
// are replayed.
func TestPredicateErrors(t *testing.T) {
	b := newBench(t)
	var events []event.Event
	for i := range 30 {
		e := made(at(time.Hour-time.Duration(i)*time.Second), "Paid", "t", i)
		if i == 7 || i == 29 {
			e.Fields[4].Value = []byte(`{"total":"many"}`)
		}
		events = append(events, e)
	}
	b.put("a", events...)
	job := b.run(b.create(replay.Spec{Filter: event.Filter{Where: "payload.total >= 10"}, Failures: replay.FailurePolicy{MaxDeadLetters: 2}}).ID)
	if job.State != jobs.Succeeded || job.Progress.DeadLetters != 2 || job.Progress.Done != 30 || job.Progress.Selected != 21 {
		t.Fatalf("it is %s: %v %+v", job.State, job.LastError, job.Progress)
	}
	b.want(events[10:29])
}

// A sink that is fenced gives the job up.
func TestFenced(t *testing.T) {
	b := newBench(t)
	b.fill("a", 100, time.Hour, time.Second)
	b.target.epoch = 1000
	id := b.create(replay.Spec{}).ID
	if _, err := b.try(t.Context(), b.store, id); !errors.Is(err, jobs.ErrLeaseLost) {
		t.Fatalf("the error is %v", err)
	}
	if len(b.target.got) != 0 {
		t.Errorf("%d events were written", len(b.target.got))
	}
}

// A worker that lost its job, and does not know it yet, does not open the target
// again: the other one may have ended the job, and its fence be gone.
func TestStaleWorkerOpensNothing(t *testing.T) {
	b := newBench(t)
	b.fill("a", 2500, time.Hour, time.Second)
	id := b.create(replay.Spec{Failures: replay.FailurePolicy{Retry: replay.RetryPolicy{Initial: time.Microsecond, Max: time.Microsecond}}}).ID
	b.target.fault = func(n int, _ bool) error {
		if n == 1 {
			return nil
		}
		b.steal(id)
		return fmt.Errorf("the connection broke: %w", replay.ErrUnavailable)
	}
	if _, err := b.try(t.Context(), b.store, id); !errors.Is(err, jobs.ErrLeaseLost) {
		t.Errorf("the error is %v", err)
	}
	if b.target.opens != 1 {
		t.Errorf("the target was opened %d times", b.target.opens)
	}
}

// steal gives a job to another worker.
func (b *bench) steal(id string) {
	b.t.Helper()
	key := "jobs/active/" + id + ".json"
	body, _, err := b.store.Get(b.t.Context(), key, objectstore.ByteRange{})
	if err != nil {
		b.t.Fatal(err)
	}
	var j jobs.Job
	err = errors.Join(json.NewDecoder(body).Decode(&j), body.Close())
	j.Epoch, j.Nonce, j.Lease.Worker = j.Epoch+1, "stolen", "other"
	text, encodeErr := json.Marshal(j)
	if err := errors.Join(err, encodeErr); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.store.Put(b.t.Context(), key, bytes.NewReader(text), objectstore.Always); err != nil {
		b.t.Fatal(err)
	}
}

// A target that lost what it had gets it again.
func TestTargetLosesEvents(t *testing.T) {
	b := newBench(t)
	events := b.fill("a", 5500, 50*time.Minute, 100*time.Millisecond)
	lost := false
	b.target.fault = func(n int, after bool) error {
		if len(b.target.got) >= 1500 && !after && !lost {
			lost = true
			b.target.got = b.target.got[:1500]
			b.target.position = b.target.got[1499].Position
			return fmt.Errorf("restarted: %w", replay.ErrUnavailable)
		}
		return nil
	}
	job := b.replay(replay.Spec{Limit: 5000, Failures: replay.FailurePolicy{Retry: replay.RetryPolicy{Initial: time.Millisecond}}})
	b.want(events[:5000])
	if job.Progress.Done != 5000 {
		t.Errorf("progress is %+v", job.Progress)
	}
}

// With a bound the target is asked before every batch, and no batch is larger
// than the bound: what a slow reader has before it passes the bound by no more
// than one.
func TestPressure(t *testing.T) {
	b := newBench(t)
	b.fill("a", 1500, time.Hour, time.Millisecond)
	const bound = 100
	read, most, held := 0, 0, 0
	start := time.Now()
	b.target.pressure = func() (string, error) {
		read = min(len(b.target.got), int(time.Since(start).Seconds()*2000))
		if lag := len(b.target.got) - read; lag > bound {
			held++
			return fmt.Sprintf("the lag is %d", lag), nil
		}
		return "", nil
	}
	b.target.fault = func(_ int, after bool) error {
		if after {
			most = max(most, len(b.target.got)-read)
		}
		return nil
	}
	job := b.replay(replay.Spec{BackPressure: replay.BackPressure{Group: "g", MaxLag: bound}})
	if len(b.target.got) != 1500 || most > 2*bound || held == 0 || job.Progress.Holding != "" {
		t.Errorf("%d events, the lag was %d, held %d times", len(b.target.got), most, held)
	}
}
