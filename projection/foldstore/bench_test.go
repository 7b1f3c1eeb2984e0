package foldstore_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/foldstore"
)

// BenchmarkApply folds three events of each of many aggregates, with memory for a
// part of them; the events of one are near to each other, or all over the run.
func BenchmarkApply(b *testing.B) {
	const aggregates, each = 100000, 3
	f := folder(b)
	for name, window := range map[string]int{"near": 5000, "far": aggregates} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s, err := foldstore.Open(f, foldstore.Options{Dir: filepath.Join(b.TempDir(), "states"), MaxBytes: 64 << 20})
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				for from := 0; from < aggregates; from += window {
					for range each {
						for a := from; a < min(from+window, aggregates); a++ {
							e := projection.Event{
								Stream: "s", ID: event.ID{Ms: uint64(n + 1)}, AggregateID: fmt.Sprint(a), Version: int64(n),
								Payload: "what a state holds is about as long as this is, or a little longer",
							}
							if _, err := apply(s, &e); err != nil {
								b.Fatal(err)
							}
							n++
						}
					}
				}
				var memory runtime.MemStats
				runtime.ReadMemStats(&memory)
				b.ReportMetric(float64(memory.HeapSys)/(1<<20), "MiB")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(aggregates*each), "ns/event")
		})
	}
}
