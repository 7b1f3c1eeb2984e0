package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
)

// engine is an Engine of two functions; nil ones are done at once.
type engine struct {
	run, cancel func(context.Context, *jobs.Handle) error
}

func (e engine) Run(ctx context.Context, h *jobs.Handle) error {
	if e.run == nil {
		return nil
	}
	return e.run(ctx, h)
}

func (e engine) Cancel(ctx context.Context, h *jobs.Handle) error {
	if e.cancel == nil {
		return nil
	}
	return e.cancel(ctx, h)
}

// untilStopped is an engine that works until it is told to stop.
func untilStopped(ctx context.Context, _ *jobs.Handle) error {
	<-ctx.Done()
	return fmt.Errorf("stopped: %w", context.Cause(ctx))
}

func newRunner(t *testing.T, s *jobs.Store, e jobs.Engine, opts jobs.RunnerOptions) *jobs.Runner {
	t.Helper()
	opts.Engines = map[string]jobs.Engine{"test": e}
	return must[*jobs.Runner](t)(jobs.NewRunner(s, opts))
}

// start runs a Runner until the test, or what it returns, ends it.
func start(t *testing.T, r *jobs.Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// onTime runs a test on synthetic time.
func onTime(t *testing.T, test func(t *testing.T, objects *memory, s *jobs.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		objects := newMemory()
		test(t, objects, jobs.NewStore(objects, jobs.StoreOptions{}))
	})
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // synthetic time
	synctest.Wait()
}

