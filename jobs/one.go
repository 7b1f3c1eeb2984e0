package jobs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// RunOne runs one job here and now, whatever Concurrency says, and returns it
// when it succeeded, failed, was paused or cancelled, which is no error. A paused
// job is resumed by it; a job that has ended is ErrState. Attempts that fail in a
// way that may pass are repeated.
//
// Where another worker has the job, RunOne waits for as long as its lease says
// whether that one still lives: if so, the error wraps ErrHeld; if not, it takes
// the job over. It waits while other jobs of the same Target leave no room. When
// ctx ends, the job is given back, pending, and the error is the cause of that.
func (r *Runner) RunOne(ctx context.Context, id string) (*Job, error) {
	j, err := r.store.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.opts.Engines[j.Kind] == nil {
		return nil, fmt.Errorf("run job %s: there is no engine here for jobs of kind %q", id, j.Kind)
	}
	if j.State.Ended() {
		return nil, fmt.Errorf("run: %w", j.apply(acquire, "", now()))
	}
	if !r.running.add(id, j.Kind, math.MaxInt) {
		return nil, fmt.Errorf("run job %s: %w: this one", id, ErrHeld)
	}
	defer r.running.remove(id)
	return r.runOne(ctx, j)
}

func (r *Runner) runOne(ctx context.Context, j *Job) (*Job, error) {
	seen := sightings{}
	var lease *Lease // as it was when last looked at
	for {
		switch since := seen.see(j.ID, j.Nonce); {
		case j.State.Ended(): // another worker ended it before this one could
			return j, nil
		case j.free(since) || j.State == Paused && j.Lease == nil:
			ran, err := r.tryOne(ctx, j)
			if err != nil || ran != nil && (ran.State.Ended() || ran.State == Paused) {
				return ran, err
			}
		case j.Lease != nil && lease != nil && *lease != *j.Lease:
			return nil, remedy.Wrap(fmt.Errorf("run job %s: %w: %s", j.ID, ErrHeld, j.Lease.Worker), "pause the job and wait until its worker has stopped, or leave it to that one")
		}
		lease = j.Lease
		pause := r.opts.Poll
		if left := time.Until(j.NotBefore); left > 0 {
			pause = min(pause, left)
		}
		err := wait(ctx, pause)
		if err == nil {
			j, err = r.store.Get(ctx, j.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("run job: %w", err)
		}
	}
}

// tryOne makes one attempt and returns the job as it is then; nil when another
// worker was first or the target has no room.
func (r *Runner) tryOne(ctx context.Context, j *Job) (*Job, error) {
	if j.State == Paused {
		if err := j.apply(resume, "", now()); err != nil {
			return nil, err
		}
	}
	session, err := r.begin(ctx, j)
	if session == nil {
		return nil, ignore(err, ErrChanged)
	}
	ran, err := session.run(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("run job %s: %w", j.ID, err)
	case !ran.State.Ended() && ran.State != Paused && ctx.Err() != nil:
		return ran, fmt.Errorf("run job %s: %w", j.ID, context.Cause(ctx))
	}
	return ran, nil
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}
