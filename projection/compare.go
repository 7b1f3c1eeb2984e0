package projection

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
)

// RowDifference is a row that is not as it was expected.
type RowDifference struct {
	// Key names the row: its keys, or all of it.
	Key string `json:"key"`
	// Missing rows were expected and are not there, Extra ones the other way round.
	Missing bool `json:"missing,omitempty"`
	Extra   bool `json:"extra,omitempty"`
	// Columns are what differs, of a row that is there.
	Columns []ColumnDifference `json:"columns,omitempty"`
}

// ColumnDifference is a value that is not as it was expected, as JSON.
type ColumnDifference struct {
	Column string `json:"column"`
	Want   string `json:"want"`
	Got    string `json:"got"`
}

// Compare compares rows with those of a fixture, by the definition's keys. What a
// row of the fixture leaves out is not compared. A column that the table does not
// have is a difference too.
func (d *Definition) Compare(got chstore.Rows, want []map[string]json.RawMessage) []RowDifference {
	there := make(map[string][]map[string]json.RawMessage)
	var order []string // of the keys
	for _, values := range got.Rows {
		row := make(map[string]json.RawMessage, len(values))
		for i, c := range got.Columns {
			row[c.Name] = values[i]
		}
		key := d.keyOf(row)
		if there[key] == nil {
			order = append(order, key)
		}
		there[key] = append(there[key], row)
	}
	var out []RowDifference
	for _, row := range want {
		key := d.keyOf(row)
		if len(there[key]) == 0 {
			out = append(out, RowDifference{Key: key, Missing: true})
			continue
		}
		found := there[key][0]
		there[key] = there[key][1:]
		if columns := compareRows(found, row); len(columns) > 0 {
			out = append(out, RowDifference{Key: key, Columns: columns})
		}
	}
	for _, key := range order {
		for range there[key] {
			out = append(out, RowDifference{Key: key, Extra: true})
		}
	}
	return out
}

// keyOf names a row, for people too.
func (d *Definition) keyOf(row map[string]json.RawMessage) string {
	keys := d.Keys
	if len(keys) == 0 {
		keys = slices.Sorted(maps.Keys(row))
	}
	parts := make([]string, len(keys))
	for i, key := range keys {
		parts[i] = key + "=" + compact(row[key])
	}
	return strings.Join(parts, " ")
}

func compareRows(got, want map[string]json.RawMessage) []ColumnDifference {
	var out []ColumnDifference
	for _, column := range slices.Sorted(maps.Keys(want)) {
		g, w := compact(got[column]), compact(want[column])
		if g != w && !sameNumber(g, w) {
			out = append(out, ColumnDifference{column, w, g})
		}
	}
	return out
}

// sameNumber reports whether two values are the same number, as a text or not:
// 18.90 is "18.9".
func sameNumber(a, b string) bool {
	x, ok := number(strings.Trim(a, `"`))
	if !ok {
		return false
	}
	y, ok := number(strings.Trim(b, `"`))
	return ok && x.Cmp(y) == 0
}

// compact writes JSON without spaces; "" for a value that is not there.
func compact(value json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return string(value)
	}
	return b.String()
}
