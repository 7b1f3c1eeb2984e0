package chstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack"
)

// killDuring runs f, and kills the engine at a random moment of about as long as f
// takes. It returns f's error when the engine is up again.
func killDuring(t *testing.T, engine *stack.ClickHouse, usual time.Duration, f func(context.Context) error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f(t.Context()) }()
	timer := time.NewTimer(time.Duration(rand.Float64() * 1.2 * float64(usual)))
	defer timer.Stop()
	<-timer.C
	if err := engine.Kill(); err != nil {
		t.Fatal(err)
	}
	err := <-done
	if err := engine.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	return err
}

func TestLoadsUnderKill(t *testing.T) {
	const kills, events = 12, 20_000
	store, engine := connect(t, chstore.Config{})
	store = store.As("kills")
	s3Store, s3 := onS3(t)
	source := archived(t, s3Store, "orders", sample(events))
	source.S3 = s3
	ordered := chstore.TableSpec{
		Columns: []chstore.Column{{Name: "id_ms", Type: "UInt64"}, {Name: "tenant", Type: "String"}, {Name: "payload", Type: "String"}},
		Engine:  "MergeTree", OrderBy: "tenant", PartitionBy: "id_ms % 4",
	}
	table := store.Table("t")
	if err := store.CreateTable(t.Context(), table, ordered, chstore.Mark{Projection: "t"}); err != nil {
		t.Fatal(err)
	}
	load := chstore.Load{Into: table, Columns: ordered.Names(), Select: "SELECT id_ms, tenant, payload FROM events"}
	began := time.Now()
	if rows, err := store.LoadFiles(t.Context(), source, load); err != nil || rows != events {
		t.Fatalf("%d rows, %v", rows, err)
	}
	usual := time.Since(began)
	failed, partial := 0, 0
	for chunk := uint64(1); chunk <= kills; chunk++ {
		load := load
		load.Chunk = chunk
		err := killDuring(t, engine, usual, func(ctx context.Context) error {
			_, err := store.LoadFiles(ctx, source, load)
			return err
		})
		if err != nil && !chstore.Retryable(err) {
			t.Errorf("chunk %d: %v: not retryable", chunk, err)
		}
		if err := store.Kill(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		rows, err2 := store.Prove(t.Context(), table, chunk)
		if err2 != nil {
			t.Fatal(err2)
		}
		if err == nil && rows != events {
			t.Errorf("chunk %d: acknowledged, but %d of %d rows are there", chunk, rows, events)
		}
		if err != nil {
			failed++
		}
		if rows == events {
			continue
		}
		if rows != 0 {
			partial++
		}
		if err := store.Clean(t.Context(), table, chunk); err != nil {
			t.Fatal(err)
		}
		load.Attempt++
		if rows, err := store.LoadFiles(t.Context(), source, load); err != nil || rows != events {
			t.Fatalf("chunk %d again: %d rows, %v", chunk, rows, err)
		}
	}
	t.Logf("%d of %d loads failed, %d left a part of the chunk behind", failed, kills, partial)
	chunks, err := store.Chunks(t.Context(), table, 0)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := range uint64(kills + 1) {
		if chunks[chunk] != events {
			t.Errorf("chunk %d has %d rows, want %d", chunk, chunks[chunk], events)
		}
	}
	sums, err := store.Query(t.Context(), "SELECT uniqExact(h) FROM (SELECT _chunk, sum(cityHash64(id_ms, tenant, payload)) AS h FROM t GROUP BY _chunk)", 2)
	if err != nil || string(sums.Rows[0][0]) != "1" {
		t.Errorf("chunks differ: %s, %v", sums.Rows, err)
	}
}

// TestAddedUp shows how a batch for a table that adds rows up is settled: by what was
// ever added, which no merge changes.
func TestAddedUpUnderKill(t *testing.T) {
	const kills, events = 8, 20_000
	store, engine := connect(t, chstore.Config{})
	store = store.As("kills")
	summing := chstore.TableSpec{
		Columns: []chstore.Column{{Name: "tenant", Type: "String"}, {Name: "third", Type: "UInt8"}, {Name: "amount", Type: "UInt64"}},
		Engine:  "SummingMergeTree((amount))", OrderBy: "tenant, third", PartitionBy: "third",
	}
	table := store.Table("t")
	create := func() {
		t.Helper()
		if err := errors.Join(store.DropTable(t.Context(), table), store.CreateTable(t.Context(), table, summing, chstore.Mark{Projection: "t"})); err != nil {
			t.Fatal(err)
		}
	}
	create()
	b := block(t, sample(events))
	load := chstore.Load{Into: table, Columns: summing.Names(), Select: "SELECT tenant, id_ms % 3 AS third, JSONExtractUInt(payload, 'amount') AS amount FROM events", Adding: true}
	began := time.Now()
	if _, err := store.LoadBlock(t.Context(), b, "", load); err != nil {
		t.Fatal(err)
	}
	usual := time.Since(began)
	complete, damaged := uint64(1), 0 // batches in the table, and tables that lack a part of one
	for batch := uint64(1); batch <= kills; batch++ {
		load := load
		load.Chunk = batch
		before, after := complete*events, (complete+1)*events
		_ = killDuring(t, engine, usual, func(ctx context.Context) error { //nolint:errcheck // what became of it is what is looked at
			_, err := store.LoadBlock(ctx, b, "", load)
			return err
		})
		if err := store.Kill(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		added, err := store.Added(t.Context(), table)
		if err != nil {
			t.Fatal(err)
		}
		complete++
		switch added {
		case after:
			continue
		case before: // nothing is there: a token that is remembered all the same must not hide it
			load.Attempt++
		default: // some partitions are there: the token keeps them from counting twice
			t.Logf("batch %d: %d of %d rows were there", batch, added-before, events)
		}
		if _, err := store.LoadBlock(t.Context(), b, "", load); err != nil {
			t.Fatal(err)
		}
		switch again, err := store.Added(t.Context(), table); {
		case err != nil:
			t.Fatal(err)
		case again > after || again < after && added == before:
			t.Fatalf("batch %d: %d rows were added; want %d", batch, again, after)
		case again < after:
			// The engine was killed when it had noted the token of a partition, and the part was
			// not to be seen yet: the token hides that partition. It is never counted twice, and
			// whoever feeds the table sees that it is there in part.
			damaged++
			t.Logf("batch %d: %d of %d rows stay away", batch, after-again, events)
			create()
			complete = 0
		}
	}
	if damaged > 2 {
		t.Errorf("%d of %d kills left a batch in part for good", damaged, kills)
	}
	sums, err := store.Query(t.Context(), "SELECT sum(amount) FROM t", 1)
	if want := complete * events * (events - 1) / 2; err != nil || string(sums.Rows[0][0]) != number(want) {
		t.Errorf("sum is %s, %v; want %d", sums.Rows, err, want)
	}
}
