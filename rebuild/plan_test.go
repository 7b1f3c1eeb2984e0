package rebuild

import (
	"testing"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

// TestChunks: neighbours become one chunk, and a large segment several, of which the sum is
// what it holds.
func TestChunks(t *testing.T) {
	const kilo = 1000
	for name, c := range map[string]struct {
		segments    []archive.PlannedSegment
		concurrency int
		rate        float64
		chunks      int
		whole       bool
	}{
		"as archived by default": {segments(5, 1000*kilo, 300<<20), 2, 0, 10, false},
		"half of that":           {segments(10, 500*kilo, 200<<20), 2, 0, 10, true},
		"wide":                   {segments(2, 100*kilo, 900<<20), 2, 0, 8, false},
		"small":                  {segments(40, 50*kilo, 20<<20), 1, 0, 4, true},
		"few for many hands":     {segments(2, 500*kilo, 100<<20), 8, 0, 4, false},
		"many objects":           {segments(200, 10, 1<<10), 2, 0, 4, true},
		"slow":                   {segments(1, 1000*kilo, 300<<20), 2, 20 * kilo, 10, false},
		"very slow":              {segments(1, 100*kilo, 30<<20), 2, 1, 10, false},
		"fast":                   {segments(10, 500*kilo, 200<<20), 2, 1e300, 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			var events uint64
			for _, s := range c.segments {
				events += s.Count
			}
			p := &planner{plan: &Plan{}, target: chunkTarget(events, c.concurrency, c.rate)}
			for i := range c.segments {
				p.segment(0, &c.segments[i])
			}
			var sum uint64
			after := event.ID{}
			for i, chunk := range p.plan.Chunks {
				if sum += chunk.Events; chunk.Whole != c.whole {
					t.Errorf("chunk %d is whole: %t", i, chunk.Whole)
				}
				if !after.Less(chunk.Range.From) || chunk.Range.To.Less(chunk.Range.From) {
					t.Errorf("chunk %d is from %s to %s, after %s", i, chunk.Range.From, chunk.Range.To, after)
				}
				after = chunk.Range.To
			}
			if len(p.plan.Chunks) != c.chunks || sum != events {
				t.Errorf("%d chunks of %d events, want %d of %d", len(p.plan.Chunks), sum, c.chunks, events)
			}
		})
	}
}

// Of so many events that there would be too many chunks, chunks are larger.
func TestMostChunks(t *testing.T) {
	list := segments(30, 1000, 1<<10)
	p, err := cut(100, 20, func(c *planner) error {
		for i := range list {
			c.segment(0, &list[i])
		}
		return nil
	})
	if err != nil || len(p.Chunks) > 30 || p.Events != 30_000 {
		t.Errorf("%d chunks of %d events: %v", len(p.Chunks), p.Events, err)
	}
}

// segments makes n of so many events and bytes each, an event a millisecond.
func segments(n int, count uint64, raw int64) []archive.PlannedSegment {
	list := make([]archive.PlannedSegment, n)
	for i := range list {
		s := &list[i]
		s.Path, s.Format, s.Incarnation, s.Count, s.Raw = string(rune('a'+i)), archive.Parquet, 1, count, raw
		s.First, s.Last = event.ID{Ms: 1 + uint64(i)*count}, event.ID{Ms: uint64(i+1) * count}
	}
	return list
}
