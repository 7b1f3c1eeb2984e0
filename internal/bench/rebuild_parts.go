package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
)

// clustered is the stream in which the events of each tenant lie together. It has so many
// times the events of the other: a rebuild of one tenant takes a second whatever the table.
const (
	clustered      = "clustered"
	clusteredShare = 2
)

// loadStep is how many events are in Redis at once.
const loadStep = 500_000

// archiveAll makes the archives that are rebuilt from: source in one, the others in
// another.
func (b *rebuildBench) archiveAll(ctx context.Context) error {
	n, aggregates := b.opts.events, b.opts.events/aggregatesShare
	if b.opts.wants("push", "send", "map") {
		every := newShop()
		if err := b.archiveStream(ctx, source, source, n, func(int) *event.Event {
			_, e := every.Next()
			e.ID = event.ID{Ms: uint64(every.Time().UnixMilli())}
			return &e
		}); err != nil {
			return err
		}
	}
	if b.opts.wants("scope") {
		if err := b.archiveClustered(ctx, clusteredShare*n); err != nil {
			return err
		}
	}
	if !b.opts.wants("fold") {
		return nil
	}
	return b.archiveStream(ctx, "more", counted, 2*aggregates, func(i int) *event.Event {
		return &event.Event{ID: event.ID{Ms: uint64(1_760_000_000_000 + i)}, Fields: []event.Field{
			{Name: []byte("event_type"), Value: []byte("Counted")},
			{Name: []byte("aggregate_id"), Value: strconv.AppendInt([]byte("aggregate-"), int64(i%aggregates)*7919%int64(aggregates), 10)},
			{Name: []byte("payload"), Value: strconv.AppendInt(nil, int64(i), 10)},
		}}
	})
}

// archiveClustered archives n events, those of each tenant together.
func (b *rebuildBench) archiveClustered(ctx context.Context, n int) error {
	byTenant := newShop()
	return b.archiveStream(ctx, "more", clustered, n, func(i int) *event.Event {
		_, e := byTenant.Next()
		e.ID = event.ID{Ms: uint64(byTenant.Time().UnixMilli())}
		for f := range e.Fields {
			if string(e.Fields[f].Name) == "tenant" {
				e.Fields[f].Value = []byte(tenant(i * tenants / n))
			}
		}
		return &e
	})
}

// archiveStream archives n events of a stream, some at a time, so that Redis needs
// no memory for all of them; or finds that an earlier run has done it.
func (b *rebuildBench) archiveStream(ctx context.Context, archive, stream string, n int, next func(i int) *event.Event) error {
	done := filepath.Join(b.dir, fmt.Sprintf("archived-%s-%d", stream, n))
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	w, err := b.client.Writer(ctx, stream)
	if err != nil {
		return err
	}
	defer w.Close()
	var batch event.Batch
	var last event.ID
	for i := 0; i < n; {
		for end := min(n, i+loadStep); i < end; {
			batch.Reset()
			for ; batch.Len() < 1000 && i < end; i++ {
				e := next(i)
				last = e.ID
				batch.Append(e)
			}
			if _, err := w.Add(ctx, &batch, 0, batch.Len(), true); err != nil {
				return err
			}
		}
		if _, err := b.archiveOnce(ctx, b.storeURL(false, archive), stream); err != nil {
			return err
		}
		if _, err := b.client.Trim(ctx, stream, redisstream.TrimSpec{CommittedHead: last}); err != nil {
			return err
		}
	}
	return os.WriteFile(done, nil, 0o600)
}

// scoped rebuilds one tenant of a hundred, whose events lie together, and compares
// that with a rebuild of everything.
func (b *rebuildBench) scoped(ctx context.Context, t table) error {
	name := fmt.Sprintf("scoped_%d", b.made)
	definition := ordersDefinition(b.like, name, clustered, projection.SQL)
	if _, err := b.rebuild(ctx, definition, rebuild.Spec{Projection: name}); err != nil {
		return err
	}
	if err := b.atRest(ctx); err != nil {
		return err
	}
	whole, err := b.rebuild(ctx, definition, rebuild.Spec{Projection: name})
	if err != nil {
		return err
	}
	if err := b.atRest(ctx); err != nil {
		return err
	}
	before, err := b.fingerprint(ctx, name)
	if err != nil {
		return err
	}
	one, err := b.rebuild(ctx, definition, rebuild.Spec{Projection: name, Scope: rebuild.Scope{Tenants: []string{tenant(tenants / 2)}}})
	if err != nil {
		return err
	}
	after, err := b.fingerprint(ctx, name)
	if err == nil && after != before {
		err = fmt.Errorf("after the rebuild of one tenant the table is %s, and was %s", after, before)
	}
	if err != nil {
		return err
	}
	t.row("rebuild of all tenants, compared with the live table", "s", whole.span.Seconds(), "")
	t.row("rebuild of one tenant of 100, clustered", "s", one.span.Seconds(), "")
	t.row("whole / one tenant", "times", whole.span.Seconds()/one.span.Seconds(), ">= 10")
	t.row("the same, CPU of ClickHouse and the worker", "times", (whole.cpu+whole.server).Seconds()/(one.cpu+one.server).Seconds(), "")
	t.row("load of all tenants / of one", "times", whole.phases[rebuild.PhaseLoad].Seconds()/one.phases[rebuild.PhaseLoad].Seconds(), ">= 10")
	for _, phase := range []string{rebuild.PhaseCarry, rebuild.PhaseLoad, rebuild.PhaseCatchUp, rebuild.PhaseVerify, rebuild.PhaseHandOver} {
		t.row("of one tenant: "+phase, "s", one.phases[phase].Seconds(), "")
	}
	return b.dropTables(ctx)
}

// atRest waits until ClickHouse has merged what was loaded: what comes next is not to wait
// for that.
func (b *rebuildBench) atRest(ctx context.Context) error {
	const looks = 5 // in a row without a merge: one ends, and the next begins
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for none := 0; none < looks; {
		out, err := b.engine.Query(ctx, "SELECT count() FROM system.merges")
		switch {
		case err != nil:
			return err
		case strings.TrimSpace(out) == "0":
			none++
		default:
			none = 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// fold shows the memory that a worker needs for many aggregates, and for a tenth of
// them it is not more.
func (b *rebuildBench) fold(ctx context.Context, t table) error {
	name := fmt.Sprintf("counters_%d", b.made)
	aggregates := b.opts.events / aggregatesShare
	r, err := b.rebuild(ctx, countersDefinition(name, counted), rebuild.Spec{Projection: name})
	if err != nil {
		return err
	}
	out, err := b.engine.Query(ctx, "SELECT count(), sum(events), sum(total) FROM "+name+" FINAL")
	if err != nil {
		return err
	}
	var rows, events, total uint64
	if _, err := fmt.Sscan(out, &rows, &events, &total); err != nil {
		return err
	}
	n := uint64(2 * aggregates)
	if rows != uint64(aggregates) || events != n || total != n*(n-1)/2 {
		return fmt.Errorf("the fold has %d rows of %d events, which add up to %d; want %d of %d", rows, events, total, aggregates, n)
	}
	load := r.phases[rebuild.PhaseLoad].Seconds()
	t.row(fmt.Sprintf("fold of %d aggregates, load", aggregates), "events/s", float64(n)/load, "")
	t.row("the same", "aggregates/s", float64(aggregates)/load, "")
	t.row("fold, CPU of the worker", "µs/event", micros(r.cpu)/float64(n), "")
	t.row("fold, peak memory of the worker", "MiB", float64(r.peak)/mebi, "< 512")
	return nil
}
