package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/reservoirhq/reservoir/event"
)

// benchMemory shows the archiver's peak memory over a stream and over one a
// tenth as long, into S3 and into a directory, over values of 1 MiB, and over
// so many small entries that Redis can hold ten times as many.
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
		if err := s.loadLarge(ctx, large); err != nil {
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
			c, err := peak(largeStream, large)
			if err != nil {
				return err
			}
			t.row(fmt.Sprintf("peak, %d values of 1 MiB to %s", large, where), "MiB", c, "< 256")
		}
		return nil
	})
}

// benchMany shows the archiver's peak memory over many small entries, and over
// ten times as many.
func benchMany(ctx context.Context, opts options) error {
	setDefault(&opts.events, 50_000_000)
	return withServers(ctx, func(s *servers) error {
		t := newTable(opts.out)
		var peaks []float64
		for _, n := range []int{opts.events / 10, opts.events} {
			stream := fmt.Sprintf("small-%d", n)
			if err := s.loadSmall(ctx, stream, n); err != nil {
				return err
			}
			r, err := s.archiveOnce(ctx, s.storeURL(false, stream), stream)
			if err != nil {
				return err
			}
			if r.events != uint64(n) {
				return fmt.Errorf("archived %d events of %s, want %d", r.events, stream, n)
			}
			peaks = append(peaks, float64(r.peak)/(1<<20))
			t.row(fmt.Sprintf("peak, %d small events to S3", n), "MiB", peaks[len(peaks)-1], "< 128")
		}
		t.row("the same, ten times the events / once", "", peaks[1]/peaks[0], "<= 1.10")
		return nil
	})
}

// loadSmall fills a stream with n entries of some forty bytes.
func (s *servers) loadSmall(ctx context.Context, stream string, n int) error {
	w, err := s.client.Writer(ctx, stream)
	if err != nil {
		return err
	}
	defer w.Close()
	var b event.Batch
	for i := range n {
		b.Begin(event.ID{Ms: uint64(1 + i/100), Seq: uint64(i % 100)})
		b.AddField([]byte("type"), []byte("Ticked"))
		b.AddField([]byte("aggregate_id"), strconv.AppendInt(nil, int64(i%1000), 10))
		b.AddField([]byte("n"), strconv.AppendInt(nil, int64(i), 10))
		if b.Len() < 1000 && i < n-1 {
			continue
		}
		if _, err := w.Add(ctx, &b, 0, b.Len(), true); err != nil {
			return err
		}
		b.Reset()
	}
	return nil
}

// largeStream is that of loadLarge.
const largeStream = "large"

// loadLarge fills a stream with n entries of one value of 1 MiB each, which
// compresses badly.
func (s *servers) loadLarge(ctx context.Context, n int) error {
	w, err := s.client.Writer(ctx, largeStream)
	if err != nil {
		return err
	}
	defer w.Close()
	value := make([]byte, 1<<20)
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
