package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
)

// moves is what happens in a run of TestModel, decided beforehand.
type moves struct {
	seed  uint64
	rates faulty.Rates
	steps []step
}

type step struct {
	after time.Duration
	what  string
	job   int // which one, modulo those there are
	ifOld bool
}

// TestModel lets people and workers do as they please, on a store that fails now
// and then, with workers that come, go and are killed. Whatever happens, every
// revision follows the rules (see checker), no two engines work on a job or on a
// target at the same time, and in the end every job that was not cancelled has
// written its items once.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := moves{
			seed: rapid.Uint64().Draw(rt, "seed"),
			rates: faulty.Rates{
				Before:   rapid.SampledFrom([]float64{0, 0.02, 0.1}).Draw(rt, "before"),
				After:    rapid.SampledFrom([]float64{0, 0.02, 0.1}).Draw(rt, "after"),
				MaxDelay: rapid.SampledFrom([]time.Duration{0, 300 * time.Millisecond}).Draw(rt, "delay"),
			},
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			m.steps = append(m.steps, step{
				after: time.Duration(rapid.IntRange(0, 8000).Draw(rt, "after")) * time.Millisecond,
				what: rapid.SampledFrom([]string{"create", "create paused", "pause", "resume", "cancel", "retry",
					"worker", "stop worker", "kill worker"}).Draw(rt, "what"),
				job:   rapid.IntRange(0, 9).Draw(rt, "job"),
				ifOld: rapid.IntRange(0, 9).Draw(rt, "old") == 0,
			})
		}
		var err error
		synctest.Test(t, func(t *testing.T) { err = m.run(t) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// world is what moves act on.
type world struct {
	objects *checker
	people  *jobs.Store
	to      *target
	jobs    []string
	workers []*worker
	ended   sync.WaitGroup
}

type worker struct {
	stop   context.CancelFunc
	killed chan struct{}
}

func (m *moves) run(t *testing.T) error {
	w := &world{objects: newChecker(), to: newTarget()}
	w.people = jobs.NewStore(w.objects, jobs.StoreOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer w.ended.Wait()
	defer cancel()
	for i, s := range m.steps {
		time.Sleep(s.after) //nolint:forbidigo // synthetic time
		if err := m.do(ctx, t, w, i, s); err != nil {
			return fmt.Errorf("step %d, %s: %w", i, s.what, err)
		}
	}
	// Then all is well, and everything comes to an end.
	w.start(ctx, t, "last", w.objects)
	for range 5 {
		for _, id := range w.jobs {
			_, err := w.people.Resume(ctx, id, jobs.Change{})
			_, err2 := w.people.Retry(ctx, id, jobs.Change{})
			if err := errors.Join(err, err2); err != nil && !errors.Is(err, jobs.ErrState) {
				return err
			}
		}
		time.Sleep(20 * time.Minute) //nolint:forbidigo // synthetic time
	}
	for _, id := range w.jobs {
		j, err := w.people.Get(ctx, id)
		if err == nil && j.State == jobs.Succeeded {
			err = w.to.complete(id, lifeItems)
		} else if err == nil && j.State != jobs.Cancelled {
			err = fmt.Errorf("job %s is %s in the end: %s\nslots: %s", id, j.State, asJSON(t, j), w.objects.contents("jobs/slots/"))
		}
		if err != nil {
			return err
		}
	}
	if keys := w.objects.keys("jobs/active/"); len(keys) > 0 {
		return fmt.Errorf("still active: %v", keys)
	}
	if len(w.to.found) > 0 {
		return errors.New(w.to.found[0])
	}
	return w.objects.err()
}

func (m *moves) do(ctx context.Context, t *testing.T, w *world, i int, s step) error {
	people := map[string]func(context.Context, string, jobs.Change) (*jobs.Job, error){
		"pause": w.people.Pause, "resume": w.people.Resume, "cancel": w.people.Cancel, "retry": w.people.Retry,
	}
	switch s.what {
	case "create", "create paused":
		j, err := w.people.Create(ctx, jobs.New{Kind: "test", Spec: 1, Target: fmt.Sprint("t", s.job%3), Paused: s.what != "create"})
		if err == nil {
			w.jobs = append(w.jobs, j.ID)
		}
		return err
	case "worker":
		if len(w.workers) < 3 {
			w.start(ctx, t, fmt.Sprint("worker", i), faulty.New(w.objects, faulty.Random(m.seed+uint64(i), m.rates)))
		}
	case "stop worker", "kill worker":
		if len(w.workers) > 0 {
			n := s.job % len(w.workers)
			if s.what == "kill worker" {
				close(w.workers[n].killed)
			} else {
				w.workers[n].stop()
			}
			w.workers = append(w.workers[:n], w.workers[n+1:]...)
		}
	default:
		if len(w.jobs) == 0 {
			return nil
		}
		c := jobs.Change{}
		if s.ifOld {
			c.IfMatch = "old"
		}
		if _, err := people[s.what](ctx, w.jobs[s.job%len(w.jobs)], c); !errors.Is(err, jobs.ErrState) && !errors.Is(err, jobs.ErrChanged) {
			return err
		}
	}
	return nil
}

// start starts a worker, whose engine fails in all ways now and then. When it
// is killed, its store never answers again; its engine is told only by its lease.
func (w *world) start(ctx context.Context, t *testing.T, name string, on objectstore.Store) {
	ctx, stop := context.WithCancel(ctx)
	me := &worker{stop: stop, killed: make(chan struct{})}
	mortal := faulty.New(on, func(faulty.Step) faulty.Fault {
		select {
		case <-me.killed:
			return faulty.Fault{Crash: true}
		default:
			return faulty.Fault{}
		}
	})
	works := copier(w.to)
	e := engine{run: func(ctx context.Context, h *jobs.Handle) error {
		err := works.run(ctx, h)
		if name != "last" && err == nil && rand.N(4) == 0 {
			return []error{jobs.Pause("look"), jobs.Retry(errors.New("passes")), errors.New("fails")}[rand.N(3)]
		}
		return err
	}}
	r := newRunner(t, jobs.NewStore(mortal, jobs.StoreOptions{}), e, jobs.RunnerOptions{Worker: name, Concurrency: 2})
	w.ended.Go(func() {
		defer stop()
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.workers = append(w.workers, me)
}
