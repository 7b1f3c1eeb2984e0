package replay

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
)

// setAside writes the letter of an event that cannot be sent; before is how many
// of the chunk came before it.
func (r *run) setAside(ctx context.Context, d *DeadLetter, before uint64) error {
	if d.Position.Compare(r.resumed) <= 0 {
		return nil // written before; if it is not there, a person has removed it
	}
	if err := r.room(d.Stream, d.Position, errors.New(d.Error), before); err != nil {
		return err
	}
	if err := writeDeadLetter(ctx, r.h.Files(), d); err != nil {
		return jobs.Retry(err)
	}
	r.cp.dealtWith(d.Position)
	return nil
}

// room makes sure that one more event may be set aside.
func (r *run) room(stream string, p Position, cause error, before uint64) error {
	most := r.spec.Failures.MaxDeadLetters
	if r.cp.Letters+r.cp.Rejected+before < most {
		return nil
	}
	what := "Everything before it was sent. Fix what keeps it from being sent and retry this replay, or create one that leaves it out or allows more dead letters than %d."
	return remedy.Wrapf(fmt.Errorf("event %s of stream %q cannot be replayed: %w", p.ID, stream, cause), what, most)
}

// reject deals with what the sink rejected of events [from, to) of the chunk, and
// sends the rest where that was not written. Every event is among the letters
// before the sink's position can be beyond it.
func (r *run) reject(ctx context.Context, c *chunk, from, to int, rejected *RejectedError, letters uint64) error {
	at := from
	for _, no := range rejected.Events {
		i := from + no.Index
		if i < at || i >= to {
			return fmt.Errorf("the sink rejected event %d of a batch of %d, out of order: %w", no.Index, to-from, no.Err)
		}
		if err := r.accepted(ctx, c, at, i, rejected.Unwritten, letters); err != nil {
			return err
		}
		if err := r.setAsideSent(ctx, c, i, no, letters); err != nil {
			return err
		}
		at = i + 1
	}
	return r.accepted(ctx, c, at, to, rejected.Unwritten, letters)
}

// accepted sees to it that events [from, to), which were not rejected, are
// written.
func (r *run) accepted(ctx context.Context, c *chunk, from, to int, unwritten bool, letters uint64) error {
	if unwritten {
		return r.write(ctx, c, from, to, letters)
	}
	if from < to {
		r.cp.wrote(c.Origins[to-1].Position)
	}
	return nil
}

// setAsideSent writes the letter of an event that the sink rejected.
func (r *run) setAsideSent(ctx context.Context, c *chunk, i int, no Rejection, letters uint64) error {
	o := &c.Origins[i]
	if err := r.room(o.Stream, o.Position, no.Err, letters); err != nil {
		return err
	}
	var e event.Event
	c.Event(i, &e)
	d := newDeadLetter(r.job.ID, o, &e, r.svc.opts.Mapping.Extractor(), no.Err, max(1, no.Attempts), r.svc.opts.Clock())
	if err := writeDeadLetter(ctx, r.h.Files(), d); err != nil {
		return jobs.Retry(err)
	}
	r.cp.Rejected++
	r.cp.dealtWith(o.Position)
	return nil
}
