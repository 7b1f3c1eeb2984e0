package chstore_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
)

func spec(engine string) chstore.TableSpec {
	return chstore.TableSpec{
		Columns: []chstore.Column{{Name: "tenant", Type: "String"}, {Name: "id", Type: "String"}, {Name: "amount", Type: "Int64"}},
		Engine:  engine, OrderBy: "tenant, id",
	}
}

const selection = "SELECT tenant, aggregate_id AS id, JSONExtractInt(payload, 'amount') AS amount FROM events WHERE type = 'OrderPaid' -- paid"

func TestLoadBlock(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	for name, store := range map[string]*chstore.Store{"native": store, "http": open(t, chstore.Config{URL: engine.HTTPURL()})} {
		t.Run(name, func(t *testing.T) {
			store := store.As("j1" + name)
			table := store.Table("orders`'" + name)
			mark := chstore.Mark{Projection: "orders", Generation: 1}
			if err := store.CreateTable(t.Context(), table, spec("MergeTree"), mark); err != nil {
				t.Fatal(err)
			}
			load := chstore.Load{Into: table, Columns: spec("MergeTree").Names(), Select: selection, Chunk: 7}
			rows, err := store.LoadBlock(t.Context(), block(t, sample(1000)), "", load)
			if err != nil || rows != 500 {
				t.Fatalf("%d rows, %v; want 500", rows, err)
			}
			page, err := store.Read(t.Context(), table, chstore.Page{Limit: 2})
			t.Logf("%s %v", page.Rows, err)
			if err := store.Clean(t.Context(), table, 7); err != nil {
				t.Fatal(err)
			}
			if rows, err := store.Prove(t.Context(), table, 7); err != nil || rows != 0 {
				t.Fatalf("%d rows, %v; want 0", rows, err)
			}
		})
	}
}
