package replay

import (
	"container/heap"
	"context"
	"io"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

const (
	// maxOpen streams are read as open runs when they are merged; more of them
	// are read in windows.
	maxOpen = 2
	// windowBytes is shared by all streams that are merged in windows: what they
	// hold together, but for one event of each that is larger than its share.
	windowBytes = 16 << 20
)

// mergeSource merges the streams of the archive.
type mergeSource struct {
	readers readers // a heap, by next
	window  int     // 0: open runs
	fetched int64   // by what is closed
	event   event.Event
}

// newMergeSource reads what is frozen of all streams, after a place.
func newMergeSource(ctx context.Context, arch *archive.Archive, streams []StreamRange, filter *event.Matcher, order Order, after Position) (*mergeSource, error) {
	m := &mergeSource{}
	for i := range streams {
		parts, err := streamParts(ctx, arch, i, &streams[i], order, after)
		if err != nil {
			return nil, err
		}
		if len(parts) == 0 {
			continue
		}
		r := &streamReader{arch: arch, filter: filter, order: order, name: streams[i].Stream, index: i, parts: parts, fetched: &m.fetched}
		r.begin()
		m.readers = append(m.readers, r)
	}
	heap.Init(&m.readers)
	if n := len(m.readers); order != OrderStream && n > maxOpen {
		m.window = windowBytes / n
	}
	return m, nil
}

// Read implements source.
func (m *mergeSource) Read(ctx context.Context, c *chunk) error {
	for more := true; more && len(m.readers) > 0 && !c.full(); {
		r := m.readers[0]
		if r.left() == 0 {
			if err := r.fill(ctx, m.window); err != nil {
				return err
			}
		} else {
			more = m.take(r, c)
		}
		if r.done() {
			r.Close()
			heap.Pop(&m.readers)
		} else {
			heap.Fix(&m.readers, 0)
		}
	}
	c.fetched = m.bytesRead()
	if len(c.Origins) == 0 {
		return io.EOF
	}
	c.sourced()
	return nil
}

// Close implements source.
func (m *mergeSource) Close() {
	for _, r := range m.readers {
		r.Close()
	}
	m.readers = nil
}

func (m *mergeSource) bytesRead() int64 {
	n := m.fetched
	for _, r := range m.readers {
		n += r.bytesRead()
	}
	return n
}

// take moves the events of the first reader that come before those of all
// others into c, and says whether c may take more.
func (m *mergeSource) take(r *streamReader, c *chunk) (more bool) {
	limit, limited := m.readers.second()
	n := r.batch.Len()
	before := func(i int) bool { return !limited || r.position(&r.of, r.batch.ID(i)).Compare(limit) < 0 }
	if r.at == 0 && len(c.Origins) == 0 && (2*n >= maxBatchEvents || 2*r.batch.Bytes() >= maxBatchBytes) && before(n-1) {
		c.Batch.Batch, r.batch = r.batch, c.Batch.Batch // all of it, as it is
		for i := range n {
			c.Origins = append(c.Origins, Origin{Position: r.position(&r.of, c.ID(i)), Stream: r.name})
		}
		r.consumed()
		return false
	}
	for ; r.at < n && !c.full() && before(r.at); r.at++ {
		r.batch.Event(r.at, &m.event)
		c.append(&m.event, Origin{Position: r.position(&r.of, m.event.ID), Stream: r.name})
	}
	if r.at == n {
		r.consumed()
	} else {
		r.next = r.position(&r.of, r.batch.ID(r.at))
	}
	return true
}

// readers is a heap of readers by their next position.
type readers []*streamReader

func (h readers) Len() int           { return len(h) }
func (h readers) Less(i, j int) bool { return h[i].next.Compare(h[j].next) < 0 }
func (h readers) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *readers) Push(r any) { *h = append(*h, r.(*streamReader)) }

// Pop implements heap.Interface.
func (h *readers) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return r
}

// second returns the next position of all readers but the first, if there are
// others.
func (h readers) second() (Position, bool) {
	switch len(h) {
	case 1:
		return Position{}, false
	case 2:
		return h[1].next, true
	default:
		if h[1].next.Compare(h[2].next) < 0 {
			return h[1].next, true
		}
		return h[2].next, true
	}
}
