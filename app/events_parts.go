package app

import (
	"context"
	"fmt"
	"strconv"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

const lastIncarnation = "last"

// readParts writes the incarnations of a stream that are wanted. The entries of one
// stream go up, so that raw output of several is refused: it does not say which
// incarnation an entry is of.
func (r *eventsRun) readParts(ctx context.Context, stream string) error {
	parts, err := r.parts(ctx, stream)
	if err != nil {
		return err
	}
	for _, p := range parts {
		within := r.within.Intersect(p.Range)
		if within.IsEmpty() {
			continue
		}
		plan, err := r.arch.Plan(ctx, archive.PlanSpec{
			Stream: stream, Incarnation: p.Incarnation, Range: within, Filter: r.filter, Format: archive.Format(r.spec.format),
		})
		if err != nil {
			return err
		}
		if err := r.planned(ctx, plan); err != nil {
			return err
		}
		if _, err := r.drain(ctx, stream, plan.Batches(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// parts finds out what is wanted of a stream.
func (r *eventsRun) parts(ctx context.Context, stream string) ([]replay.Part, error) {
	if r.spec.incarnation == lastIncarnation {
		return replay.LastHistory(ctx, r.arch, stream)
	}
	var all []replay.Part
	for inc, err := range r.arch.Incarnations(ctx, stream) {
		if err != nil {
			return nil, fmt.Errorf("read the archive of stream %q: %w", stream, err)
		}
		if inc.Last != nil && (r.spec.incarnation == "" || strconv.Itoa(inc.Number) == r.spec.incarnation) {
			all = append(all, replay.Part{Incarnation: inc.Number})
		}
	}
	switch n := len(all); {
	case n > 1:
		return nil, usageError{remedy.Wrapf(fmt.Errorf("raw output is of one incarnation, and stream %q has %d: their IDs do not go up", stream, n),
			"Give --incarnation last for the stream as it was last, or the number of one.")}
	case n == 0 && r.spec.incarnation != "":
		return nil, usageError{remedy.Wrapf(fmt.Errorf("stream %q has no incarnation %s in the archive", stream, r.spec.incarnation),
			"`reservoir streams` shows how many there are; --incarnation last is the stream as it was last.")}
	}
	return all, nil
}

// checkIncarnation reads --incarnation.
func (s *eventsSpec) checkIncarnation() error {
	if s.incarnation == "" {
		return nil
	}
	if n, err := strconv.Atoi(s.incarnation); s.incarnation != lastIncarnation && (err != nil || n < 1) {
		return usagef("--incarnation %q is not known: want a number from 1, or last", s.incarnation)
	}
	if s.follow {
		return usagef("--incarnation does not go with --follow, which goes on with what the stream becomes")
	}
	return nil
}
