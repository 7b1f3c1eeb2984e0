package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
)

const lifeItems = 20

// copier writes items 0 to lifeItems-1 to a target, one a second.
func copier(to *target) engine {
	work := func(ctx context.Context, h *jobs.Handle) error {
		j := h.Job()
		defer to.enter("job "+j.ID, "target "+j.Target)()
		next, err := to.open(h)
		for ; err == nil && next < lifeItems; next++ {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Second):
			}
			if err = to.write(j.ID, h.Epoch(), next); err == nil {
				h.Report(func(p *jobs.Progress) { p.Done = next + 1 })
				err = h.SetCheckpoint(next)
			}
		}
		return err
	}
	return engine{run: work}
}

// life lives the life of one job with people on a store: created, run, paused,
// resumed, succeeded. It may have been lived in part already. Errors end it
// when fatal says so; else people try again.
func life(ctx context.Context, s *jobs.Store, fatal func() bool) (*jobs.Job, error) {
	try := func(do func() error) error {
		for range 100 {
			err := do()
			if err == nil || fatal() {
				return err
			}
			time.Sleep(time.Second) //nolint:forbidigo // synthetic time
		}
		return errors.New("people have no patience left")
	}
	var j *jobs.Job
	until := func(is func() bool) error {
		return try(func() error {
			at, err := s.Get(ctx, j.ID)
			if err != nil {
				return err
			}
			if j = at; !is() {
				err = fmt.Errorf("job is %s", j.State)
			}
			return err
		})
	}
	change := func(do func(context.Context, string, jobs.Change) (*jobs.Job, error)) error {
		return try(func() error {
			_, err := do(ctx, j.ID, jobs.Change{})
			if errors.Is(err, jobs.ErrState) {
				return nil // done before
			}
			return err
		})
	}
	steps := []func() error{
		func() error {
			return try(func() (err error) {
				j, err = s.Create(ctx, jobs.New{Kind: "test", Target: "x", Spec: 1, IdempotencyKey: "life",
					Files: func(ctx context.Context, _ string, files objectstore.Store) error {
						_, err := files.Put(ctx, "file", strings.NewReader("x"), objectstore.Always)
						return err
					}})
				return err
			})
		},
		func() error { return until(func() bool { return j.Progress.Done >= 3 || j.State == jobs.Paused }) },
		func() error { return change(s.Pause) },
		func() error { return until(func() bool { return j.Lease == nil }) },
		func() error { return change(s.Resume) },
		func() error { return until(func() bool { return j.State.Ended() }) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// TestCrashes crashes a process, and fails it, at every operation on the object
// store of a small life, before and after the effect. Another process goes on,
// while what is left of the first one is not told.
func TestCrashes(t *testing.T) {
	plans := map[string]func(n int) faulty.Plan{
		"crash before": func(n int) faulty.Plan { return faulty.CrashAt(n, false) },
		"crash after":  func(n int) faulty.Plan { return faulty.CrashAt(n, true) },
		"fail before":  func(n int) faulty.Plan { return faulty.FailAt(n, false, errors.New("internal error")) },
		"fail after":   func(n int) faulty.Plan { return faulty.FailAt(n, true, errors.New("internal error")) },
	}
	for name, plan := range plans {
		t.Run(name, func(t *testing.T) {
			n := 1
			for ; n < 2000; n++ {
				steps := 0
				synctest.Test(t, func(t *testing.T) {
					objects := newChecker()
					broken := faulty.New(objects, plan(n))
					if err := liveOn(t, objects, broken); err != nil {
						t.Errorf("step %d: %v", n, err)
					}
					steps = broken.Steps()
				})
				if steps < n || t.Failed() {
					break
				}
			}
			t.Logf("%d steps", n-1)
			if n < 50 {
				t.Errorf("only %d steps", n)
			}
		})
	}
}

// liveOn lives a life on a broken store, and what is left of it on the sound one
// below it.
func liveOn(t *testing.T, objects *checker, broken *faulty.Store) error {
	to := newTarget()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	startOn := func(on objectstore.Store, name string) *jobs.Store {
		s := jobs.NewStore(on, jobs.StoreOptions{})
		r := newRunner(t, s, copier(to), jobs.RunnerOptions{Worker: name})
		wg.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	j, err := life(ctx, startOn(broken, "first"), broken.Crashed)
	if broken.Crashed() {
		j, err = life(ctx, startOn(objects, "second"), func() bool { return false })
	}
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Second) //nolint:forbidigo // synthetic time: for the move
	if j.State != jobs.Succeeded {
		return fmt.Errorf("the job is %s: %s", j.State, j.StateReason)
	}
	active, ended := objects.keys("jobs/active/"), objects.keys("jobs/ended/")
	if len(active) != 0 || len(ended) != 1 {
		return fmt.Errorf("active: %v, ended: %v", active, ended)
	}
	return errors.Join(objects.err(), to.complete(j.ID, lifeItems))
}
