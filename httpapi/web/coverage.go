package web

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

// slots is into how many parts a timeline is cut.
const slots = 120

// coverage is what is archived of a stream in a window of time.
type coverage struct {
	From, To time.Time
	Slots    [slots]float64 // events by part of the window
	Events   uint64
	First    event.ID // of the archived events in the window; zero: there are none
	Types    map[string]*[slots]float64
	Gaps     []archive.RecordedGap
	More     bool // there are more gaps than these
	// Hours are events by hour since 1970, where they were asked for.
	Hours map[uint64]float64
}

// Bounds of what one coverage holds.
const (
	maxGaps  = 200
	maxTypes = 8
	maxHours = 24 * 62
)

// measure counts what is archived of a stream in a window, by the commit log alone: the
// events of a segment are spread over its time evenly.
func measure(ctx context.Context, arch *archive.Archive, stream string, from, to time.Time, hours bool) (*coverage, error) {
	plan, err := arch.Plan(ctx, archive.PlanSpec{Stream: stream, Range: event.RangeOf(from, to)})
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the stream
	}
	c := &coverage{From: from, To: to, Types: map[string]*[slots]float64{}}
	if hours {
		c.Hours = map[uint64]float64{}
	}
	for segment, err := range plan.Segments(ctx) {
		if err != nil {
			return nil, err //nolint:wrapcheck // it names the stream
		}
		c.add(&segment.Segment)
	}
	for gap, err := range plan.Gaps(ctx) {
		if err != nil {
			return nil, err //nolint:wrapcheck // it names the stream
		}
		if len(c.Gaps) == maxGaps {
			c.More = true
			break
		}
		c.Gaps = append(c.Gaps, gap)
	}
	return c, nil
}

func (c *coverage) add(s *archive.Segment) {
	first, last := idTime(s.First), idTime(s.Last)
	if c.First.IsZero() || s.First.Less(c.First) {
		c.First = s.First
	}
	inside := c.spread(&c.Slots, first, last, float64(s.Count))
	c.Events += uint64(math.Round(inside))
	if c.Hours != nil && len(c.Hours) < maxHours {
		c.Hours[archive.Hour(s.First)] += inside
	}
	for name, n := range s.Types {
		if c.Types[name] == nil {
			if len(c.Types) >= maxTypes {
				name = otherTypes
			}
			if c.Types[name] == nil {
				c.Types[name] = new([slots]float64)
			}
		}
		c.spread(c.Types[name], first, last, float64(n))
	}
}

// otherTypes is what the types together are called that have no line of their own.
const otherTypes = "others"

// spread adds n events, evenly between two times, to the parts of the window. It
// returns how many fell into it.
func (c *coverage) spread(into *[slots]float64, first, last time.Time, n float64) (inside float64) {
	slot := float64(c.To.Sub(c.From)) / slots
	a, b := float64(first.Sub(c.From))/slot, float64(last.Sub(c.From))/slot
	if b-a < 1e-9 {
		if i := int(math.Floor(a)); i >= 0 && i < slots {
			into[i] += n
			return n
		}
		return 0
	}
	for i := max(0, int(math.Floor(a))); i < slots && float64(i) < b; i++ {
		part := n * (min(b, float64(i+1)) - max(a, float64(i))) / (b - a)
		if part > 0 {
			into[i] += part
			inside += part
		}
	}
	return inside
}

// rates gives the events a second of each part.
func (c *coverage) rates() []float64 {
	seconds := c.To.Sub(c.From).Seconds() / slots
	list := make([]float64, slots)
	for i, n := range c.Slots {
		list[i] = n / seconds
	}
	return list
}

// coverageTTL is how long a coverage is shown again, so that many viewers of an
// overview cost one look at the commit logs.
const coverageTTL = 10 * time.Second

// maxCoverages bounds what is remembered.
const maxCoverages = 1000

type coverageKey struct {
	stream string
	window time.Duration
}

type keptCoverage struct {
	*coverage
	until time.Time
}

type coverageCache struct {
	mu   sync.Mutex
	kept map[coverageKey]keptCoverage
}

func newCoverageCache() *coverageCache {
	return &coverageCache{kept: map[coverageKey]keptCoverage{}}
}

// get gives the coverage of the window that ends now.
func (cc *coverageCache) get(ctx context.Context, arch *archive.Archive, stream string, window time.Duration, now time.Time) (*coverage, error) {
	key := coverageKey{stream, window}
	cc.mu.Lock()
	kept, ok := cc.kept[key]
	cc.mu.Unlock()
	if ok && now.Before(kept.until) {
		return kept.coverage, nil
	}
	c, err := measure(ctx, arch, stream, now.Add(-window), now, false)
	if err != nil {
		return nil, err
	}
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if len(cc.kept) >= maxCoverages {
		clear(cc.kept)
	}
	cc.kept[key] = keptCoverage{c, now.Add(coverageTTL)}
	return c, nil
}
