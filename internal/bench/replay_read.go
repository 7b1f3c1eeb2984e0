package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

// openLocal opens the archive in a directory.
func (b *replayBench) openLocal(ctx context.Context, name string) (*archive.Archive, error) {
	store, err := objectstore.Open(ctx, objectstore.Config{URL: b.storeURL(true, name)})
	if err != nil {
		return nil, err
	}
	return archive.Open(ctx, store, archive.Options{})
}

// decoding returns how many rows of Parquet become events in a second of CPU,
// on one core: the best of the rounds, since other work only adds to it.
func (b *replayBench) decoding(ctx context.Context) (best float64, err error) {
	arch, err := b.openLocal(ctx, source)
	if err != nil {
		return 0, err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range b.opts.rounds {
		n := 0
		u, err := measure(func() error {
			plan, err := arch.Plan(ctx, archive.PlanSpec{Stream: source, Format: archive.Parquet})
			if err != nil {
				return err
			}
			for batch, err := range plan.Batches(ctx) {
				if err != nil {
					return err
				}
				n += batch.Len()
			}
			return nil
		})
		if err == nil && n != b.opts.events {
			err = fmt.Errorf("decoded %d rows, want %d", n, b.opts.events)
		}
		if err != nil {
			return 0, err
		}
		best = max(best, float64(n)/u.cpu.Seconds())
	}
	return best, nil
}

// tenants of the stream that is clustered by them.
const tenants = 100

// selective replays one tenant of a hundred, whose events lie together, and
// compares what the job says it has read with all there is.
func (b *replayBench) selective(ctx context.Context, t table) error {
	const stream = "clustered"
	if err := b.empty(ctx); err != nil {
		return err
	}
	if err := b.loadClustered(ctx, stream, b.opts.events); err != nil {
		return err
	}
	if _, err := b.archiveOnce(ctx, b.storeURL(true, stream), stream); err != nil {
		return err
	}
	arch, err := b.openLocal(ctx, stream)
	if err != nil {
		return err
	}
	plan, err := arch.Plan(ctx, archive.PlanSpec{Stream: stream})
	if err != nil {
		return err
	}
	r, err := b.replay(ctx, b.storeURL(true, stream), "--stream", stream, "--tenant", tenant(tenants/2))
	if err != nil {
		return err
	}
	p := &r.job.Progress
	if err := b.holds(ctx, p.Selected); err != nil {
		return err
	}
	if want := uint64(b.opts.events / tenants); p.Selected != want {
		return fmt.Errorf("the tenant has %d events, want %d", p.Selected, want)
	}
	t.row("one tenant of 100, clustered: bytes read", "KiB", float64(p.BytesRead)/1024, "")
	t.row("the job's own total of bytes", "KiB", float64(p.BytesTotal)/1024, "")
	t.row("bytes read / full scan", "", float64(p.BytesRead)/float64(plan.Totals.Bytes), "< 0.1")
	return nil
}

func tenant(i int) string { return fmt.Sprintf("tenant-%03d", i) }

// loadClustered fills a stream with n events of the shop, those of each tenant in
// one run.
func (b *replayBench) loadClustered(ctx context.Context, stream string, n int) error {
	w, err := b.client.Writer(ctx, stream)
	if err != nil {
		return err
	}
	defer w.Close()
	events := newShop()
	var batch event.Batch
	for i := 0; i < n; {
		batch.Reset()
		for ; batch.Len() < 1000 && i < n; i++ {
			_, e := events.Next()
			e.ID = event.ID{Ms: uint64(events.Time().UnixMilli())}
			for f := range e.Fields {
				if name := string(e.Fields[f].Name); name == "tenant" || name == "tenant_id" {
					e.Fields[f].Value = []byte(tenant(i * tenants / n))
				}
			}
			batch.Append(&e)
		}
		if _, err := w.Add(ctx, &batch, 0, batch.Len(), true); err != nil {
			return err
		}
	}
	return nil
}

// Streams that are merged, and values of 1 MiB, for memory.
const (
	mergedStreams = 8
	largeValues   = 500
)

// memory shows the peak memory of replays of several streams, merged, and of
// large values, from S3 and from a directory.
func (b *replayBench) memory(ctx context.Context, t table) error {
	if err := b.empty(ctx); err != nil {
		return err
	}
	for i := range mergedStreams {
		if _, err := b.load(ctx, fmt.Sprintf("merged:%d", i), b.opts.events/mergedStreams); err != nil {
			return err
		}
	}
	if err := b.loadLarge(ctx, largeValues); err != nil {
		return err
	}
	for _, local := range []bool{false, true} {
		if _, err := b.archiveOnce(ctx, b.storeURL(local, "memory"), "*"); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		what, streams string
		events        uint64
	}{
		{fmt.Sprintf("%d streams, merged", mergedStreams), "merged:*", uint64(b.opts.events / mergedStreams * mergedStreams)},
		{fmt.Sprintf("%d values of 1 MiB", largeValues), largeStream, largeValues},
	} {
		for _, local := range []bool{false, true} {
			r, err := b.replay(ctx, b.storeURL(local, "memory"), "--stream", c.streams)
			if err == nil {
				err = b.holds(ctx, c.events)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.what, err)
			}
			where := map[bool]string{false: "S3", true: "directory"}[local]
			if c.events > largeValues && local {
				t.row("replay of "+c.what, "entries/s", float64(c.events)/r.span.Seconds(), "")
			}
			t.row(fmt.Sprintf("peak memory, %s, from %s", c.what, where), "MiB", float64(r.peak)/(1<<20), "< 128")
		}
	}
	return nil
}
