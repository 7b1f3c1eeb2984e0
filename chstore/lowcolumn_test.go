package chstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
)

// Few texts arrive as they are, over both protocols and in any number, also none.
func TestLowTextsArrive(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	overHTTP := open(t, chstore.Config{URL: engine.HTTPURL()})
	columns := []chstore.Column{{Name: "low", Type: "LowCardinality(String)"}, {Name: "text", Type: "String"}, {Name: "at", Type: "DateTime64(3, 'UTC')"}}
	for name, s := range map[string]*chstore.Store{"native": store, "http": overHTTP} {
		table := store.Table("low_" + name)
		if err := store.CreateTable(t.Context(), table, chstore.TableSpec{Columns: columns, Engine: "MergeTree", OrderBy: "low"}, chstore.Mark{Projection: name}); err != nil {
			t.Fatal(err)
		}
		block, err := chstore.NewRowBlock(columns)
		if err != nil {
			t.Fatal(err)
		}
		rows := uint64(0)
		for chunk, texts := range []int{0, 1, 3, 300, 70_000} {
			block.Reset()
			n := min(2*texts, 80_000)
			for i := range n {
				text := strings.Repeat("é", i%3) + fmt.Sprint(i%texts)
				if err := block.Append(text, text, time.UnixMilli(int64(i)).UTC()); err != nil {
					t.Fatal(err)
				}
			}
			if n == 0 {
				continue
			}
			rows += uint64(n)
			if got, err := s.LoadRows(t.Context(), block, chstore.Load{Into: table, Chunk: uint64(chunk)}); err != nil || got != uint64(n) {
				t.Fatalf("%s: %d of %d rows, %v", name, got, n, err)
			}
		}
		out, err := engine.Query(t.Context(), "SELECT countIf(low = text), uniqExact(low) > 70000, max(toUnixTimestamp64Milli(at)) FROM "+table.String())
		if want := fmt.Sprintf("%d\t1\t79999", rows); err != nil || strings.TrimSpace(out) != want {
			t.Errorf("%s: %s, %v; want %s", name, out, err, want)
		}
	}
}
