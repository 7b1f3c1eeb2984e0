package chstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
)

func generation(n int) chstore.Mark {
	return chstore.Mark{Projection: "orders", Generation: n, Rebuild: fmt.Sprintf("job%d", n), Digest: "d"}
}

// filled makes a table of n rows.
func filled(t *testing.T, store *chstore.Store, name string, mark chstore.Mark, n int) chstore.Table {
	t.Helper()
	table := store.Table(name)
	if err := store.CreateTable(t.Context(), table, spec("MergeTree"), mark); err != nil {
		t.Fatal(err)
	}
	load := chstore.Load{Into: table, Columns: spec("MergeTree").Names(), Select: "SELECT tenant, event_id AS id, id_seq AS amount FROM events"}
	if _, err := store.LoadBlock(t.Context(), block(t, sample(n)), "", load); err != nil {
		t.Fatal(err)
	}
	return table
}

func live(t *testing.T, store *chstore.Store, table chstore.Table, want chstore.Mark) {
	t.Helper()
	info, err := store.Inspect(t.Context(), table)
	if err != nil || info.Mark != want {
		t.Fatalf("%s is %s, %v; want %s", table.Name, info.Mark, err, want)
	}
}

func TestExchange(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	ctx := t.Context()
	orders := store.Table("orders")
	first, second := filled(t, store, "orders__g1", generation(1), 10), filled(t, store, "orders__g2", generation(2), 20)
	for range 2 { // the second time there is nothing left to do
		if err := store.Exchange(ctx, orders, first, generation(1), chstore.Mark{}); err != nil {
			t.Fatal(err)
		}
		live(t, store, orders, generation(1))
	}
	for range 2 {
		if err := store.Exchange(ctx, orders, second, generation(2), generation(1)); err != nil {
			t.Fatal(err)
		}
		live(t, store, orders, generation(2))
		live(t, store, second, generation(1))
	}
	// Back again.
	if err := store.Exchange(ctx, orders, second, generation(1), generation(2)); err != nil {
		t.Fatal(err)
	}
	live(t, store, orders, generation(1))
	if err := store.Exchange(ctx, orders, store.Table("orders__g3"), generation(3), generation(1)); !errors.Is(err, chstore.ErrNoTable) {
		t.Errorf("without a shadow: %v", err)
	}
	if err := store.Exchange(ctx, orders, second, generation(3), generation(1)); !errors.Is(err, chstore.ErrChangedByHand) {
		t.Errorf("another shadow: %v", err)
	}
	if err := store.Exchange(ctx, orders, second, generation(2), generation(7)); !errors.Is(err, chstore.ErrChangedByHand) {
		t.Errorf("another live table: %v", err)
	}
	live(t, store, orders, generation(1))
	tables, err := store.Marked(ctx, "", "orders")
	if err != nil || len(tables) != 2 || tables[0].Rows != 10 || tables[1].Mark != generation(2) {
		t.Errorf("tables of orders: %+v, %v", tables, err)
	}
}

func TestExchangeUnderReaders(t *testing.T) {
	const swaps, readers = 60, 3
	store, engine := connect(t, chstore.Config{})
	orders := store.Table("orders")
	filled(t, store, "orders", generation(1), 1000)
	other := filled(t, store, "orders__g2", generation(2), 2000)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	counts := make([]int, readers)
	for i := range readers {
		reader := open(t, chstore.Config{URL: engine.URL()})
		wg.Go(func() {
			for ctx.Err() == nil {
				// Both of one query come from the same table.
				rows, err := reader.Query(t.Context(), "SELECT (SELECT count() FROM orders), count() FROM orders", 1)
				if err != nil {
					t.Error(err)
					return
				}
				if n := string(rows.Rows[0][1]); n != "1000" && n != "2000" {
					t.Errorf("%s rows", n)
				}
				counts[i]++
			}
		})
	}
	for i := range swaps {
		want, expect := generation(2-i%2), generation(1+i%2)
		if err := store.Exchange(t.Context(), orders, other, want, expect); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	for i, n := range counts {
		if n == 0 {
			t.Errorf("reader %d never read", i)
		}
	}
	t.Logf("%d exchanges, reads: %v", swaps, counts)
}
