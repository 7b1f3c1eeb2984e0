package chstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Rows are rows as they are shown to people and compared by tests: every value is the
// JSON that the engine writes for it. 64-bit numbers are JSON numbers with all digits;
// times are ISO 8601 in UTC; a state of an aggregate function is shown as its result.
type Rows struct {
	Columns []Column            `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
}

// Describe returns the columns that a SELECT over the relation events gives, without
// running it. A SELECT that the engine does not take is ErrDefinition.
func (s *Store) Describe(ctx context.Context, selection string) ([]Column, error) {
	return s.describe(ctx, over(noEvents(), "*", selection))
}

// noEvents is the relation events without an event. Its values are no constants, which
// the engine would try functions on that fail on an empty text.
func noEvents() string {
	columns := EventColumns()
	for i := range columns {
		columns[i].Name = "materialize(CAST(defaultValueOfTypeName(" + Literal(columns[i].Type) + ") AS " + columns[i].Type + ")) AS " + columns[i].Name
	}
	return "SELECT " + strings.Join(names(columns), ", ") + " FROM numbers(0)"
}

func (s *Store) describe(ctx context.Context, text string) ([]Column, error) {
	var columns []Column
	err := s.query(ctx, &statement{what: "describe", doing: "try the SELECT", text: "DESCRIBE TABLE (" + text + "\n)"}, func(rows driver.Rows) error {
		var c Column
		var rest [5]string // default kind and expression, comment, codec, TTL
		if err := rows.Scan(&c.Name, &c.Type, &rest[0], &rest[1], &rest[2], &rest[3], &rest[4]); err != nil {
			return err
		}
		columns = append(columns, c)
		return nil
	})
	return columns, err
}

// Preview runs a definition's SELECT over a Block and returns the first rows, at most
// limit.
func (s *Store) Preview(ctx context.Context, block *Block, selection string, limit int) (Rows, error) {
	columns, err := s.Describe(ctx, selection)
	if err != nil {
		return Rows{}, err
	}
	return s.rows(ctx, &statement{
		what: "preview", doing: "run the SELECT",
		text: over(block.relation(""), shown(columns), selection) + fmt.Sprintf("\nLIMIT %d", limit), tables: []*ext.Table{block.table},
	}, columns)
}

// PreviewFiles is Preview over files that ClickHouse reads itself.
func (s *Store) PreviewFiles(ctx context.Context, source Source, selection string, limit int) (Rows, error) {
	columns, err := s.Describe(ctx, selection)
	if err != nil {
		return Rows{}, err
	}
	relation, err := source.relation("")
	if err != nil {
		return Rows{}, err
	}
	return s.rows(ctx, &statement{
		what: "preview", doing: "run the SELECT",
		text: over(relation, shown(columns), selection) + fmt.Sprintf("\nLIMIT %d", limit), secrets: source.secrets(), values: source.values(),
	}, columns)
}

// Query runs any SELECT, such as a definition's check, and returns the first rows, at
// most limit.
func (s *Store) Query(ctx context.Context, selection string, limit int) (Rows, error) {
	columns, err := s.describe(ctx, trimSelect(selection))
	if err != nil {
		return Rows{}, err
	}
	return s.rows(ctx, &statement{
		what: "query", doing: "run the query",
		text: "SELECT " + shown(columns) + " FROM (\n" + trimSelect(selection) + "\n)" + fmt.Sprintf("\nLIMIT %d", limit),
	}, columns)
}

// Page says which rows of a table to read.
type Page struct {
	// Columns are shown; none: all but the lineage column.
	Columns []string
	// Where is a condition in SQL, or "".
	Where string
	// OrderBy are columns; none: the order of the table's key.
	OrderBy []string
	// Final merges rows of the same key.
	Final  bool
	Offset int
	Limit  int
}

// Read returns rows of a table.
func (s *Store) Read(ctx context.Context, table Table, page Page) (Rows, error) {
	info, err := s.Inspect(ctx, table)
	if err != nil {
		return Rows{}, err
	}
	columns := info.shownColumns(page.Columns)
	text := "SELECT " + listed(columns) + " FROM " + info.source(page.Final)
	if strings.TrimSpace(page.Where) != "" {
		text += " WHERE (" + page.Where + "\n)"
	}
	if len(page.OrderBy) > 0 {
		text += " ORDER BY " + Identifiers(page.OrderBy)
	} else if info.OrderBy != "" {
		text += " ORDER BY " + info.OrderBy
	}
	text += fmt.Sprintf(" LIMIT %d OFFSET %d", page.Limit, page.Offset)
	return s.rows(ctx, &statement{what: "read", doing: "read table " + table.Name, text: text}, columns)
}

// shownColumns returns the columns with the given names; for none all but the lineage.
func (i Info) shownColumns(list []string) []Column {
	return slices.DeleteFunc(slices.Clone(i.Columns), func(c Column) bool {
		if len(list) > 0 {
			return !slices.Contains(list, c.Name)
		}
		return c.Name == ChunkColumn || c.Name == EventsColumn
	})
}

// source is the table in a FROM.
func (i Info) source(final bool) string {
	if final && i.Kind != Keeping {
		return i.Table.String() + " FINAL"
	}
	return i.Table.String()
}

// shown writes the columns of a subquery as the JSON that Rows hold, by place: a SELECT
// may give columns whose names cannot be written.
func shown(columns []Column) string {
	if slices.ContainsFunc(columns, isState) {
		return listed(columns)
	}
	return "toJSONString(tuple(*))"
}

// listed is shown by name.
func listed(columns []Column) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = finalized(c)
	}
	return "toJSONString(tuple(" + strings.Join(list, ", ") + "))"
}

// asJSON is a column's value as JSON; NULL is null.
func asJSON(c Column) string { return "ifNull(toJSONString(" + finalized(c) + "), 'null')" }

// finalized is a column's value; of a state its result.
func finalized(c Column) string {
	if isState(c) {
		return "finalizeAggregation(" + Identifier(c.Name) + ")"
	}
	return Identifier(c.Name)
}

func isState(c Column) bool { return strings.HasPrefix(c.Type, "AggregateFunction(") }

// rows reads rows of one column each, which shown or listed made.
func (s *Store) rows(ctx context.Context, st *statement, columns []Column) (Rows, error) {
	result := Rows{Columns: columns}
	err := s.query(ctx, st, func(rows driver.Rows) error {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return err
		}
		var row []json.RawMessage
		if err := json.Unmarshal(bytes.ToValidUTF8(text, []byte("\uFFFD")), &row); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
		if len(row) != len(columns) {
			return fmt.Errorf("read a row: it has %d values for %d columns", len(row), len(columns))
		}
		result.Rows = append(result.Rows, row)
		return nil
	})
	return result, err
}
