package archive_test

import (
	"context"
	"io"
	"testing"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/objectstore"
)

// discard is a store that reads what is put and keeps nothing.
type discard struct{ objectstore.Store }

func (discard) Get(context.Context, string, objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	return nil, objectstore.Info{}, objectstore.ErrNotFound
}

func (discard) Put(_ context.Context, key string, body io.Reader, _ objectstore.Condition) (objectstore.Info, error) {
	n, err := io.Copy(io.Discard, body)
	return objectstore.Info{Key: key, Size: n}, err
}

// BenchmarkSmallSegment writes segments of ten events, as many quiet streams
// give: mostly the cost of beginning and ending one.
func BenchmarkSmallSegment(b *testing.B) {
	a, err := archive.Open(b.Context(), discard{}, archive.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := shop.New(shop.Options{})
	var batch event.Batch
	for i := range 10 {
		_, e := s.Next()
		e.ID = event.ID{Ms: uint64(1 + i)}
		batch.Append(&e)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := a.NewSegmentWriter(b.Context(), "s", 1, []archive.Format{archive.JSONL, archive.Parquet}, batch.ID(0))
		if err := w.Write(&batch, 0, batch.Len()); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
