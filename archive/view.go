package archive

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"
)

// RecordedGap is a gap with the commit that recorded it.
type RecordedGap struct {
	Gap
	Incarnation int       `json:"-"`
	Commit      uint64    `json:"commit"`
	Time        time.Time `json:"time"`
}

// view is what one log holds at one commit: the newest snapshot, which is read
// as a stream whenever it is needed, and what the commits after it changed,
// which is in memory.
type view struct {
	a        *Archive
	dir      string
	last     *Commit // without Adds and Removes; nil for an empty log
	snapshot uint64  // 0: none

	removed map[string]struct{} // from the snapshot
	added   []Segment           // since, and live; by (First, Format)
	gaps    []RecordedGap       // since
}

// view loads the view at commit upTo, or (0) at the end of the log.
func (a *Archive) view(ctx context.Context, dir string, upTo uint64) (*view, error) {
	base, err := a.newestSnapshot(ctx, dir, upTo)
	if err != nil {
		return nil, err
	}
	return a.viewAfter(ctx, dir, base, upTo)
}

// viewAfter is view from that snapshot's last commit (nil: none) on.
func (a *Archive) viewAfter(ctx context.Context, dir string, base *Commit, upTo uint64) (*view, error) {
	v := &view{a: a, dir: dir, last: base, removed: map[string]struct{}{}}
	if base != nil {
		v.snapshot = base.Number
	}
	added := map[string]Segment{}
	for c, err := range a.commits(ctx, dir, v.snapshot, upTo) {
		if err != nil {
			return nil, err
		}
		for _, key := range c.Removes {
			if _, ok := added[key]; ok {
				delete(added, key)
			} else {
				v.removed[key] = struct{}{}
			}
		}
		for _, s := range c.Adds {
			added[s.Key] = s
		}
		if c.Gap != nil {
			v.gaps = append(v.gaps, RecordedGap{Gap: *c.Gap, Commit: c.Number, Time: c.Time})
		}
		c.Adds, c.Removes = nil, nil
		v.last = c
	}
	for _, s := range added {
		v.added = append(v.added, s)
	}
	slices.SortFunc(v.added, compareSegments)
	return v, nil
}

func compareSegments(a, b Segment) int {
	return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Format, b.Format))
}

func sortedSegments(segments []Segment) []Segment {
	if slices.IsSortedFunc(segments, compareSegments) {
		return segments
	}
	segments = slices.Clone(segments)
	slices.SortFunc(segments, compareSegments)
	return segments
}

// records gives all gaps, oldest commit first, and then all live segments by
// (First, Format).
func (v *view) records(ctx context.Context) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		gaps, added := v.gaps, v.added
		gap := func() bool { // gives the next gap since the snapshot
			g := gaps[0]
			gaps = gaps[1:]
			return yield(record{Gap: &g}, nil)
		}
		segment := func() bool {
			s := added[0]
			added = added[1:]
			return yield(record{Segment: &s}, nil)
		}
		if v.snapshot > 0 {
			for rec, err := range v.a.snapshotRecords(ctx, v.dir, v.snapshot) {
				if err != nil {
					yield(record{}, err)
					return
				}
				if s := rec.Segment; s != nil {
					for len(gaps) > 0 {
						if !gap() {
							return
						}
					}
					if _, ok := v.removed[s.Key]; ok {
						continue
					}
					for len(added) > 0 && compareSegments(added[0], *s) < 0 {
						if !segment() {
							return
						}
					}
				}
				if !yield(rec, nil) {
					return
				}
			}
		}
		for len(gaps) > 0 {
			if !gap() {
				return
			}
		}
		for len(added) > 0 {
			if !segment() {
				return
			}
		}
	}
}

// part is one thing that a view holds: one of both is set.
type part struct {
	gap  *RecordedGap
	span *Span
}

// parts gives all gaps, oldest commit first, and then the live spans in order.
func (v *view) parts(ctx context.Context) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		span := &Span{}
		for rec, err := range v.records(ctx) {
			if err != nil {
				yield(part{}, err)
				return
			}
			if rec.Gap != nil {
				if !yield(part{gap: rec.Gap}, nil) {
					return
				}
				continue
			}
			joined, err := span.join(*rec.Segment)
			if err != nil {
				yield(part{}, fmt.Errorf("%w: %w", ErrDamaged, err))
				return
			}
			if joined {
				continue
			}
			if !yield(part{span: span}, nil) {
				return
			}
			span = newSpan(*rec.Segment)
		}
		if len(span.Segments) > 0 {
			yield(part{span: span}, nil)
		}
	}
}

// spans gives the live spans in order.
func (v *view) spans(ctx context.Context) iter.Seq2[*Span, error] {
	return func(yield func(*Span, error) bool) {
		for p, err := range v.parts(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if p.span != nil && !yield(p.span, nil) {
				return
			}
		}
	}
}
