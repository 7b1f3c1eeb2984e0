package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
)

// Engine returns what runs the jobs of Kind.
func (s *Service) Engine() jobs.Engine { return &engine{s} }

type engine struct{ svc *Service }

// Run implements jobs.Engine.
func (e *engine) Run(ctx context.Context, h *jobs.Handle) error {
	r, err := e.prepare(ctx, h)
	if err != nil {
		return err
	}
	if err := r.sameUpcasters(); err != nil {
		return err
	}
	if r.cp.Finished { // only what comes after the last save is left
		return r.clean(ctx)
	}
	if err := r.replay(ctx); err != nil {
		if r.spec.DeadLettersOf != "" && context.Cause(ctx) == nil {
			if saveErr := r.save(ctx); saveErr != nil {
				return errors.Join(err, saveErr)
			}
			err = errors.Join(err, r.removeTaken(ctx, Position{}))
		}
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			return fmt.Errorf("%w (%w)", cause, err)
		}
		return err
	}
	return r.clean(ctx)
}

// Cancel implements jobs.Engine: it has the sink remove what it keeps at the
// target beside the events. Dead letters stay for as long as the job is kept, but
// for those of another replay that the target has taken.
func (e *engine) Cancel(ctx context.Context, h *jobs.Handle) error {
	r, err := e.prepare(ctx, h)
	if err != nil {
		return err
	}
	has, err := r.taken(ctx)
	if err != nil {
		return err
	}
	if err := r.removeTaken(ctx, has); err != nil {
		return readError(err)
	}
	if err := r.kind.Clean(ctx, r.opening); err != nil {
		return fmt.Errorf("clean up at the target: %w", err)
	}
	return nil
}

// prepare reads what the job says.
func (e *engine) prepare(ctx context.Context, h *jobs.Handle) (*run, error) {
	job := h.Job()
	r := &run{svc: e.svc, h: h, job: job}
	if err := json.Unmarshal(job.Spec, &r.spec); err != nil {
		return nil, fmt.Errorf("read the spec of the replay: %w", err)
	}
	r.cp.Version = checkpointVersion
	if len(job.Checkpoint) > 0 {
		if err := json.Unmarshal(job.Checkpoint, &r.cp); err != nil {
			return nil, fmt.Errorf("read the checkpoint of the replay: %w", err)
		}
	}
	if r.cp.Version > checkpointVersion {
		return nil, remedy.Wrap(fmt.Errorf("the checkpoint of the replay has version %d, and this program reads up to %d", r.cp.Version, checkpointVersion),
			"Run all workers with the same version of reservoir.")
	}
	var err error
	if r.frozen, err = readFrozen(ctx, h.Files()); err != nil {
		return nil, readError(err)
	}
	if r.kind = e.svc.kinds[r.spec.Sink.Type]; r.kind == nil {
		return nil, remedy.Wrap(fmt.Errorf("this worker knows no sink %q", r.spec.Sink.Type), "Run workers that have it, then retry the replay.")
	}
	r.opening = e.svc.opening(&r.spec, r.frozen)
	r.opening.Replay, r.opening.Epoch = job.ID, h.Epoch()
	r.opening.Retry = r.opening.Retry.withDefaults()
	if p := job.Progress; p.Done > r.cp.Read && p.DeadLetters >= r.cp.Letters+r.cp.Rejected {
		letters := min(p.DeadLetters-r.cp.Letters-r.cp.Rejected, p.Done-r.cp.Read)
		r.before = [2]uint64{p.Done - r.cp.Read - letters, letters}
	}
	r.pacer = pacer{pace: r.spec.Pace}
	r.breaker = breaker{policy: r.opening.Retry}
	return r, nil
}

// sameUpcasters refuses to send other events than an attempt before did.
func (r *run) sameUpcasters() error {
	if !r.spec.Upcast || r.svc.opts.Upcasters.Digest() == r.frozen.Upcasters {
		return nil
	}
	return remedy.Wrap(errors.New("the upcasters of this worker are not those that the replay was created with: it would send other events than before"),
		"Give the worker the upcasters of then and retry the replay, or cancel it and create a new one.")
}