func TestRunnerOptions(t *testing.T) {
	s := jobs.NewStore(newMemory(), jobs.StoreOptions{})
	for name, o := range map[string]jobs.RunnerOptions{
		"no engines":  {},
		"concurrency": {Engines: map[string]jobs.Engine{"test": engine{}}, Concurrency: -1},
		"lease":       {Engines: map[string]jobs.Engine{"test": engine{}}, LeaseTTL: -1},
	} {
		if _, err := jobs.NewRunner(s, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSuccess(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, s *jobs.Store) {
		j := create(t, s, jobs.New{Target: "x"})
		reg := prometheus.NewRegistry()
		start(t, newRunner(t, s, engine{run: func(_ context.Context, h *jobs.Handle) error {
			for i := range uint64(120) {
				h.Report(func(p *jobs.Progress) {
					p.Phase, p.Done, p.Total, p.Position = "copying", i, 120, fmt.Sprint(i)
					p.Streams = []jobs.StreamProgress{{Stream: "s", Done: i}}
				})
				if err := h.SetCheckpoint(map[string]uint64{"next": i}); err != nil {
					return err
				}
				time.Sleep(time.Second) //nolint:forbidigo // synthetic time
			}
			h.Log("warn", "nearly done")
			return nil
		}}, jobs.RunnerOptions{Registerer: reg}))
		pass(60500 * time.Millisecond)
		got := get(t, s, j.ID)
		wantState(t, got, jobs.Running)
		p := got.Progress
		if p.Done < 54 || p.Rate < 0.95 || p.Rate > 1.05 || p.Left < 55*time.Second || p.Left > 70*time.Second {
			t.Errorf("after a minute: %+v", p)
		}
		if got.Epoch != 1 || got.Lease == nil || time.Since(got.Lease.Renewed) > 5*time.Second {
			t.Errorf("epoch %d, lease %+v", got.Epoch, got.Lease)
		}
		pass(time.Minute)
		got = get(t, s, j.ID)
		wantState(t, got, jobs.Succeeded)
		if got.Lease != nil || got.ClosedAt.IsZero() || got.Progress.Rate != 0 || string(got.Checkpoint) != `{"next":119}` {
			t.Errorf("ended as %s", asJSON(t, got))
		}
		if n := len(got.Log); n != 4 || got.Log[2].Message != "nearly done" || got.Log[3].Message != "succeeded" {
			t.Errorf("log: %+v", got.Log)
		}
		if keys := objects.keys("jobs/active/"); len(keys) != 0 {
			t.Errorf("still active: %v", keys)
		}
		want := []string{"jobs/ended/2000-01/" + j.ID + ".test.succeeded.json"}
		if keys := objects.keys("jobs/ended/"); len(keys) != 1 || keys[0] != want[0] {
			t.Errorf("ended: %v, want %v", keys, want)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "reservoir_jobs_attempts_total" && f.Metric[0].GetCounter().GetValue() != 1 || len(families) < 3 {
				t.Errorf("metrics: %v", families)
			}
		}
	})
}

// TestPeople: what people ask of a running job reaches its engine, and meets
// what the worker writes meanwhile.
func TestPeople(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		ctx := t.Context()
		var cause atomic.Value
		var cleaned atomic.Int32
		run := func(ctx context.Context, h *jobs.Handle) error {
			h.Report(func(p *jobs.Progress) { p.Done++ })
			<-ctx.Done()
			cause.Store(context.Cause(ctx))
			time.Sleep(3 * time.Second) //nolint:forbidigo // synthetic time: to come to an end
			if err := h.SetCheckpoint("stopped"); err != nil {
				return err
			}
			return context.Cause(ctx)
		}
		clean := func(context.Context, *jobs.Handle) error { cleaned.Add(1); return nil }
		start(t, newRunner(t, s, engine{run, clean}, jobs.RunnerOptions{}))
		j := create(t, s, jobs.New{})
		pass(5 * time.Second)
		wantState(t, get(t, s, j.ID), jobs.Running)
		must[*jobs.Job](t)(s.Pause(ctx, j.ID, jobs.Change{By: "ann", Reason: "too fast"}))
		pass(2 * time.Second)
		got := get(t, s, j.ID)
		wantState(t, got, jobs.Paused)
		if got.Lease == nil || !errors.Is(cause.Load().(error), jobs.ErrPaused) {
			t.Errorf("2 s after: lease %+v, cause %v", got.Lease, cause.Load())
		}
		pass(4 * time.Second)
		got = get(t, s, j.ID)
		wantState(t, got, jobs.Paused)
		if got.Lease != nil || got.StateReason != "too fast" || string(got.Checkpoint) != `"stopped"` || got.Progress.Done != 1 {
			t.Errorf("6 s after: %s", asJSON(t, got))
		}
		pass(time.Hour)
		wantState(t, get(t, s, j.ID), jobs.Paused)

		must[*jobs.Job](t)(s.Resume(ctx, j.ID, jobs.Change{}))
		pass(3 * time.Second)
		got = get(t, s, j.ID)
		wantState(t, got, jobs.Running)
		if got.Epoch != 2 || got.Attempt != 0 {
			t.Errorf("resumed with epoch %d, attempt %d", got.Epoch, got.Attempt)
		}
		must[*jobs.Job](t)(s.Cancel(ctx, j.ID, jobs.Change{Reason: "wrong range"}))
		pass(10 * time.Second)
		got = get(t, s, j.ID)
		wantState(t, got, jobs.Cancelled)
		if cleaned.Load() != 1 || !errors.Is(cause.Load().(error), jobs.ErrCancelled) || got.Epoch != 2 || got.StateReason != "wrong range" {
			t.Errorf("cleaned %d times, cause %v: %s", cleaned.Load(), cause.Load(), asJSON(t, got))
		}
		if _, err := s.Resume(ctx, j.ID, jobs.Change{}); !errors.Is(err, jobs.ErrState) {
			t.Errorf("resume of a cancelled job: %v", err)
		}
		// A job that never ran is cleaned up too.
		j = create(t, s, jobs.New{Paused: true})
		must[*jobs.Job](t)(s.Cancel(ctx, j.ID, jobs.Change{}))
		pass(5 * time.Second)
		wantState(t, get(t, s, j.ID), jobs.Cancelled)
		if cleaned.Load() != 2 {
			t.Errorf("cleaned %d times", cleaned.Load())
		}
	})
}

// TestPauseAndResumeAtOnce: between two looks of the worker a job was paused and
// resumed; it stops, and a worker takes it again.
func TestPauseAndResumeAtOnce(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		start(t, newRunner(t, s, engine{run: untilStopped}, jobs.RunnerOptions{}))
		j := create(t, s, jobs.New{})
		pass(5 * time.Second)
		must[*jobs.Job](t)(s.Pause(t.Context(), j.ID, jobs.Change{}))
		must[*jobs.Job](t)(s.Resume(t.Context(), j.ID, jobs.Change{}))
		pass(6 * time.Second)
		got := get(t, s, j.ID)
		wantState(t, got, jobs.Running)
		if got.Epoch != 2 {
			t.Errorf("epoch %d", got.Epoch)
		}
	})
}

