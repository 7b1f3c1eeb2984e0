package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"

	pq "github.com/parquet-go/parquet-go"

	"github.com/reservoirhq/reservoir/event"
)

// cursor walks over the rows of one column chunk, a page at a time. A value is
// found with value(), in a byte array column, or in page.numbers, at the index
// that row gives.
type cursor struct {
	// Values are copied into a batch many at once: those of the rows that are
	// being built, or a whole dictionary, once for a batch. What is at offset 0
	// of texts then is at moved in the batch.
	texts   values  // of a byte array page, or of its dictionary
	indexes []int32 // in texts, of a page that uses the dictionary
	moved   int
	copied  bool

	// Of an even page it is known how values and rows relate: stride values
	// for each row, which is one or none. Of an uneven one levels tell.
	uneven bool
	stride int

	at    int // index of the row's first value, or of the next value there is
	row   int // the next one in the page
	level int // index of the row's first level, in repeated columns
	first int // row of the row group that the page begins with

	pageReader
}

// open begins with a column chunk that lies at [from, to).
func (c *cursor) open(file viewer, column int, from, to int64) {
	c.pageReader.open(file, column, from, to)
	c.first, c.row, c.page.rows, c.copied = 0, 0, 0, false
}

// load makes sure that there is a row in the page.
func (c *cursor) load() error {
	for c.row == c.page.rows {
		c.first += c.page.rows
		c.page.rows, c.row = 0, 0
		if err := c.read(); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: it ends before its row group", ErrInvalid)
			}
			return fmt.Errorf("read column %s: %w", columnNames[c.column], err)
		}
		c.use(&c.page)
	}
	return nil
}

func (c *cursor) use(p *page) {
	c.row, c.at, c.level = 0, 0, 0
	switch {
	case p.nulls == 0 && len(p.repetition) == 0:
		c.uneven, c.stride = false, 1
	case p.nulls == p.values:
		c.uneven, c.stride = false, 0
	default:
		c.uneven, c.stride = true, 0
	}
	if p.indexed {
		c.texts, c.indexes = c.dictionary, p.indexes
		return
	}
	c.texts, c.indexes, c.copied = p.plain, nil, false
}

// null reports whether the row has no value.
func (c *cursor) null() bool { return len(c.page.definition) > 0 && c.page.definition[c.row] == 0 }

// maxShared is the size in bytes up to which a dictionary is copied whole.
const maxShared = 16 << 10

// place makes span that of value i, which it copies into b where it is not
// there yet, maybe with the values of the next n rows.
func (c *cursor) place(b *event.Batch, span *event.Span, i, n int) {
	if !c.copied {
		c.copyTo(b, i, n)
	}
	if c.indexes != nil {
		i = int(c.indexes[i])
	}
	from := c.texts.offsets[i]
	span.Value, span.ValueLen = uint32(c.moved+int(from)), c.texts.offsets[i+1]-c.texts.gap-from
}

// copyTo copies value i, at least.
func (c *cursor) copyTo(b *event.Batch, i, n int) {
	var from, to uint32
	switch {
	case c.indexes == nil:
		from, to = c.texts.offsets[i], c.texts.offsets[c.end(i, n)]-c.texts.gap
		c.copied = true
	case len(c.texts.data) <= maxShared:
		to = uint32(len(c.texts.data))
		c.copied = true
	default:
		i = int(c.indexes[i])
		from, to = c.texts.offsets[i], c.texts.offsets[i+1]-c.texts.gap
	}
	c.moved = len(b.Buf) - int(from)
	b.Buf = append(b.Buf, c.texts.data[from:to]...)
}

// end returns the index after the values of n rows: of an even cursor from the
// row of value i on, of an uneven one from its own row on.
func (c *cursor) end(i, n int) int {
	switch {
	case !c.uneven:
		return i + c.stride*n
	case len(c.page.repetition) == 0:
		return c.at + n - bytes.Count(c.page.definition[c.row:c.row+n], []byte{0})
	}
	level, repetition := c.level, c.page.repetition
	for ; n > 0; n-- {
		for level++; level < len(repetition) && repetition[level] != 0; level++ {
		}
	}
	return c.at + (level - c.level) - bytes.Count(c.page.definition[c.level:level], []byte{0})
}

// seek goes on to a later row of the row group, or stays where it is. It needs
// the places of the column chunk's pages.
func (c *cursor) seek(row int, pages *pq.FileOffsetIndex) error {
	if row >= c.first+c.page.rows {
		if i := pageOf(pages, row); i >= 0 && pages.Offset(i) > c.off {
			if err := c.jump(pages.Offset(i), pages.Offset(0)); err != nil {
				return fmt.Errorf("read column %s: %w", columnNames[c.column], err)
			}
			c.first, c.row, c.page.rows = int(pages.FirstRowIndex(i)), 0, 0
		}
	}
	return c.forward(row)
}

// forward goes on to a later row of the row group, or stays where it is, page by page.
func (c *cursor) forward(row int) error {
	for {
		if err := c.load(); err != nil {
			return err
		}
		if row < c.first+c.page.rows {
			break
		}
		c.row = c.page.rows
	}
	if !c.uneven {
		c.skip(row - c.first - c.row)
	}
	for c.first+c.row < row {
		c.next()
	}
	return nil
}

// pageOf returns the page that the row is in.
func pageOf(pages *pq.FileOffsetIndex, row int) int {
	return sort.Search(pages.NumPages(), func(i int) bool { return pages.FirstRowIndex(i) > int64(row) }) - 1
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
	case len(c.page.repetition) > 0:
		c.nextList()
		return
	case len(c.page.definition) == 0 || c.page.definition[c.row] != 0:
		c.at++
	}
	c.row++
}

// value returns value i of a byte array page.
func (c *cursor) value(i int) []byte {
	if c.indexes != nil {
		i = int(c.indexes[i])
	}
	return c.texts.value(i)
}

func (c *cursor) nextList() {
	for {
		if c.page.definition[c.level] != 0 {
			c.at++
		}
		c.level++
		if c.level == len(c.page.repetition) || c.page.repetition[c.level] == 0 {
			break
		}
	}
	c.row++
}
