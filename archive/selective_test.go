package archive

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

// TestSelectiveFilter reads one tenant of a hundred, whose events lie together.
func TestSelectiveFilter(t *testing.T) {
	h := newHarness(t)
	const tenants, each = 100, 2500
	l := loadLog(t, h.a, "s")
	w := h.a.NewSegmentWriter(t.Context(), "s", 1, []Format{Parquet}, hourID(7, 0))
	random := rand.New(rand.NewPCG(1, 2))
	for tenant := range tenants {
		var b event.Batch
		for i := range each {
			b.Begin(hourID(7, tenant*each+i))
			b.AddField([]byte("event_id"), fmt.Appendf(nil, "%016x%016x", random.Uint64(), random.Uint64()))
			b.AddField([]byte("type"), []byte("OrderPaid"))
			b.AddField([]byte("tenant"), fmt.Appendf(nil, "tenant-%02d", tenant*37%tenants)) // in no order
			b.AddField([]byte("correlation_id"), fmt.Appendf(nil, "%016x%016x", random.Uint64(), random.Uint64()))
			b.AddField([]byte("payload"), fmt.Appendf(nil, `{"order":%d,"customer":%d,"total":%d}`, random.Uint32(), random.Uint32(), random.Uint32()))
		}
		if err := w.Write(&b, 0, b.Len()); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, Commit{Kind: KindAppend, Head: w.Last(), Adds: segments})
	all := h.plan(PlanSpec{Stream: "s"})
	if n := h.count(all); n != tenants*each {
		t.Fatalf("%d events", n)
	}
	for _, tenant := range []string{"tenant-00", "tenant-50", "tenant-63"} {
		one := h.plan(PlanSpec{Stream: "s", Filter: compile(t, event.Filter{Tenants: []string{tenant}})})
		if n := h.count(one); n != each {
			t.Fatalf("%s: %d events", tenant, n)
		}
		t.Logf("%s: %d of %d bytes", tenant, one.Fetched(), all.Fetched())
		if one.Fetched() > all.Fetched()/10 {
			t.Errorf("%s: fetched %d bytes, more than a tenth of %d", tenant, one.Fetched(), all.Fetched())
		}
	}
}

// count reads the plan and counts its events.
func (h *harness) count(p *Plan) (n int) {
	h.t.Helper()
	for b, err := range p.Batches(h.t.Context()) {
		if err != nil {
			h.t.Fatal(err)
		}
		n += b.Len()
	}
	return n
}
