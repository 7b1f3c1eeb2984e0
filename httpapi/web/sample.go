package web

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/httpapi/audit"
)

// sampleRow is a column of a row that differs between two tables.
type sampleRow struct {
	Column, Old, New string
	Differs          bool
}

// sampleRows sets the rows of a difference side by side, column by column.
func sampleRows(d chstore.Difference) []sampleRow {
	columns := map[string]bool{}
	for _, rows := range [][]map[string]json.RawMessage{d.Old, d.New} {
		for _, row := range rows {
			for name := range row {
				columns[name] = true
			}
		}
	}
	var list []sampleRow
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		row := sampleRow{Column: name, Old: values(d.Old, name), New: values(d.New, name)}
		row.Differs = row.Old != row.New && len(d.Old) > 0 && len(d.New) > 0
		list = append(list, row)
	}
	return list
}

func values(rows []map[string]json.RawMessage, column string) string {
	var list []string
	for _, row := range rows {
		list = append(list, string(row[column]))
	}
	return strings.Join(list, " | ")
}

// auditClass is how the result of an entry of the audit trail looks.
func auditClass(result audit.Result) string {
	switch result {
	case audit.Done:
		return "ok"
	case audit.Refused:
		return "wait"
	default:
		return "bad"
	}
}
