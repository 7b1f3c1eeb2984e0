package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// naiveShare is the part of the stream that the naive archiver gets: enough to
// tell its rate.
const naiveShare = 4

// speeds are the rates of one round, in events a second, and what they cost.
type speeds struct {
	ceiling, reader, archiver, naive    float64
	readerCPU, archiverCPU, naiveCPU    float64 // µs an event
	readerAllocs, archiverPeak, storedB float64
}

// benchArchive compares the archiver with the ceiling and with the baseline.
func benchArchive(ctx context.Context, opts options) error {
	setDefault(&opts.events, 2_000_000)
	return withServers(ctx, func(s *servers) error {
		const stream = "bench"
		raw, err := s.load(ctx, stream, opts.events)
		if err != nil {
			return err
		}
		fmt.Fprintf(opts.out, "%d entries of %.0f bytes in one stream; %d rounds\n\n",
			opts.events, float64(raw)/float64(opts.events), opts.rounds)
		var rounds []speeds
		for i := range opts.rounds {
			r, err := s.speedRound(ctx, stream, fmt.Sprintf("round-%d", i), opts.events)
			if err != nil {
				return err
			}
			rounds = append(rounds, r)
			fmt.Fprintf(opts.out, "round %d: ceiling %.0f/s, reader %.0f/s, archiver %.0f/s (%.2f µs), naive %.0f/s (%.2f µs)\n",
				i+1, r.ceiling, r.reader, r.archiver, r.archiverCPU, r.naive, r.naiveCPU)
		}
		columns, err := parquetColumns(ctx, opts.rounds)
		if err != nil {
			return err
		}
		printSpeeds(opts, rounds, columns)
		return nil
	})
}

func (s *servers) speedRound(ctx context.Context, stream, name string, events int) (r speeds, err error) {
	each := func(u usage, n int) (rate, cpu, allocs float64) {
		return float64(n) / u.wall.Seconds(), micros(u.cpu) / float64(n), float64(u.allocs) / float64(n)
	}
	whole := func(n int, err error) error {
		if err == nil && n != events {
			err = fmt.Errorf("read %d entries, want %d", n, events)
		}
		return err
	}
	u, err := measure(func() error { return whole(readCeiling(ctx, s.redis.Addr(), stream)) })
	if err != nil {
		return r, fmt.Errorf("counting client: %w", err)
	}
	r.ceiling, _, _ = each(u, events)
	u, err = measure(func() error { return whole(readAll(ctx, s.client, stream)) })
	if err != nil {
		return r, fmt.Errorf("reader: %w", err)
	}
	r.reader, r.readerCPU, r.readerAllocs = each(u, events)
	child, err := s.archiveOnce(ctx, s.storeURL(false, name), stream)
	if err == nil {
		err = whole(int(child.events), nil)
	}
	if err != nil {
		return r, err
	}
	r.archiver, r.archiverCPU = float64(events)/child.wall.Seconds(), micros(child.cpu)/float64(events)
	r.archiverPeak, r.storedB = float64(child.peak), float64(child.stored)/float64(events)
	n := 0
	u, err = measure(func() (err error) {
		n, err = s.naiveArchive(ctx, stream, name+"-naive", events/naiveShare)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("naive archiver: %w", err)
	}
	r.naive, r.naiveCPU, _ = each(u, n)
	return r, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func printSpeeds(opts options, rounds []speeds, columns columnCosts) {
	t := newTable(opts.out)
	of := func(f func(speeds) float64) float64 { return medianOf(rounds, f) }
	t.row("raw ceiling: a client that only counts the bytes", "entries/s", of(func(r speeds) float64 { return r.ceiling }), "")
	t.row("reader", "entries/s", of(func(r speeds) float64 { return r.reader }), "")
	t.row("reader / ceiling", "", of(func(r speeds) float64 { return r.reader / r.ceiling }), ">= 0.85")
	t.row("reader, CPU", "µs/entry", of(func(r speeds) float64 { return r.readerCPU }), "<= 0.35")
	t.row("reader, allocations", "1/entry", of(func(r speeds) float64 { return r.readerAllocs }), "<= 0.05")
	t.row("Parquet writer", "rows/s of a core", 1e9/columns.segmentCPU, ">= 600,000")
	t.row("Parquet writer / floor, CPU", "", columns.segmentCPU/columns.floorCPU, "<= 1.10")
	t.row("Parquet writer / floor, size", "", columns.segmentSize/columns.floorSize, "<= 1.10")
	t.row("Parquet reader", "rows/s of a core", 1e9/columns.readerCPU, ">= 3,000,000")
	t.row("archiver, both formats to S3", "events/s", of(func(r speeds) float64 { return r.archiver }), "")
	t.row("archiver / ceiling", "", of(func(r speeds) float64 { return r.archiver / r.ceiling }), ">= 0.25")
	t.row("archiver, its own CPU", "µs/event", of(func(r speeds) float64 { return r.archiverCPU }), "<= 4.5")
	t.row("archiver, peak memory", "MiB", of(func(r speeds) float64 { return r.archiverPeak / (1 << 20) }), "< 128")
	t.row("archiver, stored", "bytes/event", of(func(r speeds) float64 { return r.storedB }), "")
	t.row("naive archiver", "events/s", of(func(r speeds) float64 { return r.naive }), "")
	t.row("archiver / naive", "", of(func(r speeds) float64 { return r.archiver / r.naive }), ">= 3")
	t.row("naive archiver, its own CPU", "µs/event", of(func(r speeds) float64 { return r.naiveCPU }), "")
}

func medianOf[T any](rounds []T, f func(T) float64) float64 {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = f(r)
	}
	return median(values)
}

func median(values []float64) float64 {
	slices.Sort(values)
	if len(values) == 0 {
		return 0
	}
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid]
	}
	return (values[mid-1] + values[mid]) / 2
}
