package main

import (
	"context"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// benchMemory shows the archiver's peak memory over a stream and over one a
// tenth as long, into S3 and into a directory, and over values of 1 MiB.
func benchMemory(ctx context.Context, opts options) error {
	setDefault(&opts.events, 5_000_000)
	return withServers(ctx, func(s *servers) error {
		short := opts.events / 10
		if _, err := s.load(ctx, "short", short); err != nil {
			return err
		}
		if _, err := s.load(ctx, "long", opts.events); err != nil {
			return err
		}
		const large = 2000
		if err := s.loadLarge(ctx, "large", large, 1<<20); err != nil {
			return err
		}
		t := newTable(opts.out)
		for _, local := range []bool{false, true} {
			where := map[bool]string{false: "S3", true: "directory"}[local]
			peak := func(stream string, n int) (float64, error) {
				var peaks []float64
				for i := range opts.rounds {
					r, err := s.archiveOnce(ctx, s.storeURL(local, fmt.Sprintf("%s-%d", stream, i)), stream)
					if err != nil {
						return 0, err
					}
					if r.events != uint64(n) {
						return 0, fmt.Errorf("archived %d events of %s, want %d", r.events, stream, n)
					}
					peaks = append(peaks, float64(r.peak)/(1<<20))
				}
				return median(peaks), nil
			}
			a, err := peak("short", short)
			if err != nil {
				return err
			}
			t.row(fmt.Sprintf("peak, %d events to %s", short, where), "MiB", a, "< 128")
			b, err := peak("long", opts.events)
			if err != nil {
				return err
			}
			t.row(fmt.Sprintf("peak, %d events to %s", opts.events, where), "MiB", b, "< 128")
			t.row("the same, ten times the events / once", "", b/a, "<= 1.10")
			c, err := peak("large", large)
			if err != nil {
				return err
			}
			t.row(fmt.Sprintf("peak, %d values of 1 MiB to %s", large, where), "MiB", c, "< 256")
		}
		return nil
	})
}

// loadLarge fills a stream with n entries of one value each, which compresses
// badly.
func (s *servers) loadLarge(ctx context.Context, stream string, n, size int) error {
	w, err := s.client.Writer(ctx, stream)
	if err != nil {
		return err
	}
	defer w.Close()
	value := make([]byte, size)
	state := uint64(88172645463325252)
	for i := range n {
		for j := range value {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			value[j] = 'A' + byte(state>>32)&63
		}
		var b event.Batch
		b.Append(&event.Event{ID: event.ID{Ms: uint64(1 + i)}, Fields: []event.Field{{Name: []byte("payload"), Value: value}}})
		if _, err := w.Add(ctx, &b, 0, 1, true); err != nil {
			return err
		}
	}
	return nil
}