func TestFailures(t *testing.T) {
	down := remedy.Wrap(errors.New("connection refused"), "start the server")
	tests := map[string]struct {
		err      error
		panics   bool
		state    jobs.State
		reason   string
		attempts int
		took     time.Duration // at most
	}{
		"any":      {err: down, state: jobs.Failed, reason: "connection refused", attempts: 1, took: 3 * time.Second},
		"pause":    {err: fmt.Errorf("circuit breaker: %w", jobs.Pause("target is down")), state: jobs.Paused, reason: "circuit breaker: target is down", took: 3 * time.Second},
		"retry":    {err: fmt.Errorf("batch 7: %w", jobs.Retry(down)), state: jobs.Failed, reason: "4 attempts failed; the last: batch 7: connection refused", attempts: 4, took: 20 * time.Second},
		"panic":    {panics: true, state: jobs.Failed, reason: "the engine panicked: oh", attempts: 1, took: 3 * time.Second},
		"no error": {state: jobs.Succeeded, took: 3 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
				ran := 0
				e := engine{run: func(context.Context, *jobs.Handle) error {
					ran++
					if test.panics {
						panic("oh")
					}
					return test.err
				}}
				start(t, newRunner(t, s, e, jobs.RunnerOptions{MaxAttempts: 4}))
				j := create(t, s, jobs.New{})
				pass(test.took)
				got := get(t, s, j.ID)
				wantState(t, got, test.state)
				if got.StateReason != test.reason || got.Lease != nil || ran != max(1, test.attempts) || got.Attempt != test.attempts {
					t.Errorf("ran %d times: %s", ran, asJSON(t, got))
				}
				if test.attempts == 0 {
					return
				}
				if test.panics != (got.LastError.Remedy == "") || got.LastError.Attempt != test.attempts {
					t.Errorf("last error %+v", got.LastError)
				}
				retried := must[*jobs.Job](t)(s.Retry(t.Context(), j.ID, jobs.Change{}))
				if retried.Attempt != 0 || !retried.EndedAt.IsZero() {
					t.Errorf("retried: %+v", retried)
				}
				pass(test.took)
				wantState(t, get(t, s, j.ID), jobs.Failed)
				if ran != 2*test.attempts {
					t.Errorf("ran %d times", ran)
				}
			})
		})
	}
}

// TestProgressForgivesFailures: a job that gets on between failures never runs
// out of attempts.
func TestProgressForgivesFailures(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		e := engine{run: func(_ context.Context, h *jobs.Handle) error {
			h.Report(func(p *jobs.Progress) { p.Done++ })
			if h.Job().Progress.Done < 30 {
				return jobs.Retry(errors.New("connection reset"))
			}
			return nil
		}}
		start(t, newRunner(t, s, e, jobs.RunnerOptions{MaxAttempts: 2}))
		j := create(t, s, jobs.New{})
		pass(2 * time.Minute)
		wantState(t, get(t, s, j.ID), jobs.Succeeded)
	})
}

// TestDeadWorkersProgressForgivesFailures: what a worker got done counts too when it dies
// before it can say how it ended.
func TestDeadWorkersProgressForgivesFailures(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		var runs int
		e := engine{run: func(ctx context.Context, h *jobs.Handle) error {
			if runs++; runs%2 == 1 {
				return jobs.Retry(errors.New("connection reset"))
			}
			h.Report(func(p *jobs.Progress) { p.Done++ })
			if h.Job().Progress.Done == 10 {
				return nil
			}
			if err := h.Save(ctx); err != nil {
				t.Error(err)
			}
			return jobs.ErrLeaseLost
		}}
		start(t, newRunner(t, s, e, jobs.RunnerOptions{MaxAttempts: 2}))
		j := create(t, s, jobs.New{})
		pass(10 * time.Minute)
		wantState(t, get(t, s, j.ID), jobs.Succeeded)
	})
}

