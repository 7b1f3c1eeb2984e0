package archive

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/reservoirhq/reservoir/event"
)

// PlanSpec says what to read.
type PlanSpec struct {
	Stream string
	// Incarnation narrows to one; 0 means all, one after the other. A Range by
	// ID then selects from each of them.
	Incarnation int
	Range       event.Range
	// Filter selects events; nil means all.
	Filter *event.Matcher
	// Attributes, if set, are all that is wanted of events: what reads them may leave out
	// fields that are not needed to find these. With a Filter nothing is left out.
	Attributes event.Attributes
	// Format is read where a span has it, and another one where not; default Parquet.
	Format Format
}

// Plan is a consistent view of the segments that a PlanSpec needs, as they were
// when it was made. What it names stays readable for the grace period of
// garbage collection, whatever is appended, compacted or expired meanwhile. It
// holds no segments in memory: every iteration streams them from the log.
type Plan struct {
	// Views are the logs that the plan reads, oldest incarnation first.
	Views []PlanView

	Totals PlanTotals

	a       *Archive
	spec    PlanSpec
	fetched atomic.Int64
}

// PlanTotals count what a plan will read.
type PlanTotals struct {
	Segments uint64 `json:"segments"`
	// Events is how many events the plan gives, Bytes the size of the objects
	// that hold them and Raw that of their names and values: with Exact unset,
	// upper bounds.
	Events uint64 `json:"events"`
	Bytes  int64  `json:"bytes"`
	Raw    int64  `json:"raw_bytes"`
	Exact  bool   `json:"exact"`
	// Gaps counts the losses inside the range, and Lost the entries that they
	// lost at the least.
	Gaps uint64 `json:"gaps"`
	Lost uint64 `json:"lost"`
}

// PlanView is one incarnation as a plan sees it.
type PlanView struct {
	Incarnation int
	Commit      uint64   // the last one seen
	Head        event.ID // what comes after it is not in the plan
	Sealed      bool
}

// PlannedSegment is a segment that may hold events of the plan.
type PlannedSegment struct {
	Incarnation int
	Segment
	// Path is the object's whole key on the store.
	Path string
	// Whole says that the range holds all events of the segment; the plan's
	// Filter, if any, still has to be applied.
	Whole bool
}

// Plan looks at the commit logs and finds the segments that may hold what spec
// asks for, without reading any of them.
func (a *Archive) Plan(ctx context.Context, spec PlanSpec) (*Plan, error) {
	if spec.Format == "" {
		spec.Format = Parquet
	}
	p := &Plan{a: a, spec: spec, Totals: PlanTotals{Exact: spec.Filter == nil}}
	for inc, err := range a.Incarnations(ctx, spec.Stream) {
		if err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		if inc.Last == nil || spec.Incarnation != 0 && spec.Incarnation != inc.Number {
			continue
		}
		p.Views = append(p.Views, PlanView{inc.Number, inc.Last.Number, inc.Last.Head, inc.Last.Seal != nil})
	}
	for rec, err := range p.records(ctx) {
		if err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		p.count(rec)
	}
	return p, nil
}

func (p *Plan) count(rec planned) {
	t := &p.Totals
	if rec.gap != nil {
		t.Gaps++
		t.Lost = saturate(t.Lost, rec.gap.Lost)
		return
	}
	t.Segments++
	t.Bytes += rec.segment.Bytes
	t.Raw += rec.segment.Raw
	t.Events += p.matching(&rec.segment.Segment)
	t.Exact = t.Exact && rec.segment.Whole
}

// matching bounds how many events of a segment can match.
func (p *Plan) matching(s *Segment) uint64 {
	if p.spec.Filter == nil || s.Mapping != p.a.mapping {
		return s.Count
	}
	return min(s.Count, p.spec.Filter.CountTypes(s.Types), p.spec.Filter.CountTenants(s.Tenants))
}

// Stream returns the name of the planned stream.
func (p *Plan) Stream() string { return p.spec.Stream }

// planned is a gap or a segment of a plan.
type planned struct {
	gap     *RecordedGap
	segment *PlannedSegment
}

// records gives, per incarnation, first the gaps and then the segments.
func (p *Plan) records(ctx context.Context) iter.Seq2[planned, error] {
	return func(yield func(planned, error) bool) {
		for _, pinned := range p.Views {
			dir := incarnationDir(p.spec.Stream, pinned.Incarnation)
			v, err := p.a.view(ctx, dir, pinned.Commit)
			if err != nil {
				yield(planned{}, err)
				return
			}
			if !p.viewRecords(ctx, v, pinned.Incarnation, yield) {
				return
			}
		}
	}
}

func (p *Plan) viewRecords(ctx context.Context, v *view, incarnation int, yield func(planned, error) bool) (more bool) {
	for rec, err := range v.parts(ctx) {
		if err != nil {
			yield(planned{}, err)
			return false
		}
		if g := rec.gap; g != nil {
			g.Incarnation = incarnation
			if p.spec.Range.Overlaps(g.first(), g.UpTo) && !yield(planned{gap: g}, nil) {
				return false
			}
			continue
		}
		if to := p.spec.Range.To; !to.IsZero() && to.Less(rec.span.First) {
			return true // and so do all that follow
		}
		if !p.wanted(rec.span) {
			continue
		}
		seg := rec.span.Segment(p.spec.Format)
		whole := p.spec.Range.Contains(seg.First) && p.spec.Range.Contains(seg.Last)
		if !yield(planned{segment: &PlannedSegment{incarnation, seg, v.dir + seg.Key, whole}}, nil) {
			return false
		}
	}
	return true
}

// wanted prunes what cannot hold an event of the plan.
func (p *Plan) wanted(s *Span) bool {
	if !p.spec.Range.Overlaps(s.First, s.Last) {
		return false
	}
	return p.spec.Filter == nil || p.matching(&s.Segments[0]) > 0
}

// Segments gives the planned segments in order: by incarnation, then by ID.
func (p *Plan) Segments(ctx context.Context) iter.Seq2[PlannedSegment, error] {
	return func(yield func(PlannedSegment, error) bool) {
		for rec, err := range p.records(ctx) {
			if err != nil {
				yield(PlannedSegment{}, fmt.Errorf("read plan: %w", err))
				return
			}
			if rec.segment != nil && !yield(*rec.segment, nil) {
				return
			}
		}
	}
}

// Gaps gives the losses inside the range in the order in which they were
// recorded, by incarnation.
func (p *Plan) Gaps(ctx context.Context) iter.Seq2[RecordedGap, error] {
	return func(yield func(RecordedGap, error) bool) {
		for rec, err := range p.records(ctx) {
			if err != nil {
				yield(RecordedGap{}, fmt.Errorf("read plan: %w", err))
				return
			}
			if rec.gap != nil && !yield(*rec.gap, nil) {
				return
			}
		}
	}
}
