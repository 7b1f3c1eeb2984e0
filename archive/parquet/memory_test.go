package parquet_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
)

// heap returns the bytes in use after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// peakWriter looks at the heap now and then, while a file is written.
type peakWriter struct {
	counter
	base, peak int64
}

func (p *peakWriter) look() { p.peak = max(p.peak, heap()-p.base) }

func TestWriterMemory(t *testing.T) {
	large := new(event.Batch)
	noise := rand.New(rand.NewPCG(3, 4))
	for i := range 24 {
		large.Begin(event.ID{Ms: 1, Seq: uint64(i)})
		value := make([]byte, 1<<20)
		for j := range value {
			value[j] = byte(noise.UintN(128))
		}
		large.AddField([]byte("payload"), value)
	}
	small := shop(1000)[0]
	for _, test := range []struct {
		name    string
		batch   *event.Batch
		batches int
		limit   int64
	}{
		{"ordinary", small, 160, 24 << 20},
		{"1 MiB values", large, 12, 32 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := &peakWriter{base: heap()}
			w := parquet.NewWriter(out, parquet.Options{})
			for i := range test.batches {
				half := test.batch.Len() / (1 + i%5)
				if err := w.Write(test.batch, 0, half); err != nil {
					t.Fatal(err)
				}
				if i%3 == 0 {
					out.look()
				}
				if err := w.Write(test.batch, half, test.batch.Len()); err != nil {
					t.Fatal(err)
				}
			}
			out.look()
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			t.Logf("peak %.1f MiB", float64(out.peak)/(1<<20))
			if out.peak > test.limit {
				t.Errorf("peak heap is %d bytes, want at most %d", out.peak, test.limit)
			}
		})
	}
}