// TestCancelThatFails: a job that cannot be cleaned up is cancelled all the same
// in the end, and says so.
func TestCancelThatFails(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		ran := 0
		start(t, newRunner(t, s, engine{cancel: func(context.Context, *jobs.Handle) error {
			ran++
			return errors.New("no route to host")
		}}, jobs.RunnerOptions{MaxAttempts: 3}))
		j := create(t, s, jobs.New{Paused: true})
		must[*jobs.Job](t)(s.Cancel(t.Context(), j.ID, jobs.Change{}))
		pass(3 * time.Second)
		wantState(t, get(t, s, j.ID), jobs.Cancelling)
		pass(time.Minute)
		got := get(t, s, j.ID)
		wantState(t, got, jobs.Cancelled)
		if ran != 3 || got.StateReason != "cleaning up failed: no route to host" {
			t.Errorf("ran %d times: %s", ran, got.StateReason)
		}
	})
}

func TestShutdown(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		e := engine{run: untilStopped}
		stop := start(t, newRunner(t, s, e, jobs.RunnerOptions{Worker: "one"}))
		j := create(t, s, jobs.New{Target: "x"})
		pass(5 * time.Second)
		began := time.Now()
		stop()
		stop()
		got := get(t, s, j.ID)
		wantState(t, got, jobs.Pending)
		if got.Lease != nil || got.Attempt != 0 || time.Since(began) > time.Second {
			t.Errorf("after %v: %s", time.Since(began), asJSON(t, got))
		}
		start(t, newRunner(t, s, e, jobs.RunnerOptions{Worker: "two"}))
		pass(time.Second)
		got = get(t, s, j.ID)
		wantState(t, got, jobs.Running)
		if got.Epoch != 2 || got.Lease.Worker != "two" {
			t.Errorf("then: epoch %d, %+v", got.Epoch, got.Lease)
		}
	})
}

// TestTakeOver: the store of a worker stops to answer it. It stops its engine
// before another worker takes the job over, and writes nothing any more.
func TestTakeOver(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, s *jobs.Store) {
		var broken atomic.Bool
		flaky := faulty.New(objects, func(faulty.Step) faulty.Fault {
			if broken.Load() {
				return faulty.Fault{Err: errors.New("no answer")}
			}
			return faulty.Fault{}
		})
		var stopped atomic.Value
		var handle atomic.Pointer[jobs.Handle]
		stale := engine{run: func(ctx context.Context, h *jobs.Handle) error {
			handle.Store(h)
			<-ctx.Done()
			stopped.Store(time.Now())
			if !errors.Is(context.Cause(ctx), jobs.ErrLeaseLost) {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			return context.Cause(ctx)
		}}
		start(t, newRunner(t, jobs.NewStore(flaky, jobs.StoreOptions{}), stale, jobs.RunnerOptions{Worker: "stale"}))
		j := create(t, s, jobs.New{Target: "x"})
		pass(5 * time.Second)
		var taken atomic.Value
		fresh := engine{run: func(ctx context.Context, h *jobs.Handle) error {
			taken.Store(time.Now())
			if h.Epoch() != 2 {
				t.Errorf("epoch %d", h.Epoch())
			}
			return untilStopped(ctx, h)
		}}
		start(t, newRunner(t, s, fresh, jobs.RunnerOptions{Worker: "fresh"}))
		pass(time.Minute)
		if taken.Load() != nil {
			t.Fatal("taken over from a worker that lives")
		}
		broken.Store(true)
		pass(25 * time.Second)
		got := get(t, s, j.ID)
		if got.Lease == nil || got.Lease.Worker != "fresh" || got.Epoch != 2 {
			t.Fatalf("not taken over: %s", asJSON(t, got))
		}
		if gap := taken.Load().(time.Time).Sub(stopped.Load().(time.Time)); gap < time.Second {
			t.Errorf("taken over %v after the engine was stopped", gap)
		}
		broken.Store(false) // it comes back
		if err := handle.Load().Save(t.Context()); !errors.Is(err, jobs.ErrLeaseLost) {
			t.Errorf("save of a stale worker: %v", err)
		}
		pass(time.Minute)
		got = get(t, s, j.ID)
		if got.Lease.Worker != "fresh" || got.Epoch != 2 {
			t.Errorf("afterwards: %s", asJSON(t, got))
		}
	})
}

