package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// Estimate is what a rebuild would read, and what it would replace.
type Estimate struct {
	Definition *projection.Definition
	Streams    []StreamEstimate
	Totals     archive.PlanTotals // of all streams
	Approval   projection.Approval
	Live       uint64 // the generation that is live; 0: none
	Rows       uint64 // of its table
}

// StreamEstimate is what a rebuild would read of a stream.
type StreamEstimate struct {
	Name string
	archive.PlanTotals
}

// Estimate finds out what a rebuild would read, by the commit logs alone: nothing is
// written, and no event is read. sees says which streams are looked at; nil: all of the
// projection. What cannot be wraps ErrInvalid, an unknown projection
// projection.ErrUnknown.
func (s *Service) Estimate(ctx context.Context, spec Spec, sees func(stream string) bool) (*Estimate, error) {
	d, _, _, err := s.definition(spec.Projection)
	if err != nil {
		return nil, err
	}
	filter := d.Source.Filter()
	filter.Tenants, filter.Aggregates = spec.Scope.Tenants, spec.Scope.Aggregates
	var matcher *event.Matcher
	if !filter.IsZero() {
		if matcher, err = filter.Compile(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	e := &Estimate{Definition: d, Approval: cmp.Or(spec.Approval, d.Approval), Totals: archive.PlanTotals{Exact: true}}
	for name, err := range s.opts.Archive.Streams(ctx) {
		if err != nil {
			return nil, fmt.Errorf("list the streams of the archive: %w", err)
		}
		if !d.Source.MatchesStream(name) || sees != nil && !sees(name) {
			continue
		}
		plan, err := s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: name, Filter: matcher, Format: spec.Format})
		if err != nil {
			return nil, fmt.Errorf("estimate a rebuild of %s: %w", d.Name, err)
		}
		e.add(name, plan.Totals)
	}
	doc, err := s.documents.Get(ctx, d.Name)
	if errors.Is(err, projection.ErrNotBuilt) {
		return e, nil
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the projection
	}
	if e.Live = doc.Live.Generation; e.Live > 0 {
		e.Rows, err = s.opts.ClickHouse.Rows(ctx, s.opts.ClickHouse.Table(d.Table.Name))
	}
	return e, err //nolint:wrapcheck // it names the table
}

func (e *Estimate) add(stream string, t archive.PlanTotals) {
	e.Streams = append(e.Streams, StreamEstimate{stream, t})
	e.Totals.Segments += t.Segments
	e.Totals.Events += t.Events
	e.Totals.Bytes += t.Bytes
	e.Totals.Raw += t.Raw
	e.Totals.Gaps += t.Gaps
	e.Totals.Lost += t.Lost
	e.Totals.Exact = e.Totals.Exact && t.Exact
}
