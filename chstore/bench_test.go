package chstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
)

// BenchmarkLoad compares ways to load a million events with one INSERT SELECT by hand
// that uses all threads: what is pushed down file by file, two at a time, and what is
// sent in blocks. The ratio is of speeds in the same run.
func BenchmarkLoad(b *testing.B) {
	const files, perFile = 4, 250_000
	store, engine := connect(b, chstore.Config{})
	s3Store, s3 := onS3(b)
	made := shop.New(shop.Options{Seed: 1})
	var sources []chstore.Source
	var batches []*event.Batch
	for f := range files {
		var batch event.Batch
		for i := range perFile {
			_, e := made.Next()
			e.ID = event.ID{Ms: 1_760_000_400_000 + uint64(f)*3_600_000 + uint64(i/100), Seq: uint64(i % 100)}
			batch.Append(&e)
		}
		source := archived(b, s3Store, fmt.Sprintf("s%d", f), &batch)
		source.S3 = s3
		sources, batches = append(sources, source), append(batches, &batch)
	}
	spec := chstore.TableSpec{
		Columns: []chstore.Column{{Name: "tenant", Type: "LowCardinality(String)"}, {Name: "id", Type: "String"}, {Name: "type", Type: "LowCardinality(String)"}, {Name: "at", Type: "DateTime64(6, 'UTC')"}, {Name: "amount", Type: "Int64"}, {Name: "currency", Type: "LowCardinality(String)"}},
		Engine:  "MergeTree", OrderBy: "tenant, id",
	}
	const selection = `SELECT tenant, aggregate_id, type, occurred_at, p.1, p.2 FROM (
SELECT tenant, aggregate_id, type, occurred_at, JSONExtract(payload, 'Tuple(total Int64, currency String)') AS p FROM events)`
	fresh := func(name string) chstore.Table {
		table := store.Table(name)
		if err := store.DropTable(b.Context(), table); err != nil {
			b.Fatal(err)
		}
		if err := store.CreateTable(b.Context(), table, spec, chstore.Mark{Projection: name}); err != nil {
			b.Fatal(err)
		}
		return table
	}
	byHand := func() {
		table := fresh("by_hand")
		var keys []string
		for _, source := range sources {
			keys = append(keys, source.Keys...)
		}
		_, err := engine.Query(b.Context(), fmt.Sprintf(`INSERT INTO %s (tenant, id, type, at, amount, currency)
SELECT tenant, aggregate_id, event_type, occurred_at, p.1, p.2 FROM (SELECT *, JSONExtract(payload, 'Tuple(total Int64, currency String)') AS p
FROM s3('%s/%s/{%s}', '%s', '%s', 'Parquet'))`, table, s3.Endpoint, s3.Bucket, strings.Join(keys, ","), stack.S3AccessKey, stack.S3SecretKey))
		if err != nil {
			b.Fatal(err)
		}
		check(b, store, table, files*perFile)
	}
	pushed := func() {
		table := fresh("pushed")
		var group errgroup.Group
		group.SetLimit(2)
		for i, source := range sources {
			group.Go(func() error {
				_, err := store.LoadFiles(b.Context(), source, chstore.Load{Into: table, Columns: spec.Names(), Select: selection, Chunk: uint64(i)})
				return err
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		check(b, store, table, files*perFile)
	}
	sent := func() {
		table := fresh("sent")
		var group errgroup.Group
		group.SetLimit(2)
		for i, batch := range batches {
			group.Go(func() error { return sendAll(b, store, table, spec, selection, uint64(i), batch) })
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		check(b, store, table, files*perFile)
	}
	var hand, push, send time.Duration
	for b.Loop() {
		hand += took(byHand)
		push += took(pushed)
		send += took(sent)
	}
	b.ReportMetric(float64(b.N)*files*perFile/hand.Seconds(), "byhand_events/s")
	b.ReportMetric(hand.Seconds()/push.Seconds(), "pushed_ratio")
	b.ReportMetric(hand.Seconds()/send.Seconds(), "sent_ratio")
}

func sendAll(b *testing.B, store *chstore.Store, table chstore.Table, spec chstore.TableSpec, selection string, part uint64, batch *event.Batch) error {
	const size = 50_000
	block, err := chstore.NewBlock(selection)
	if err != nil {
		return err
	}
	x := event.Mapping{}.Extractor()
	for from := 0; from < batch.Len(); from += size {
		slice := batch.Slice(from, min(from+size, batch.Len()))
		block.Reset()
		if err := block.Append("s", 1, &slice, x); err != nil {
			return err
		}
		load := chstore.Load{Into: table, Columns: spec.Names(), Select: selection, Chunk: part*1000 + uint64(from/size)}
		if _, err := store.LoadBlock(b.Context(), block, "", load); err != nil {
			return err
		}
	}
	return nil
}

func check(t testing.TB, store *chstore.Store, table chstore.Table, want uint64) {
	t.Helper()
	if rows, err := store.Rows(t.Context(), table); err != nil || rows != want {
		t.Fatalf("%s has %d rows, %v; want %d", table.Name, rows, err, want)
	}
}

func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