// TestStaleWorker: a worker that was stopped past its lease finds out at its
// next write, whatever its own clock says.
func TestStaleWorker(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		cause := make(chan error, 1)
		e := engine{run: func(ctx context.Context, h *jobs.Handle) error {
			j := h.Job()
			other := newRunner(t, s, engine{run: func(ctx context.Context, _ *jobs.Handle) error { return nil }}, jobs.RunnerOptions{Worker: "two"})
			stolen := steal(t, s, other, &j)
			if stolen.Epoch != 2 {
				t.Errorf("epoch %d", stolen.Epoch)
			}
			if err := h.Save(ctx); !errors.Is(err, jobs.ErrLeaseLost) {
				t.Errorf("save: %v", err)
			}
			cause <- context.Cause(ctx)
			return nil
		}}
		start(t, newRunner(t, s, e, jobs.RunnerOptions{Worker: "one", LeaseTTL: time.Hour, Poll: time.Minute}))
		j := create(t, s, jobs.New{})
		pass(time.Minute)
		if err := <-cause; !errors.Is(err, jobs.ErrLeaseLost) {
			t.Errorf("cause %v", err)
		}
		pass(time.Second)
		got := get(t, s, j.ID)
		wantState(t, got, jobs.Succeeded)
		if got.Epoch != 2 {
			t.Errorf("epoch %d", got.Epoch)
		}
	})
}

// TestStaleWorkerMeetsAnother: a worker whose job another one has by now writes
// nothing, neither a heartbeat nor how its attempt ended.
func TestStaleWorkerMeetsAnother(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		var saved error
		e := engine{run: func(ctx context.Context, h *jobs.Handle) error {
			if err := s.Steal(ctx, h.Job().ID, "two"); err != nil {
				t.Error(err)
			}
			h.Report(func(p *jobs.Progress) { p.Done = 7 })
			saved = h.Save(ctx)
			return nil
		}}
		stop := start(t, newRunner(t, s, e, jobs.RunnerOptions{Worker: "one"}))
		j := create(t, s, jobs.New{})
		pass(10 * time.Second)
		stop()
		got := get(t, s, j.ID)
		wantState(t, got, jobs.Running)
		if !errors.Is(saved, jobs.ErrLeaseLost) || got.Lease == nil || got.Lease.Worker != "two" || got.Epoch != 2 || got.Progress.Done != 0 {
			t.Errorf("saved: %v; %s", saved, asJSON(t, got))
		}
	})
}

// steal lets a runner run a job that another one believes to have: its lease is
// written off.
func steal(t *testing.T, s *jobs.Store, r *jobs.Runner, j *jobs.Job) *jobs.Job {
	t.Helper()
	if err := s.DropLease(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	return must[*jobs.Job](t)(r.RunOne(t.Context(), j.ID))
}

// TestDamagedDoNotStopOthers: a runner leaves what it cannot read alone.
func TestDamagedDoNotStopOthers(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, s *jobs.Store) {
		bad := "jobs/active/" + jobs.NewID() + ".json"
		objects.objects[bad] = []byte("{")
		j := create(t, s, jobs.New{})
		start(t, newRunner(t, s, engine{}, jobs.RunnerOptions{}))
		pass(10 * time.Second)
		wantState(t, get(t, s, j.ID), jobs.Succeeded)
		if string(objects.objects[bad]) != "{" {
			t.Error("it was changed")
		}
	})
}

// TestLimits: jobs by kind in a worker, and by target over workers.
func TestLimits(t *testing.T) {
	for _, per := range []int{1, 2} {
		onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
			var mu sync.Mutex
			at := map[string]int{} // running by target and by worker
			most := map[string]int{}
			count := func(name string, by int) {
				mu.Lock()
				defer mu.Unlock()
				at[name] += by
				most[name] = max(most[name], at[name])
			}
			for _, worker := range []string{"one", "two", "three"} {
				e := engine{run: func(ctx context.Context, h *jobs.Handle) error {
					for _, name := range []string{worker, h.Job().Target} {
						count(name, 1)
						defer count(name, -1)
					}
					time.Sleep(7 * time.Second) //nolint:forbidigo // synthetic time
					return nil
				}}
				start(t, newRunner(t, s, e, jobs.RunnerOptions{Worker: worker, Concurrency: 4, PerTarget: per}))
			}
			for i := range 60 {
				create(t, s, jobs.New{Target: fmt.Sprint("t", i%4)})
			}
			pass(5 * time.Minute)
			if got := list(t, s, jobs.Query{States: []jobs.State{jobs.Succeeded}}); len(got) != 60 {
				t.Errorf("%d jobs succeeded", len(got))
			}
			for i := range 4 {
				if n := most[fmt.Sprint("t", i)]; n != per {
					t.Errorf("up to %d jobs of a target ran at once, want %d", n, per)
				}
			}
			for _, worker := range []string{"one", "two", "three"} {
				if most[worker] > 4 {
					t.Errorf("up to %d jobs ran at once on %s", most[worker], worker)
				}
			}
		})
	}
}

