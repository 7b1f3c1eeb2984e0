package chstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// RowBlock is a run of finished rows, as a projection in Go makes them. It is built,
// used and Reset by one goroutine.
type RowBlock struct {
	table   *ext.Table
	columns []column.Interface
	names   []string
	widths  []int // of values, where all are alike
}

// NewRowBlock returns an empty block of rows with the given columns. A type that the
// client cannot write, such as AggregateFunction, is an error that names the column.
func NewRowBlock(columns []Column) (*RowBlock, error) {
	b := &RowBlock{names: names(columns)}
	table, err := ext.NewTable(blockTable)
	if err != nil {
		return nil, fmt.Errorf("make a block of rows: %w", err)
	}
	for _, c := range columns {
		if err := table.Block().AddColumn(c.Name, column.Type(c.Type)); err != nil {
			return nil, fmt.Errorf("make a block of rows: column %s of type %s: %w", c.Name, c.Type, err)
		}
	}
	b.table, b.columns = table, table.Block().Columns
	for i, c := range b.columns {
		b.columns[i] = faster(c)
		b.widths = append(b.widths, widthOf(c.Type()))
	}
	return b, nil
}

// Len returns the number of rows.
func (b *RowBlock) Len() int {
	if len(b.columns) == 0 {
		return 0
	}
	return b.columns[0].Rows()
}

// Reset empties the block and keeps its memory.
func (b *RowBlock) Reset() {
	for _, c := range b.columns {
		c.Reset()
	}
}

// Append adds a row: one value for each column, in their order, of a Go type that
// clickhouse-go takes for the column's type; nil for NULL. After an error the block
// must be Reset.
func (b *RowBlock) Append(values ...any) error {
	if len(values) != len(b.columns) {
		return fmt.Errorf("add a row: it has %d values for %d columns", len(values), len(b.columns))
	}
	for i, v := range values {
		if err := b.AppendTo(i, v); err != nil {
			return err
		}
	}
	return nil
}

// Bytes returns about how many bytes the rows take in columns that are Sized.
func (b *RowBlock) Bytes() int {
	n := 0
	for i, c := range b.columns {
		if sized, ok := c.(sizedColumn); ok {
			n += sized.size()
		} else {
			n += b.widths[i] * c.Rows()
		}
	}
	return n
}

// Sized says whether Bytes knows what the values of column i take.
func (b *RowBlock) Sized(i int) bool {
	_, ok := b.columns[i].(sizedColumn)
	return ok || b.widths[i] > 0
}

// widthOf is how many bytes a value of a type of fixed width takes; 0: it is not one of
// these.
func widthOf(typ column.Type) int {
	switch typ {
	case "Bool", "Int8", "UInt8":
		return 1
	case "Int16", "UInt16", "Date":
		return 2
	case "Int32", "UInt32", "Float32", "DateTime", "Date32":
		return 4
	case "Int64", "UInt64", "Float64":
		return 8
	default:
		return 0
	}
}

// Adder returns what adds the value that a pointer points to then to column i, and what says
// beforehand whether the column takes it; nil: it does. There is an Adder for pointers to
// texts, times and decimals, in columns of such, and else add is nil. All columns must get
// as many values.
func (b *RowBlock) Adder(i int, from any) (add func(), try func() error) {
	if c, ok := b.columns[i].(pointedColumn); ok {
		return c.adder(from)
	}
	return nil, nil
}

// AppendTo adds a value to column i as Append does.
func (b *RowBlock) AppendTo(i int, v any) error {
	if err := b.columns[i].AppendRow(v); err != nil {
		return fmt.Errorf("add a row: column %s: %w", b.names[i], err)
	}
	return nil
}

// LoadRows is LoadBlock for finished rows: Select and Columns of the load are not used.
func (s *Store) LoadRows(ctx context.Context, block *RowBlock, load Load) (rows uint64, err error) {
	load.Columns = block.names
	load.Select = "SELECT " + strings.TrimSpace(Identifiers(block.names)) + " FROM " + blockTable
	return s.load(ctx, "", load, []*ext.Table{block.table}, nil)
}
