package app

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// row is a row of a sample, as ClickHouse gives it.
func row(text string) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		panic(err)
	}
	return out
}

func TestDifferenceIsShown(t *testing.T) {
	changed := rebuild.Verification{
		Checks: []projection.CheckResult{
			{Name: "no negative totals", Expect: "0", Got: "0", Passed: true},
			{Name: "as many as paid", Expect: "17", Got: "16\x1b[2J"},
		},
		Difference: &chstore.Diff{
			OldRows: 12, NewRows: 13, Same: 10, Added: 2, Removed: 1, Changed: 1, OldColumns: []string{"price"}, NewColumns: []string{"total", "vat"},
			Samples: []chstore.Difference{
				{Kind: "changed", Old: []map[string]json.RawMessage{row(`{"total": -5, "order_id": "o1"}`)}, New: []map[string]json.RawMessage{row(`{"total": 5, "order_id": "o1"}`)}},
				{Kind: "added", New: []map[string]json.RawMessage{row(`{"order_id": "o2", "name": null}`), row(`{"order_id": "o2", "name": "x\u001b"}`)}},
				{Kind: "removed", Old: []map[string]json.RawMessage{row(`{"order_id": "größe"}`)}},
			},
		},
		Dependents: []rebuild.DependentVerification{
			{Table: "orders_by_day", Rows: 4, Difference: &chstore.Diff{
				OldRows: 4, NewRows: 4, Same: 3, Changed: 1,
				Samples: []chstore.Difference{{Kind: "changed", Old: []map[string]json.RawMessage{row(`{"day": "2026-11-21", "n": 1}`)}, New: []map[string]json.RawMessage{row(`{"day": "2026-11-21", "n": 2}`)}}},
			}},
			{Table: "orders_same", Rows: 9, Difference: &chstore.Diff{OldRows: 9, NewRows: 9, Same: 9}},
			{Table: "orders_new", Rows: 7},
		},
	}
	first := rebuild.Verification{Dependents: []rebuild.DependentVerification{{Table: "t", Rows: 1}}}
	for _, c := range []struct {
		what    string
		of      *rebuild.Verification
		want    string
		differs bool
	}{
		{"a change", &changed, `
check no negative totals: passed
check as many as paid: FAILED: it gives 16\x1b[2J, and must give 17
2 added, 1 removed, 1 changed, 10 the same
only the live table has the columns: price
only the new table has the columns: total, vat
changed
  - order_id="o1" total=-5
  + order_id="o1" total=5
added
  + name=null order_id="o2"
  + name="x\u001b" order_id="o2"
removed
  - order_id="größe"
dependent table orders_by_day: 4 rows; 0 added, 0 removed, 1 changed, 3 the same
changed
  - day="2026-11-21" n=1
  + day="2026-11-21" n=2
dependent table orders_same: 9 rows; 0 added, 0 removed, 0 changed, 9 the same
dependent table orders_new: 7 rows; there was no live table to compare with
`, true},
		{"the first one", &first, `
there was no live table to compare with
dependent table t: 1 rows; there was no live table to compare with
`, false},
		{"only in a dependent", &rebuild.Verification{
			Difference: &chstore.Diff{Same: 2}, Dependents: []rebuild.DependentVerification{{Table: "t", Difference: &chstore.Diff{Removed: 1}}},
		}, `
0 added, 0 removed, 0 changed, 2 the same
dependent table t: 0 rows; 0 added, 1 removed, 0 changed, 0 the same
`, true},
	} {
		var out strings.Builder
		if err := (&app{stdout: &out}).printTableDifference(c.of); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != strings.TrimPrefix(c.want, "\n") {
			t.Errorf("%s:\n%s", c.what, got)
		}
		if differs(c.of) != c.differs {
			t.Errorf("%s: it differs: %v", c.what, !c.differs)
		}
	}
	for lines := range 15 {
		out := &fullWriter{left: lines}
		if err := (&app{stdout: out}).printTableDifference(&changed); !errors.Is(err, errFull) {
			t.Errorf("an output that is full after %d lines: %v", lines, err)
		}
	}
}

var errFull = errors.New("no space left")

// fullWriter takes some writes, and then none.
type fullWriter struct{ left int }

func (w *fullWriter) Write(b []byte) (int, error) {
	if w.left--; w.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}