// TestSlotOfADeadJob: a slot whose job will never run is taken.
func TestSlotOfADeadJob(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, s *jobs.Store) {
		first := create(t, s, jobs.New{Target: "x"})
		ran := false
		e := engine{run: func(ctx context.Context, h *jobs.Handle) error {
			ran = h.Job().ID != first.ID
			return untilStopped(ctx, h)
		}}
		// It takes the slot, and crashes before it acquires the job.
		crashing := faulty.New(objects, func(step faulty.Step) faulty.Fault {
			return faulty.Fault{Crash: step.Op == faulty.Put && step.Key == "jobs/active/"+first.ID+".json"}
		})
		stop := start(t, newRunner(t, jobs.NewStore(crashing, jobs.StoreOptions{}), e, jobs.RunnerOptions{}))
		pass(5 * time.Second)
		stop()
		if len(objects.keys("jobs/slots/")) != 1 || !crashing.Crashed() {
			t.Fatal("the slot was not taken")
		}
		must[*jobs.Job](t)(s.Pause(t.Context(), first.ID, jobs.Change{}))
		create(t, s, jobs.New{Target: "x"})
		start(t, newRunner(t, s, e, jobs.RunnerOptions{}))
		pass(3 * time.Second)
		if !ran {
			t.Error("the second job does not run")
		}
	})
}

// TestSlotOfAResumedJob: the job that holds the slot lost its worker, was paused
// and resumed, and stands behind another one.
func TestSlotOfAResumedJob(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, s *jobs.Store) {
		var killed atomic.Bool
		mortal := faulty.New(objects, func(faulty.Step) faulty.Fault { return faulty.Fault{Crash: killed.Load()} })
		first := create(t, s, jobs.New{Target: "x", Paused: true})
		pass(time.Millisecond)
		second := create(t, s, jobs.New{Target: "x"})
		start(t, newRunner(t, jobs.NewStore(mortal, jobs.StoreOptions{}), engine{run: untilStopped}, jobs.RunnerOptions{}))
		pass(5 * time.Second)
		killed.Store(true)
		must[*jobs.Job](t)(s.Pause(t.Context(), second.ID, jobs.Change{}))
		must[*jobs.Job](t)(s.Resume(t.Context(), second.ID, jobs.Change{}))
		must[*jobs.Job](t)(s.Resume(t.Context(), first.ID, jobs.Change{}))
		start(t, newRunner(t, s, engine{}, jobs.RunnerOptions{}))
		pass(time.Minute)
		for _, id := range []string{first.ID, second.ID} {
			wantState(t, get(t, s, id), jobs.Succeeded)
		}
	})
}

// TestGhost: a Create that hung writes the first revision of a job that has ended
// meanwhile. It does not run once more.
func TestGhost(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, s *jobs.Store) {
		ran := 0
		start(t, newRunner(t, s, engine{run: func(context.Context, *jobs.Handle) error { ran++; return nil }}, jobs.RunnerOptions{}))
		j := create(t, s, jobs.New{IdempotencyKey: "k"})
		pass(5 * time.Second)
		wantState(t, get(t, s, j.ID), jobs.Succeeded)
		put(t, objects, "jobs/active/"+j.ID+".json", j)
		pass(5 * time.Second)
		wantState(t, get(t, s, j.ID), jobs.Succeeded)
		if ran != 1 || len(objects.keys("jobs/active/")) != 0 {
			t.Errorf("ran %d times; active: %v", ran, objects.keys("jobs/active/"))
		}
	})
}

