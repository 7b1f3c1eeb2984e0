package replay

import (
	"context"
	"fmt"
	"math"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

// sampleEvents bounds the events that are read for a sample.
const sampleEvents = 200_000

// sampleResult is what a sample found.
type sampleResult struct {
	read uint64
	dims [numDims + 1]sampledDim // and the total
}

// sampledDim is what it found by name, in the segments that leave the dimension
// open.
type sampledDim struct {
	found    map[string]float64 // in those that were looked into, extrapolated to the whole of each
	sum      float64            // of found
	upper    uint64             // bound of those that were looked into
	all      uint64             // bound of all that leave it open
	complete bool               // all of them were read to their end
	spread   bool               // names lie in few segments each: extrapolate by the bound, not by name
}

// of gives what was found of a dimension; nil for no sample.
func (r *sampleResult) of(d dim) *sampledDim {
	if r == nil {
		return nil
	}
	return &r.dims[d]
}

// count corrects a count by what the sample found.
func (r *sampledDim) count(name string, c cell) Count {
	switch {
	case r == nil && c.more == 0 || r != nil && r.all == 0:
		return Count{c.sure, Exact}
	case r == nil:
		return Count{c.sure + c.more, AtMost}
	case r.complete:
		return Count{c.sure + uint64(math.Round(r.found[name])), Exact}
	case r.spread && c.more == 0:
		return Count{c.sure, Exact}
	}
	n := 0.0
	switch {
	case r.upper == 0:
	case r.spread:
		n = float64(c.more) * r.sum / float64(r.upper)
	default:
		n = r.found[name] * float64(r.all) / float64(r.upper)
	}
	more := uint64(math.Round(n))
	if r.spread {
		more = min(more, c.more)
	}
	return Count{c.sure + more, Estimated}
}

// sample reads into the counter's unsure segments.
func (l *looker) sample(ctx context.Context, c *counter) error {
	r := &sampleResult{}
	c.sampled = r
	complete := c.unsureSeen == uint64(len(c.unsure))
	for d := range r.dims {
		r.dims[d] = sampledDim{found: map[string]float64{}, all: c.unsureUpper[d], spread: d != int(byType) && d != int(byTenant)}
	}
	for i := range c.unsure {
		u := &c.unsure[i]
		one, err := l.sampleSegment(ctx, u, sampleEvents/uint64(len(c.unsure)))
		if err != nil {
			return err
		}
		r.read += one.read
		complete = complete && one.ended
		r.merge(u, one)
	}
	for d := range r.dims {
		r.dims[d].complete = complete
	}
	return nil
}

// merge adds what was found in a segment.
func (r *sampleResult) merge(u *unsureSegment, one *segmentSample) {
	scale := 1.0
	if !one.ended && one.read > 0 {
		scale = max(1, float64(one.expected)/float64(one.read))
	}
	for d := range r.dims {
		if u.sure[d] {
			continue
		}
		dim := &r.dims[d]
		dim.upper += u.upper
		for name, n := range one.found[d] {
			dim.found[name] += float64(n) * scale
			dim.sum += float64(n) * scale
		}
	}
}

// segmentSample is what was found in one segment.
type segmentSample struct {
	read, expected uint64 // events, of those in the range
	ended          bool   // all of them were read
	found          [numDims + 1]map[string]uint64
}

// sampleSegment reads the first events of a segment that are in the range.
func (l *looker) sampleSegment(ctx context.Context, u *unsureSegment, limit uint64) (*segmentSample, error) {
	within := u.within.Intersect(event.Range{From: u.First, To: u.Last})
	plan, err := l.s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: u.name, Incarnation: u.Incarnation, Range: within})
	if err != nil {
		return nil, fmt.Errorf("sample stream %q: %w", u.name, err)
	}
	one := &segmentSample{expected: inRange(u, within), ended: true}
	for d := range one.found {
		one.found[d] = map[string]uint64{}
	}
	var e event.Event
	for b, err := range plan.Batches(ctx) {
		if err != nil {
			return nil, fmt.Errorf("sample stream %q: %w", u.name, err)
		}
		for i := range b.Len() {
			if one.read == limit {
				one.ended = false
				return one, nil
			}
			one.read++
			b.Event(i, &e)
			if ok, err := l.selects(&e, false); err != nil {
				return nil, fmt.Errorf("sample stream %q: %w", u.name, err)
			} else if ok {
				one.count(&e, &l.env, u.name)
			}
		}
	}
	return one, nil
}

func (one *segmentSample) count(e *event.Event, env *event.Envelope, stream string) {
	name := func(d dim, a event.Attribute) {
		value, _ := env.Get(a)
		if _, known := one.found[d][string(value)]; known || len(one.found[d]) < maxNames {
			one.found[d][string(value)]++
		}
	}
	one.found[ofTotal][""]++
	one.found[byStream][stream]++
	one.found[byDay][dayOf(e.ID)]++
	name(byType, event.Type)
	name(byTenant, event.Tenant)
}

// inRange guesses how many events of a segment are in the range, as if they came
// evenly.
func inRange(u *unsureSegment, within event.Range) uint64 {
	if u.Whole {
		return u.Count
	}
	from, to := u.First.Ms, u.Last.Ms
	if whole := to - from; whole > 0 {
		from, to = max(from, within.From.Ms), min(to, within.To.Ms)
		if to >= from {
			return uint64(float64(u.Count) * float64(to-from+1) / float64(whole+1))
		}
	}
	return u.Count
}
