package parquet

import (
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
)

// quickText is a text type whose dictionaries know their latest values without
// the library's map, and each value of a page once when they look for bounds.
type quickText struct{ pq.Type }

func (t quickText) NewDictionary(column, numValues int, data encoding.Values) pq.Dictionary {
	return &quickDictionary{Dictionary: t.Type.NewDictionary(column, numValues, data), text: t.Type}
}

// quickDictionary remembers where it put its latest values, by a simple hash.
type quickDictionary struct {
	pq.Dictionary
	text    pq.Type
	indexed bool // the buffer of indexes is made
	latest  [256]struct {
		value []byte
		index int32
	}
}

// maxQuick is the length in bytes of the longest value that is remembered.
const maxQuick = 1 << 10

func (d *quickDictionary) insert(value pq.Value) int32 {
	text := value.ByteArray()
	n := len(text)
	if n == 0 || n > maxQuick {
		return d.insertSlowly(value)
	}
	hash := uint(n)*7 + uint(text[0])*31 + uint(text[n/2])*13 + uint(text[n-1])
	known := &d.latest[hash%uint(len(d.latest))]
	if string(known.value) != string(text) {
		known.index = d.insertSlowly(value)
		known.value = append(known.value[:0], text...)
	}
	return known.index
}

func (d *quickDictionary) insertSlowly(value pq.Value) int32 {
	var index [1]int32
	d.Insert(index[:], []pq.Value{value})
	return index[0]
}

// Reset forgets all values: the row group is over.
func (d *quickDictionary) Reset() {
	d.Dictionary.Reset()
	for i := range d.latest {
		d.latest[i].value = d.latest[i].value[:0]
	}
}

func (d *quickDictionary) Type() pq.Type { return quickIndexes{d.Dictionary.Type(), d} }

// quickIndexes is the type of a column of indexes.
type quickIndexes struct {
	pq.Type
	dictionary *quickDictionary
}

// NewColumnBuffer is called for the buffer of indexes first and then, should the
// dictionary become too large, for one of plain values.
func (t quickIndexes) NewColumnBuffer(column, numValues int) pq.ColumnBuffer {
	if t.dictionary.indexed {
		return t.dictionary.text.NewColumnBuffer(column, numValues)
	}
	t.dictionary.indexed = true
	return &indexBuffer{ColumnBuffer: t.Type.NewColumnBuffer(column, 0), typ: t, column: column}
}

// indexBuffer collects the indexes of a page.
type indexBuffer struct {
	pq.ColumnBuffer
	typ     quickIndexes
	column  int
	indexes []int32
}

func (b *indexBuffer) WriteValues(values []pq.Value) (int, error) {
	for i := range values {
		b.indexes = append(b.indexes, b.typ.dictionary.insert(values[i]))
	}
	return len(values), nil
}

func (b *indexBuffer) Len() int { return len(b.indexes) }

func (b *indexBuffer) NumValues() int64 { return int64(len(b.indexes)) }

func (b *indexBuffer) Size() int64 { return 4 * int64(len(b.indexes)) }

func (b *indexBuffer) Reset() { b.indexes = b.indexes[:0] }

func (b *indexBuffer) Page() pq.Page { return indexPage{b.page(b.indexes), b} }

func (b *indexBuffer) page(indexes []int32) pq.Page {
	return b.typ.Type.NewPage(b.column, len(indexes), encoding.Int32Values(indexes))
}

type indexPage struct {
	pq.Page
	buffer *indexBuffer
}

// Bounds looks at each index once.
func (p indexPage) Bounds() (lower, upper pq.Value, ok bool) {
	seen := make([]bool, p.buffer.typ.dictionary.Len())
	var once []int32
	for _, i := range p.buffer.indexes {
		if !seen[i] {
			seen[i] = true
			once = append(once, i)
		}
	}
	return p.buffer.page(once).Bounds()
}
