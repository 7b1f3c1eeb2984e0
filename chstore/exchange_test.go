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
	filled(t, store, "orders__g1", generation(1), 10)
	filled(t, store, "anywhere", generation(2), 20)
	for range 2 { // the second time there is nothing left to do
		if err := store.Exchange(ctx, orders, generation(1), chstore.Mark{}); err != nil {
			t.Fatal(err)
		}
		live(t, store, orders, generation(1))
	}
	for range 2 {
		if err := store.Exchange(ctx, orders, generation(2), generation(1)); err != nil {
			t.Fatal(err)
		}
		live(t, store, orders, generation(2))
		live(t, store, orders.Of(1), generation(1))
	}
	// Back again.
	if err := store.Exchange(ctx, orders, generation(1), generation(2)); err != nil {
		t.Fatal(err)
	}
	live(t, store, orders, generation(1))
	live(t, store, orders.Of(2), generation(2))
	if err := store.Exchange(ctx, orders, generation(3), generation(1)); !errors.Is(err, chstore.ErrNoTable) {
		t.Errorf("without a shadow: %v", err)
	}
	if err := store.Exchange(ctx, orders, generation(2), generation(7)); !errors.Is(err, chstore.ErrChangedByHand) {
		t.Errorf("another live table: %v", err)
	}
	live(t, store, orders, generation(1))
	tables, err := store.Marked(ctx, "", "orders")
	if err != nil || len(tables) != 2 || tables[0].Rows != 10 || tables[1].Mark != generation(2) {
		t.Errorf("tables of orders: %+v, %v", tables, err)
	}
	// What is live without a successor gets the name of its generation.
	for range 2 {
		if err := store.Park(ctx, orders, generation(1)); err != nil {
			t.Fatal(err)
		}
		live(t, store, orders.Of(1), generation(1))
	}
	if _, err := store.Inspect(ctx, orders); !errors.Is(err, chstore.ErrNoTable) {
		t.Errorf("%s is still there: %v", orders.Name, err)
	}
}

// TestExchangeIsConfirmed: whoever may not exchange any more when it could does not, and a
// name that was taken away meanwhile is made anew.
func TestExchangeIsConfirmed(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	ctx := t.Context()
	orders := store.Table("orders")
	filled(t, store, "orders", generation(1), 10)
	filled(t, store, "orders__g2", generation(2), 20)
	fenced := errors.New("another one may")
	if err := store.ExchangeIf(ctx, orders, generation(2), generation(1), func(context.Context) error { return fenced }); !errors.Is(err, fenced) {
		t.Errorf("an exchange that is not this one's: %v", err)
	}
	live(t, store, orders, generation(1))
	asked := 0
	err := store.ExchangeIf(ctx, orders, generation(2), generation(1), func(ctx context.Context) error {
		if asked++; asked > 1 {
			return nil
		}
		return store.Aside(ctx, orders, generation(2)) // as one that goes on late
	})
	if err != nil || asked != 2 {
		t.Errorf("confirmed %d times, %v", asked, err)
	}
	live(t, store, orders, generation(2))
	live(t, store, orders.Of(1), generation(1))
}

// TestStaleExchange: whoever is stopped just before it exchanges tables, and goes on when
// another has taken its place, has no effect any more.
func TestStaleExchange(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	ctx := t.Context()
	orders := store.Table("orders")
	filled(t, store, "orders", generation(1), 10)
	stale := filled(t, store, "orders__g2__only_it_knows", generation(2), 20)
	if err := store.Exchange(ctx, orders, generation(2), generation(1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := store.Exec(ctx, "late", "EXCHANGE TABLES "+stale.String()+" AND "+orders.String())
		if !errors.Is(err, chstore.ErrNoTable) {
			t.Errorf("a late exchange: %v", err)
		}
		live(t, store, orders, generation(2))
	}
	// Exchanged by the one before, who could not tidy up: that is what the next one does.
	if err := store.Exec(ctx, "late", "RENAME TABLE orders__g1 TO "+stale.String()); err != nil {
		t.Fatal(err)
	}
	if err := store.Exchange(ctx, orders, generation(2), generation(1)); err != nil {
		t.Fatal(err)
	}
	live(t, store, orders, generation(2))
	live(t, store, orders.Of(1), generation(1))
}

// TestExchangeAtOnce: several who all want the same, each at its own pace, never exchange
// back.
func TestExchangeAtOnce(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	orders := store.Table("orders")
	filled(t, store, "orders", generation(1), 10)
	filled(t, store, "orders__g2", generation(2), 20)
	for round := range 25 {
		want, expect := generation(2-round%2), generation(1+round%2)
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() { errs[i] = store.Exchange(t.Context(), orders, want, expect) })
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil && !errors.Is(err, chstore.ErrNoTable) && !errors.Is(err, chstore.ErrExists) {
				t.Errorf("round %d, %d: %v", round, i, err)
			}
		}
		live(t, store, orders, want)
		if err := store.Exchange(t.Context(), orders, want, expect); err != nil {
			t.Fatal(err)
		}
		live(t, store, orders.Of(expect.Generation), expect)
	}
}

func TestExchangeUnderReaders(t *testing.T) {
	const swaps, readers = 60, 3
	store, engine := connect(t, chstore.Config{})
	orders := store.Table("orders")
	filled(t, store, "orders", generation(1), 1000)
	filled(t, store, "orders__g2", generation(2), 2000)
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
		if err := store.Exchange(t.Context(), orders, want, expect); err != nil {
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

// What is discarded is the table that bears the mark, wherever an exchange has put it, and
// never the one that readers see.
func TestDiscard(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	first := filled(t, store, "thrown", generation(1), 1)
	second := filled(t, store, "thrown__g2", generation(2), 2)
	if err := store.Exchange(t.Context(), first, generation(2), generation(1)); err != nil {
		t.Fatal(err)
	}
	if err := store.Discard(t.Context(), first, generation(2)); !errors.Is(err, chstore.ErrLive) {
		t.Errorf("the live one is dropped: %v", err)
	}
	live(t, store, first, generation(2))
	for range 2 { // the second time it is gone
		if err := store.Discard(t.Context(), first, generation(1)); err != nil {
			t.Error(err)
		}
	}
	left, err := store.Marked(t.Context(), "", generation(1).Projection)
	if err != nil || len(left) != 1 || left[0].Mark != generation(2) {
		t.Errorf("%+v are left of %s and %s, %v", left, first, second, err)
	}
}

// TestDiscardBesideAside: the name under which a table is dropped may be taken away at any
// time, and it is dropped all the same.
func TestDiscardBesideAside(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	orders := store.Table("orders")
	filled(t, store, "orders", generation(1), 1)
	var asides sync.WaitGroup
	defer asides.Wait()
	for n := 2; n < 42; n++ {
		mark := generation(n)
		if err := store.CreateTable(t.Context(), orders.Of(n), spec("MergeTree"), mark); err != nil {
			t.Fatal(err)
		}
		asides.Go(func() {
			for range 8 {
				if err := store.Aside(t.Context(), orders, mark); err != nil {
					t.Errorf("generation %d aside: %v", n, err)
				}
			}
		})
		if err := store.Discard(t.Context(), orders, mark); err != nil {
			t.Errorf("discard generation %d: %v", n, err)
		}
		asides.Wait()
	}
	if tables, err := store.Marked(t.Context(), "", "orders"); err != nil || len(tables) != 1 || tables[0].Mark != generation(1) {
		t.Errorf("there are %+v, %v", tables, err)
	}
}