// TestMerge: a person's change between two heartbeats, and the answer of the
// heartbeat lost: everything is in the document, once.
func TestMerge(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, s *jobs.Store) {
		var lose atomic.Bool
		flaky := faulty.New(objects, func(step faulty.Step) faulty.Fault {
			if lose.Load() && step.Op != faulty.List { // the write has its effect, and nothing can be read back
				return faulty.Fault{Err: errors.New("connection reset"), After: true}
			}
			return faulty.Fault{}
		})
		e := engine{run: func(ctx context.Context, h *jobs.Handle) error {
			h.Log("info", "one")
			h.Report(func(p *jobs.Progress) { p.Done = 1 })
			lose.Store(true)
			if err := h.Save(ctx); err == nil {
				t.Error("saved although the answer was lost")
			}
			must[*jobs.Job](t)(s.Pause(ctx, h.Job().ID, jobs.Change{By: "ann"}))
			lose.Store(false)
			h.Log("info", "two")
			h.Report(func(p *jobs.Progress) { p.Done = 2 })
			if err := h.Save(ctx); err != nil {
				t.Error(err)
			}
			if !errors.Is(context.Cause(ctx), jobs.ErrPaused) {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			return context.Cause(ctx)
		}}
		start(t, newRunner(t, jobs.NewStore(flaky, jobs.StoreOptions{}), e, jobs.RunnerOptions{}))
		j := create(t, s, jobs.New{})
		pass(3 * time.Second)
		got := get(t, s, j.ID)
		wantState(t, got, jobs.Paused)
		var log []string
		for _, e := range got.Log {
			log = append(log, e.Message)
		}
		want := "[created a worker took it one paused two its worker left it]"
		if fmt.Sprint(log) != want || got.Progress.Done != 2 || got.Lease != nil {
			t.Errorf("%s: log %v, want %v", asJSON(t, got), log, want)
		}
	})
}

// TestKeepFailed: a failed job can be retried for a while, then it is cleaned up
// and closed.
func TestKeepFailed(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, _ *jobs.Store) {
		s := jobs.NewStore(objects, jobs.StoreOptions{KeepFailed: 24 * time.Hour})
		var mu sync.Mutex
		var epochs []uint64
		cleaned := func() string {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprint(epochs)
		}
		e := engine{run: func(context.Context, *jobs.Handle) error { return errors.New("no") }, cancel: func(_ context.Context, h *jobs.Handle) error {
			mu.Lock()
			defer mu.Unlock()
			if epochs = append(epochs, h.Epoch()); len(epochs) == 1 {
				return errors.New("not now")
			}
			return nil
		}}
		start(t, newRunner(t, s, e, jobs.RunnerOptions{Poll: time.Minute}))
		j := create(t, s, jobs.New{})
		pass(23 * time.Hour)
		failed := get(t, s, j.ID)
		if failed.State != jobs.Failed || !failed.ClosedAt.IsZero() || cleaned() != "[]" {
			t.Fatalf("after 23 h: cleaned up %s, %s", cleaned(), asJSON(t, failed))
		}
		pass(2 * time.Hour)
		if got := get(t, s, j.ID); got.State != jobs.Failed || got.ClosedAt.IsZero() || len(objects.keys("jobs/active/")) != 0 {
			t.Errorf("after 25 h: %s", asJSON(t, got))
		} else if cleaned() != "[2 3]" || got.StateReason != "no" || got.LastError.Message != "no" || !got.EndedAt.Equal(failed.EndedAt) {
			t.Errorf("after 25 h: cleaned up in epochs %s, %s", cleaned(), asJSON(t, got))
		}
		if _, err := s.Retry(t.Context(), j.ID, jobs.Change{}); !errors.Is(err, jobs.ErrState) || remedy.Of(err) != "create a new job" {
			t.Errorf("retry: %v", err)
		}
	})
}

// TestKeepEnded: a job is there for as long as was promised, and then no more.
func TestKeepEnded(t *testing.T) {
	onTime(t, func(t *testing.T, objects *memory, _ *jobs.Store) {
		s := jobs.NewStore(objects, jobs.StoreOptions{KeepEnded: 48 * time.Hour})
		start(t, newRunner(t, s, engine{}, jobs.RunnerOptions{Poll: time.Minute}))
		j := create(t, s, jobs.New{})
		pass(47 * time.Hour)
		wantState(t, get(t, s, j.ID), jobs.Succeeded)
		pass(3 * time.Hour)
		if _, err := s.Get(t.Context(), j.ID); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("after 50 hours: %v", err)
		}
	})
}

