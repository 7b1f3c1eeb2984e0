package projection

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/reservoirhq/reservoir/chstore"
)

// Rows gathers what functions in Go make, in the columns of a table: see
// chstore.Store.LoadRows. It is used and Reset by one goroutine.
type Rows struct {
	block   *chstore.RowBlock
	columns []rowColumn
	bytes   int // of values that the block does not know the size of
}

// rowColumn is a column of Rows.
type rowColumn struct {
	name    string
	typ     string // as it is sent
	convert converter
	// trial takes a value first where that may fail: a block takes none back.
	trial column.Interface
}

// NewRows returns empty Rows of a table. A column of a type that Go has no values
// for is an error that names it.
func NewRows(table *Table) (*Rows, error) {
	r := &Rows{}
	var sent []chstore.Column
	for _, c := range table.Columns {
		typ := sentType(c.Type)
		convert, err := newConverter(typ)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		trial, err := column.Type(typ).Column(c.Name, &column.ServerContext{})
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		r.columns = append(r.columns, rowColumn{c.Name, typ, convert, trial})
		sent = append(sent, chstore.Column{Name: c.Name, Type: typ})
	}
	block, err := chstore.NewRowBlock(sent)
	if err != nil {
		return nil, err
	}
	r.block = block
	return r, nil
}

// sentType is the type in which a column is sent: without what only tells how it
// is stored. Of few texts each is sent once.
func sentType(text string) string {
	bare := bareType(text)
	if t := parseType(text); bare == "String" && t.name == "LowCardinality" {
		return "LowCardinality(String)"
	}
	return bare
}

// bareType is a type without what only tells how it is stored.
func bareType(text string) string {
	t := parseType(text)
	for len(t.args) > 0 && (t.name == "LowCardinality" || t.name == "SimpleAggregateFunction") {
		text = t.args[len(t.args)-1]
		t = parseType(text)
	}
	return text
}

// Block returns the rows as chstore sends them; it is valid until the next change.
func (r *Rows) Block() *chstore.RowBlock { return r.block }

// Len returns the number of rows.
func (r *Rows) Len() int { return r.block.Len() }

// Bytes returns about how much memory the rows take.
func (r *Rows) Bytes() int { return r.block.Bytes() + r.bytes }

// Reset removes all rows and keeps their memory.
func (r *Rows) Reset() {
	r.block.Reset()
	r.bytes = 0
}

// Append adds rows, all or none: an error names the row and the column whose value
// does not fit, and the rows that made it are those of an event that cannot be used.
func (r *Rows) Append(rows ...Row) error {
	converted := make([][]any, len(rows))
	for i, row := range rows {
		values, err := r.convert(row)
		if err != nil {
			return fmt.Errorf("row %d: %w", i+1, err)
		}
		converted[i] = values
	}
	for _, values := range converted {
		if err := r.add(values); err != nil {
			return err // it was tried before
		}
	}
	return nil
}

// add adds a row of what the client takes.
func (r *Rows) add(values []any) error {
	if err := r.block.Append(values...); err != nil {
		return err
	}
	for i, v := range values {
		r.count(i, v)
	}
	return nil
}

// count adds up what values take of which the block does not know that.
func (r *Rows) count(column int, v any) {
	if !r.block.Sized(column) {
		r.bytes += sizeOf(v)
	}
}

// convert makes the values of a row what the client takes, and makes sure that it
// takes them.
func (r *Rows) convert(row Row) ([]any, error) {
	values := make([]any, len(r.columns))
	used := 0
	for i := range r.columns {
		c := &r.columns[i]
		given, ok := row[c.name]
		if ok {
			used++
		}
		value, err := c.take(given)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
		values[i] = value
	}
	if used < len(row) {
		return nil, r.unknown(row)
	}
	return values, nil
}

// unknown names the values of a row that belong to no column.
func (r *Rows) unknown(row Row) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(row)) {
		if !slices.ContainsFunc(r.columns, func(c rowColumn) bool { return c.name == name }) {
			errs = append(errs, fmt.Errorf("column %.80q: the table has none of that name", name))
		}
	}
	return errors.Join(errs...)
}

func (c *rowColumn) take(value any) (any, error) {
	converted, err := c.convert.convert(value)
	if err != nil || c.convert.total {
		return converted, err
	}
	return converted, c.try(converted)
}

// try says whether the client takes a value.
func (c *rowColumn) try(value any) error {
	c.trial.Reset()
	return c.trial.AppendRow(value)
}

// sizeOf is about how much memory a value takes.
func sizeOf(value any) int {
	switch v := value.(type) {
	case string:
		return len(v) + 16
	case *string:
		return len(*v) + 16
	case []any:
		size := 8
		for _, element := range v {
			size += sizeOf(element)
		}
		return size
	case *sortedMap:
		return 8 + sizeOf(v.keys) + sizeOf(v.values)
	default:
		return 16
	}
}
