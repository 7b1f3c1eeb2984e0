package replay

import (
	"context"
	"fmt"
	"slices"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

const (
	previewBytes    = 64 << 20 // of segments that are opened to find the first events, and again for the last
	previewSegments = 64       // of them at most
	tailSegments    = 16       // of a stream, in which its last events are looked for
	smallSegment    = 50_000   // events: a segment up to this is read whole for its last ones
	firstWindow     = 1000     // ms at the end of a larger one that are tried first
	windowGrowth    = 16
)

// edge is where the segments of a stream's part of a replay begin and end.
type edge struct {
	stream      int
	first, last Position
}

// position is the place of an event of the part, but for its stream.
func (p *part) position(order Order, id event.ID) Position {
	at := Position{Incarnation: p.incarnation, ID: id}
	if order != OrderStream {
		at.Ms = max(id.Ms, p.floor)
	}
	return at
}

// preview finds the first and last events that are selected, reading little.
func (l *looker) preview(ctx context.Context, frozen *Frozen, edges []edge, n int, est *Estimate) error {
	p := &previewer{looker: l, frozen: frozen, want: n}
	first, err := p.find(ctx, edges, false)
	if err != nil {
		return err
	}
	last, err := p.find(ctx, edges, true)
	if err != nil {
		return err
	}
	for _, f := range first {
		est.First = append(est.First, f.view)
	}
	for _, f := range last {
		est.Last = append(est.Last, f.view)
	}
	est.Partial = p.partial
	return nil
}

// previewer looks for events at one end after the other.
type previewer struct {
	*looker
	frozen *Frozen
	want   int

	bytes    int64 // opened at this end
	segments int
	partial  bool
}

// found is an event and its place.
type found struct {
	at   Position
	view event.View
}

// find gives the first events in order, or the last ones.
func (p *previewer) find(ctx context.Context, edges []edge, last bool) ([]found, error) {
	p.bytes, p.segments = 0, 0
	edges = slices.Clone(edges)
	sign := 1
	if last {
		sign = -1
	}
	outer := func(e edge) Position {
		if last {
			return e.last
		}
		return e.first
	}
	slices.SortFunc(edges, func(a, b edge) int { return sign * outer(a).Compare(outer(b)) })
	var best []found // the outermost first
	for _, e := range edges {
		if len(best) == p.want && sign*outer(e).Compare(best[len(best)-1].at) > 0 {
			break
		}
		more, err := p.stream(ctx, e.stream, last)
		if err != nil {
			return nil, err
		}
		best = append(best, more...)
		slices.SortFunc(best, func(a, b found) int { return sign * a.at.Compare(b.at) })
		best = best[:min(len(best), p.want)]
	}
	if last {
		slices.Reverse(best)
	}
	return best, nil
}

// afford reports whether another segment may be opened.
func (p *previewer) afford(seg *archive.PlannedSegment) bool {
	if p.segments > 0 && (p.segments == previewSegments || p.bytes+seg.Bytes > previewBytes) {
		p.partial = true
		return false
	}
	p.segments++
	p.bytes += seg.Bytes
	return true
}

// stream gives the first or the last selected events of a stream, in any order.
func (p *previewer) stream(ctx context.Context, stream int, last bool) ([]found, error) {
	r := &p.frozen.Streams[stream]
	plans, err := p.s.plans(ctx, r, p.spec.Order, p.lists)
	if err != nil {
		return nil, err
	}
	if last {
		slices.Reverse(plans)
	}
	var out []found
	for _, plan := range plans {
		segments, whole, err := outerSegments(ctx, plan.Plan, last)
		if err != nil {
			return nil, err
		}
		for i := range segments {
			seg := &segments[i]
			if len(out) == p.want || !p.afford(seg) {
				return out, nil
			}
			more, err := p.segment(ctx, r.Stream, plan.span, seg, p.want-len(out), last)
			if err != nil {
				return nil, err
			}
			for _, e := range more {
				e.at = plan.position(p.spec.Order, e.at.ID)
				e.at.Stream = stream
				out = append(out, e)
			}
		}
		if len(out) < p.want && !whole {
			p.partial = true
			return out, nil
		}
	}
	return out, nil
}

// outerSegments gives the first segments of a plan, or its last ones, the last
// first, and whether that is all of them.
func outerSegments(ctx context.Context, plan *archive.Plan, last bool) ([]archive.PlannedSegment, bool, error) {
	limit := previewSegments
	if last {
		limit = tailSegments
	}
	var out []archive.PlannedSegment
	for seg, err := range plan.Segments(ctx) {
		if err != nil {
			return nil, false, fmt.Errorf("preview: %w", err)
		}
		if len(out) == limit {
			if !last {
				return out, false, nil
			}
			copy(out, out[1:])
			out = out[:limit-1]
		}
		out = append(out, seg)
	}
	if last {
		slices.Reverse(out)
	}
	return out, plan.Totals.Segments <= uint64(limit), nil
}

// segment gives up to n of the selected events of a segment, the first or the
// last ones, in order of their distance from that end.
func (p *previewer) segment(ctx context.Context, stream string, within event.Range, seg *archive.PlannedSegment, n int, last bool) ([]found, error) {
	within = within.Intersect(event.Range{From: seg.First, To: seg.Last})
	if !last {
		return p.read(ctx, stream, seg.Incarnation, within, n, false)
	}
	window := uint64(firstWindow)
	for {
		part := within
		if whole := seg.Count <= smallSegment || window >= within.To.Ms-within.From.Ms; !whole {
			part.From = event.ID{Ms: within.To.Ms - window}
		}
		out, err := p.read(ctx, stream, seg.Incarnation, part, n, true)
		if err != nil || len(out) == n || part == within {
			return out, err
		}
		window *= windowGrowth
	}
}

// read gives the first n selected events of a range, or the last n, the last
// first.
func (p *previewer) read(ctx context.Context, stream string, incarnation int, within event.Range, n int, last bool) ([]found, error) {
	plan, err := p.s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: stream, Incarnation: incarnation, Range: within, Filter: p.lists})
	if err != nil {
		return nil, fmt.Errorf("preview stream %q: %w", stream, err)
	}
	var kept []event.Event // a ring of n
	count := 0
	for e, err := range plan.Events(ctx) {
		if err != nil {
			return nil, fmt.Errorf("preview stream %q: %w", stream, err)
		}
		if ok, err := p.selects(e, true); err != nil {
			return nil, fmt.Errorf("preview stream %q: %w", stream, err)
		} else if !ok {
			continue
		}
		if len(kept) < n {
			kept = append(kept, e.Clone())
		} else {
			kept[count%n] = e.Clone()
		}
		if count++; count == n && !last {
			break
		}
	}
	out := make([]found, 0, len(kept))
	for i := range kept {
		at := i
		if last {
			at = (count - 1 - i) % n
		}
		e := &kept[at]
		out = append(out, found{Position{ID: e.ID}, p.extract.View(stream, e)})
	}
	return out, nil
}