func TestRunOne(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		ctx := t.Context()
		n := 0
		reported := 0
		r := newRunner(t, s, engine{run: func(_ context.Context, h *jobs.Handle) error {
			h.Report(func(p *jobs.Progress) { p.Done = 5 })
			if n++; n < 3 {
				return jobs.Retry(errors.New("not yet"))
			}
			return nil
		}}, jobs.RunnerOptions{Reported: func(j jobs.Job) { reported += int(j.Progress.Done) }})
		j := create(t, s, jobs.New{Paused: true, Target: "x"})
		got := must[*jobs.Job](t)(r.RunOne(ctx, j.ID))
		wantState(t, got, jobs.Succeeded)
		if n != 3 || reported != 15 {
			t.Errorf("ran %d times, reported %d", n, reported)
		}
		if _, err := r.RunOne(ctx, j.ID); !errors.Is(err, jobs.ErrState) {
			t.Errorf("once more: %v", err)
		}

		// Another worker has it, and lives.
		stop := start(t, newRunner(t, s, engine{run: untilStopped}, jobs.RunnerOptions{Worker: "other"}))
		j = create(t, s, jobs.New{Target: "x"})
		pass(5 * time.Second)
		if _, err := r.RunOne(ctx, j.ID); !errors.Is(err, jobs.ErrHeld) || remedy.Of(err) == "" {
			t.Errorf("a job of another worker: %v", err)
		}
		// The target has no room until that one is done.
		waits := create(t, s, jobs.New{Target: "x", Paused: true})
		go func() { pass(20 * time.Second); stop() }()
		began := time.Now()
		wantState(t, must[*jobs.Job](t)(r.RunOne(ctx, waits.ID)), jobs.Succeeded)
		if time.Since(began) < 20*time.Second {
			t.Errorf("ran after %v", time.Since(began))
		}
		// The end of the context gives the job back.
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		slow := newRunner(t, s, engine{run: untilStopped}, jobs.RunnerOptions{})
		if _, err := slow.RunOne(short, j.ID); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("run past the end: %v", err)
		}
		if got := get(t, s, j.ID); got.State != jobs.Pending || got.Lease != nil {
			t.Errorf("then: %s", asJSON(t, got))
		}
	})
}

func TestWatch(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		j := create(t, s, jobs.New{})
		go func() {
			pass(10 * time.Second)
			r := newRunner(t, s, engine{run: func(_ context.Context, h *jobs.Handle) error {
				time.Sleep(12 * time.Second) //nolint:forbidigo // synthetic time
				return nil
			}}, jobs.RunnerOptions{})
			must[*jobs.Job](t)(r.RunOne(t.Context(), j.ID))
		}()
		var states []jobs.State
		for j, err := range s.Watch(t.Context(), j.ID, time.Second) {
			if err != nil {
				t.Fatal(err)
			}
			states = append(states, j.State)
		}
		if got := fmt.Sprint(states); got != "[pending running running running succeeded]" {
			t.Errorf("saw %s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, err := range s.Watch(ctx, create(t, s, jobs.New{}).ID, time.Second) {
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
	})
}

// testWorkers: three workers share jobs on a real store and real time.
func testWorkers(t *testing.T, objects objectstore.Store) {
	s := jobs.NewStore(objects, jobs.StoreOptions{})
	var mu sync.Mutex
	epochs := map[string]bool{}
	e := engine{run: func(_ context.Context, h *jobs.Handle) error {
		mu.Lock()
		defer mu.Unlock()
		key := fmt.Sprint(h.Job().ID, h.Epoch())
		if epochs[key] {
			t.Errorf("%s ran twice", key)
		}
		epochs[key] = true
		return nil
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 3 {
		start(t, newRunner(t, s, e, jobs.RunnerOptions{Poll: 10 * time.Millisecond}))
	}
	var ids []string
	for i := range 20 {
		ids = append(ids, create(t, s, jobs.New{Target: fmt.Sprint(i % 5)}).ID)
	}
	for _, id := range ids {
		for j, err := range s.Watch(ctx, id, 10*time.Millisecond) {
			if err != nil {
				t.Fatal(err)
			}
			if j.State.Ended() {
				wantState(t, j, jobs.Succeeded)
			}
		}
	}
}
