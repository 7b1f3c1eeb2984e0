package chstore_test

import (
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
)

// TestSeal: merging parts does not break a seal, and everything else does.
func TestSeal(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	ctx := t.Context()
	for name, c := range map[string]struct {
		statement string
		want      string // in what is broken
		mutation  bool
	}{
		"nothing":    {"", "", false},
		"merge":      {"OPTIMIZE TABLE %t FINAL", "", false},
		"insert":     {"INSERT INTO %t (tenant, id, amount) VALUES ('x', 'y', 1)", "added", false},
		"truncate":   {"TRUNCATE TABLE %t", "gone", false},
		"drop":       {"ALTER TABLE %t DROP PARTITION tuple()", "gone", false},
		"delete":     {"DELETE FROM %t WHERE tenant = 'acme'", "changed", true},
		"update":     {"ALTER TABLE %t UPDATE amount = 0 WHERE 1 SETTINGS mutations_sync = 2", "changed", true},
		"delete all": {"ALTER TABLE %t DELETE WHERE 1 SETTINGS mutations_sync = 2", "", true},
	} {
		for _, engine := range []string{"MergeTree", "ReplacingMergeTree"} {
			t.Run(name+" "+engine, func(t *testing.T) {
				table := store.Table("seal_" + strings.ReplaceAll(name, " ", "_") + "_" + engine)
				if err := store.CreateTable(ctx, table, spec(engine), generation(1)); err != nil {
					t.Fatal(err)
				}
				for chunk := range uint64(4) {
					load := chstore.Load{Into: table, Columns: spec("MergeTree").Names(), Select: "SELECT tenant, event_id AS id, id_seq AS amount FROM events", Chunk: chunk}
					if _, err := store.LoadBlock(ctx, block(t, sample(20)), "", load); err != nil {
						t.Fatal(err)
					}
				}
				if err := store.Clean(ctx, table, 2); err != nil {
					t.Fatal(err)
				}
				if err := store.Exec(ctx, "test", "OPTIMIZE TABLE "+table.String()+" FINAL"); err != nil {
					t.Fatal(err)
				}
				load := chstore.Load{Into: table, Columns: spec("MergeTree").Names(), Select: "SELECT tenant, event_id AS id, id_seq AS amount FROM events", Chunk: 9}
				if _, err := store.LoadBlock(ctx, block(t, sample(20)), "", load); err != nil {
					t.Fatal(err)
				}
				before, err := store.Seal(ctx, table)
				if err != nil || len(before.Parts) == 0 {
					t.Fatalf("%+v, %v", before, err)
				}
				if c.statement != "" {
					if err := store.Exec(ctx, "test", strings.ReplaceAll(c.statement, "%t", table.String())); err != nil {
						t.Fatal(err)
					}
				}
				after, err := store.Seal(ctx, table)
				if err != nil {
					t.Fatal(err)
				}
				broken := before.Broken(after)
				if (broken == "") != (c.want == "" && !c.mutation) && name != "delete all" || !strings.Contains(broken, c.want) {
					t.Errorf("it is broken by %q, want %q: %+v, %+v", broken, c.want, before, after)
				}
				mutations, err := store.Mutations(ctx, table)
				if err != nil || (len(mutations) > 0) != c.mutation {
					t.Errorf("mutations: %q, %v", mutations, err)
				}
			})
		}
	}
}
