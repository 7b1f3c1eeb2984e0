package replay

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// CreateOptions are what people say about a replay that they create.
type CreateOptions struct {
	Name, Reason string // for people; may be empty
	By           string // who asks
	// IdempotencyKey makes repeats of the same request give the same replay; ""
	// is none. The same key with another spec is jobs.ErrKeyReused.
	IdempotencyKey string
	// Paused creates the replay paused: it waits for Resume, or for RunOne.
	Paused bool
}

// Create validates and resolves a spec, looks at its target, and makes the job
// that replays it. Whatever is wrong is refused before anything is written,
// wherever it is. The job runs when a worker finds it.
func (s *Service) Create(ctx context.Context, spec Spec, opts CreateOptions) (*jobs.Job, error) {
	if opts.IdempotencyKey != "" { // what the first one wrote since must not refuse its repeat
		job, err := s.Repeated(ctx, spec, opts)
		if !errors.Is(err, jobs.ErrNotFound) {
			return job, err
		}
	}
	n := request(spec, opts)
	frozen, err := s.Resolve(ctx, &spec)
	if err != nil {
		return nil, err
	}
	target, err := s.check(ctx, &spec, frozen)
	if err != nil {
		return nil, err
	}
	n.Target = target.Key
	frozen.Warnings = append(frozen.Warnings, target.Warnings...)
	n.Files = func(ctx context.Context, _ string, files objectstore.Store) error {
		return writeFrozen(ctx, files, frozen)
	}
	job, err := s.opts.Jobs.Create(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("create replay: %w", err)
	}
	return job, nil
}

// Repeated returns the job that a Create of the same spec and options has made, by their
// IdempotencyKey. It is jobs.ErrNotFound where none has.
func (s *Service) Repeated(ctx context.Context, spec Spec, opts CreateOptions) (*jobs.Job, error) {
	return s.opts.Jobs.Repeated(ctx, request(spec, opts)) //nolint:wrapcheck // it says what
}

func request(spec Spec, opts CreateOptions) jobs.New {
	return jobs.New{
		Kind: Kind, Name: opts.Name, Reason: opts.Reason, CreatedBy: opts.By,
		Spec: spec, IdempotencyKey: opts.IdempotencyKey, Paused: opts.Paused,
	}
}

// check has the sink look at its target, without writing.
func (s *Service) check(ctx context.Context, spec *Spec, frozen *Frozen) (Target, error) {
	kind := s.kinds[spec.Sink.Type]
	if kind == nil {
		return Target{}, fmt.Errorf("%w: there is no sink %q", ErrInvalid, spec.Sink.Type)
	}
	target, err := kind.Check(ctx, s.opening(spec, frozen))
	switch {
	case err == nil && target.Restores && spec.DeadLettersOf == "":
		return target, s.lastOnly(ctx, spec, frozen)
	case err == nil:
		return target, nil
	case errors.Is(err, ErrUnavailable), ctx.Err() != nil:
		err = fmt.Errorf("check the target of the replay: %w", err)
		if remedy.Of(err) == "" {
			err = remedy.Wrap(err, wantTarget)
		}
		return Target{}, err
	default:
		wrong := &FieldError{Field: "sink", Err: err}
		if noAnswer(err) && remedy.Of(err) == "" {
			wrong.Want = wantTarget
		}
		return Target{}, wrong
	}
}

const wantTarget = "Start the target, or correct its address, and see that this machine reaches it; then try again."

// noAnswer reports whether a target could not be connected to.
func noAnswer(err error) bool {
	_, failed := errors.AsType[*net.OpError](err)
	_, unknown := errors.AsType[*net.DNSError](err)
	return failed || unknown
}

// lastOnly leaves out what is in earlier incarnations of streams only.
func (s *Service) lastOnly(ctx context.Context, spec *Spec, frozen *Frozen) error {
	filter, _, err := splitFilter(spec.Filter)
	if err != nil {
		return err
	}
	for i := range frozen.Streams {
		r := &frozen.Streams[i]
		if r.Incarnation <= 1 {
			continue
		}
		all, err := s.totals(ctx, r, filter)
		if err != nil {
			return err
		}
		r.LastOnly = true
		last, err := s.totals(ctx, r, filter)
		if err != nil {
			return err
		}
		frozen.Events -= all.Events - last.Events
		frozen.Bytes -= all.Bytes - last.Bytes
		n, cut, err := s.leftOut(ctx, r, filter)
		if err != nil {
			return err
		}
		if n > 0 {
			why := "was deleted and made anew"
			if cut {
				why = "went back to an older state in Redis, or was deleted and made anew"
			}
			frozen.Warnings = append(frozen.Warnings, fmt.Sprintf("stream %q %s: it is restored as it was last, without up to %d events that it had before", r.Stream, why, n))
		}
	}
	return nil
}

// leftOut counts, at the most, the events of earlier incarnations that do not
// belong to what was last. cut says that a part of one does.
func (s *Service) leftOut(ctx context.Context, r *StreamRange, filter *event.Matcher) (n uint64, cut bool, err error) {
	lives, err := livesOf(ctx, s.opts.Archive, r)
	if err != nil {
		return 0, false, err
	}
	kept := map[int]event.ID{}
	for _, l := range lives {
		kept[l.number] = l.to
	}
	for number := 1; number < r.Incarnation; number++ {
		within := r.Range
		if to, ok := kept[number]; ok {
			cut = true
			if to == event.MaxID {
				continue
			}
			within = within.Intersect(event.Range{From: to.Next()})
		}
		if within.IsEmpty() {
			continue
		}
		p, err := s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: r.Stream, Incarnation: number, Range: within, Filter: filter})
		if err != nil {
			return 0, false, fmt.Errorf("plan the replay of stream %q: %w", r.Stream, err)
		}
		n += p.Totals.Events
	}
	return n, cut, nil
}

// opening is what a sink gets to know of a replay, but for its job.
func (s *Service) opening(spec *Spec, frozen *Frozen) Opening {
	return Opening{
		Options: spec.Sink.Options, Streams: frozen.Streams,
		Whole:        spec.Filter.IsZero() && spec.Limit == 0 && !spec.Upcast && !spec.Follow && spec.DeadLettersOf == "",
		Follow:       spec.Follow,
		BackPressure: spec.BackPressure, Retry: spec.Failures.Retry, Logger: s.opts.Logger,
	}
}

// Plan gives what a replay reads, as it was resolved when it was created.
func (s *Service) Plan(ctx context.Context, id string) (*Frozen, error) {
	return readFrozen(ctx, s.opts.Jobs.Files(id))
}
