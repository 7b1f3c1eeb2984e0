package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	pq "github.com/parquet-go/parquet-go"

	"github.com/reservoirhq/reservoir/event"
)

// cursor walks over the rows of one column chunk, a page at a time. Its fields
// are the page's: a value is found with value(), in a byte array column, or in
// numbers, at the index that row gives.
type cursor struct {
	column int
	pages  *pq.FilePages
	page   pq.Page

	first int // row of the row group that the page begins with
	rows  int // of the page
	row   int // the next one in it
	at    int // index of the row's first value, or of the next value there is

	// Of an even page it is known how values and rows relate: stride values
	// for each row, which is one or none. Of an uneven one levels tell.
	uneven bool
	stride int

	definition []byte   // levels, nil where the column is required
	repetition []byte   // levels, nil where the column is not repeated
	level      int      // index of the row's first level, in repeated columns
	numbers    []int64  // of an integer column
	data       []byte   // of a byte array column, or of its dictionary
	offsets    []uint32 // in data
	indexes    []int32  // in offsets, of a page that uses the dictionary
	// Values are copied into a batch many at once: those of the rows that are
	// being built (copied), or a whole dictionary, once for a batch
	// (generation). What is at offset 0 of data then is at moved in the batch.
	copied     bool
	generation uint64
	moved      int

	dictionary pq.Dictionary
	fresh      bool // the dictionary is new, to whoever remembers its entries
}

func (c *cursor) open(chunk *pq.FileColumnChunk, r io.ReaderAt, column int) {
	*c = cursor{column: column, pages: chunk.PagesFrom(r)}
}

func (c *cursor) close() error {
	if c.pages == nil {
		return nil
	}
	pq.Release(c.page)
	err := c.pages.Close()
	c.pages, c.page = nil, nil
	if err != nil {
		return fmt.Errorf("close column %s: %w", columnNames[c.column], err)
	}
	return nil
}

// load makes sure that there is a row in the page.
func (c *cursor) load() error {
	for c.row == c.rows {
		pq.Release(c.page)
		page, err := c.pages.ReadPage()
		if err != nil {
			c.page = nil
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: column %s ends before its row group", ErrInvalid, columnNames[c.column])
			}
			return fmt.Errorf("read column %s: %w", columnNames[c.column], err)
		}
		c.use(page)
	}
	return nil
}

func (c *cursor) use(page pq.Page) {
	c.first += c.rows
	c.page = page
	c.rows, c.row, c.at, c.level = int(page.NumRows()), 0, 0, 0
	c.definition, c.repetition = page.DefinitionLevels(), page.RepetitionLevels()
	c.numbers, c.indexes = nil, nil
	switch nulls := page.NumNulls(); {
	case nulls == 0 && c.repetition == nil:
		c.uneven, c.stride = false, 1
	case nulls == page.NumValues():
		c.uneven, c.stride = false, 0
	default:
		c.uneven, c.stride = true, 0
	}
	values := page.Data()
	switch c.column {
	case colIDMs, colIDSeq, colAggregateVersion, colOccurredAt:
		c.numbers = values.Int64()
		return
	}
	if d := page.Dictionary(); d != nil {
		c.indexes = values.Int32()
		if d != c.dictionary {
			c.dictionary, c.fresh, c.generation = d, true, 0
		}
		entries := d.Page().Data()
		c.data, c.offsets = entries.ByteArray()
		return
	}
	c.data, c.offsets = values.ByteArray()
}

// null reports whether the row has no value.
func (c *cursor) null() bool { return c.definition != nil && c.definition[c.row] == 0 }

// maxShared is the size in bytes up to which a dictionary is copied whole.
const maxShared = 16 << 10

// copyTo makes sure that value i is in the batch of that generation, and
// returns where. It may copy the values of the next n rows with it.
func (c *cursor) copyTo(b *event.Batch, generation uint64, i, n int) (at, length int) {
	switch {
	case c.indexes == nil:
		if !c.copied {
			c.copied = true
			from, to := c.offsets[i], c.offsets[c.end(i, n)]
			c.moved = len(b.Buf) - int(from)
			b.Buf = append(b.Buf, c.data[from:to]...)
		}
	case len(c.data) > maxShared:
		value := c.value(i)
		b.Buf = append(b.Buf, value...)
		return len(b.Buf) - len(value), len(value)
	default:
		if i = int(c.indexes[i]); c.generation != generation {
			c.generation, c.moved = generation, len(b.Buf)
			b.Buf = append(b.Buf, c.data...)
		}
	}
	from := c.offsets[i]
	return c.moved + int(from), int(c.offsets[i+1] - from)
}

// end returns the index after the values of n rows: of an even cursor from the
// row of value i on, of an uneven one from its own row on.
func (c *cursor) end(i, n int) int {
	switch {
	case !c.uneven:
		return i + c.stride*n
	case c.repetition == nil:
		return c.at + n - bytes.Count(c.definition[c.row:c.row+n], []byte{0})
	}
	level := c.level
	for ; n > 0; n-- {
		for level++; level < len(c.repetition) && c.repetition[level] != 0; level++ {
		}
	}
	return c.at + (level - c.level) - bytes.Count(c.definition[c.level:level], []byte{0})
}

// seek goes on to a later row of the row group, or stays where it is.
func (c *cursor) seek(row int) error {
	if row >= c.first+c.rows && row > c.first+c.row {
		if err := c.pages.SeekToRow(int64(row)); err != nil {
			return fmt.Errorf("seek in column %s: %w", columnNames[c.column], err)
		}
		c.first, c.rows, c.row = row, 0, 0
	}
	if err := c.load(); err != nil {
		return err
	}
	if !c.uneven {
		c.skip(row - c.first - c.row)
	}
	for c.first+c.row < row {
		c.next()
	}
	return nil
}

// skip goes on by n rows of an even page.
func (c *cursor) skip(n int) {
	c.row += n
	c.at += n * c.stride
	c.level += n
}

// next goes on to the next row.
func (c *cursor) next() {
	switch {
	case c.repetition != nil:
		c.nextList()
		return
	case c.definition == nil || c.definition[c.row] != 0:
		c.at++
	}
	c.row++
}

// value returns value i of a byte array page.
func (c *cursor) value(i int) []byte {
	if c.indexes != nil {
		i = int(c.indexes[i])
	}
	return c.data[c.offsets[i]:c.offsets[i+1]]
}

func (c *cursor) nextList() {
	for {
		if c.definition[c.level] != 0 {
			c.at++
		}
		c.level++
		if c.level == len(c.repetition) || c.repetition[c.level] == 0 {
			break
		}
	}
	c.row++
}
