package archive

import (
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

// TestFetched compares what a plan says it read with the size of the segments.
func TestFetched(t *testing.T) {
	for _, format := range []Format{JSONL, Parquet} {
		t.Run(string(format), func(t *testing.T) {
			h := newHarness(t)
			h.add("s", hourID(7, 0), 100)
			h.add("s", hourID(8, 0), 100)
			p := h.plan(PlanSpec{Stream: "s", Format: format})
			if n := p.Fetched(); n != 0 {
				t.Errorf("%d bytes fetched before reading", n)
			}
			h.ids(p)
			once := p.Fetched()
			if once != p.Totals.Bytes {
				t.Errorf("fetched %d bytes, the segments have %d", once, p.Totals.Bytes)
			}
			h.ids(p)
			if n := p.Fetched(); n != 2*once {
				t.Errorf("read twice: fetched %d bytes, want %d", n, 2*once)
			}
			none := h.plan(PlanSpec{Stream: "s", Format: format, Filter: compile(t, event.Filter{Types: []string{"NoSuchThing"}})})
			if h.ids(none); none.Fetched() != 0 {
				t.Errorf("fetched %d bytes of what the summaries exclude", none.Fetched())
			}
		})
	}
}
