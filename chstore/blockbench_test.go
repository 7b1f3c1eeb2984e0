package chstore_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/event"

	"github.com/reservoirhq/reservoir/chstore"
)

// BenchmarkBlock fills blocks of 50,000 events.
func BenchmarkBlock(b *testing.B) {
	batch := shopEvents(50_000)
	block, err := chstore.NewBlock()
	if err != nil {
		b.Fatal(err)
	}
	x := event.Mapping{}.Extractor()
	b.ReportAllocs()
	for b.Loop() {
		block.Reset()
		if err := block.Append("s", 1, batch, x); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*50_000/b.Elapsed().Seconds(), "events/s")
}
