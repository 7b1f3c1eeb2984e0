package archive

import (
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

// BenchmarkEvents reads 200,000 events in four segments through a plan.
func BenchmarkEvents(b *testing.B) {
	const spans, perSpan = 4, 50_000
	store, err := objectstore.NewLocal(b.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	a := openTest(b, store)
	l := loadLog(b, a, "s")
	for span := range spans {
		first := hourID(7, span*perSpan)
		w := a.NewSegmentWriter(b.Context(), "s", 1, []Format{JSONL, Parquet}, first)
		var batch event.Batch
		for i := range perSpan {
			e := testEvent(event.ID{Ms: first.Ms + uint64(i)})
			batch.Append(&e)
		}
		if err := w.Write(&batch, 0, batch.Len()); err != nil {
			b.Fatal(err)
		}
		segments, err := w.Close()
		if err != nil {
			b.Fatal(err)
		}
		mustAppend(b, l, Commit{Kind: KindAppend, Head: w.Last(), Adds: segments})
	}
	for _, format := range []Format{JSONL, Parquet} {
		b.Run(string(format), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := a.Plan(b.Context(), PlanSpec{Stream: "s", Format: format})
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				for _, err := range p.Events(b.Context()) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != spans*perSpan {
					b.Fatalf("%d events", n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(spans*perSpan), "ns/event")
		})
	}
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, err := a.Verify(b.Context(), VerifySpec{Stream: "s"})
			if err != nil || !r.OK() || r.Verified.Events != spans*perSpan {
				b.Fatalf("%+v, %v", r, err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(spans*perSpan), "ns/event")
	})
}
