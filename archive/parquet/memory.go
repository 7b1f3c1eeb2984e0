package parquet

import "sync"

// Memory is what Readers that were closed leave to the ones after them: without it
// each makes its buffers, of several MiB, anew. The zero value is empty. It is safe
// for concurrent use, and what nobody takes is garbage after a while.
type Memory struct{ pool sync.Pool }

// buffers are the memory of one Reader.
type buffers struct {
	window  []byte
	columns [numColumns]columnBuffers
}

// columnBuffers are those of a cursor, without what they held.
type columnBuffers struct {
	raw, dictionary, definition, repetition []byte
	numbers                                 []int64
	indexes, lengths                        []int32
	offsets, dictionaryOffsets              []uint32
}

// lend gives a Reader what another one left.
func (m *Memory) lend(r *Reader) {
	if m == nil {
		return
	}
	r.memory = m
	b, ok := m.pool.Get().(*buffers)
	if !ok {
		return
	}
	r.window.data = b.window
	for i := range b.columns {
		from, p := &b.columns[i], &r.cursors[i].pageReader
		p.raw, p.lengths = from.raw, from.lengths
		p.dictionary.data, p.dictionary.offsets = from.dictionary, from.dictionaryOffsets
		p.page.definition, p.page.repetition = from.definition, from.repetition
		p.page.numbers, p.page.indexes, p.page.plain.offsets = from.numbers, from.indexes, from.offsets
	}
}

// take keeps what a Reader holds, which must not use it any more.
func (m *Memory) take(r *Reader) {
	if m == nil || cap(r.window.data) > maxGroupRead {
		return
	}
	b := &buffers{window: r.window.data[:0]}
	for i := range b.columns {
		p := &r.cursors[i].pageReader
		if cap(p.raw) > maxGroupRead || cap(p.dictionary.data) > maxGroupRead {
			return // of large values
		}
		b.columns[i] = columnBuffers{
			raw: p.raw[:0], dictionary: p.dictionary.data[:0], definition: p.page.definition[:0], repetition: p.page.repetition[:0],
			numbers: p.page.numbers[:0], indexes: p.page.indexes[:0], lengths: p.lengths[:0],
			offsets: p.page.plain.offsets[:0], dictionaryOffsets: p.dictionary.offsets[:0],
		}
	}
	m.pool.Put(b)
}
