package chstore_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
)

// What users say is bound, whatever it is, and only where a statement names it.
func TestValuesAreBound(t *testing.T) {
	db, _ := connect(t, chstore.Config{})
	odd := []string{"it's", `a\b`, "`q`", "line\nfeed\ttab", "{x:String}", "?", "@p $1", "'); DROP TABLE t; --", "", "é\x00", `\'`, `\N`}
	spec := chstore.TableSpec{Columns: []chstore.Column{{Name: "s", Type: "String"}}, Engine: "MergeTree", OrderBy: "s"}
	table := db.Table("odd")
	if err := db.CreateTable(t.Context(), table, spec, chstore.Mark{}); err != nil {
		t.Fatal(err)
	}
	load := chstore.Load{Into: table, Columns: []string{"s"}, Select: "SELECT arrayJoin([" + chstore.Literals(odd) + ", 'other']) AS s", Chunk: 1}
	if _, err := db.LoadSelect(t.Context(), load); err != nil {
		t.Fatal(err)
	}
	db = db.With(map[string]any{"mine": odd, "unused": []string{"x"}})
	if rows, err := db.CountWhere(t.Context(), table, "s IN {mine:Array(String)}"); err != nil || rows != uint64(len(odd)) {
		t.Errorf("%d rows are meant, %v; want %d", rows, err, len(odd))
	}
	for _, one := range odd {
		if rows, err := db.With(map[string]any{"mine": []string{one}}).CountWhere(t.Context(), table, "s IN {mine:Array(String)}"); err != nil || rows != 1 {
			t.Errorf("%q: %d rows are meant, %v", one, rows, err)
		}
	}
	if rows, err := db.CountWhere(t.Context(), table, "s = 'other'"); err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
}
