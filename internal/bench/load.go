package main

import (
	"context"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
)

// load fills a stream with n events of the shop, one every millisecond, the
// first one right after a full hour: entries of about 470 bytes in 10 or 11
// fields. It returns the bytes of their names and values.
func (s *servers) load(ctx context.Context, stream string, n int) (bytes int64, err error) {
	w, err := s.client.Writer(ctx, stream)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	events := newShop()
	var batch event.Batch
	for i := 0; i < n; {
		batch.Reset()
		for ; batch.Len() < 1000 && i < n; i++ {
			_, e := events.Next()
			e.ID = event.ID{Ms: uint64(events.Time().UnixMilli())}
			batch.Append(&e)
		}
		if _, err := w.Add(ctx, &batch, 0, batch.Len(), true); err != nil {
			return bytes, err
		}
		bytes += int64(batch.Bytes())
	}
	return bytes, nil
}

// loadRepeated fills a stream with n events of which only some thousands are
// different: cheap to make up, even under the race detector.
func (s *servers) loadRepeated(ctx context.Context, stream string, n int) error {
	w, err := s.client.Writer(ctx, stream)
	if err != nil {
		return err
	}
	defer w.Close()
	events := shop.New(shop.Options{Seed: 1})
	batches := make([]event.Batch, 20)
	for i := range batches {
		for batches[i].Len() < 1000 {
			_, e := events.Next()
			batches[i].Append(&e)
		}
	}
	for i := 0; n > 0; i++ {
		b := &batches[i%len(batches)]
		added, err := w.Add(ctx, b, 0, min(n, b.Len()), false)
		if err != nil {
			return err
		}
		n -= added
	}
	return nil
}

// newShop makes the events of load, and of what is compared with it.
func newShop() *shop.Shop {
	return shop.New(shop.Options{Seed: 1, Start: time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)})
}
