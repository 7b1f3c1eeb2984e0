package event

// Batch is a run of events in one arena: the bytes of all names and values lie
// in Buf, and spans of offsets say where. It holds no pointers per event, so a
// reader fills and reuses it without allocating, however many events it holds.
//
// A Batch is not safe for concurrent use while it is being filled; after that
// any number of goroutines may read it until it is Reset.
type Batch struct {
	// Buf holds the bytes that the spans point into. A reader may put a raw
	// protocol reply here and add spans over it; offsets stay valid when the
	// buffer is grown.
	Buf []byte

	ids   []ID
	first []uint32 // index into spans of event i's first field
	spans []Span
	bytes int
}

// Span says where a field lies in a Batch's Buf.
type Span struct {
	Name, NameLen   uint32
	Value, ValueLen uint32
}

// MaxBatchBytes bounds Buf: spans are 32-bit offsets.
const MaxBatchBytes = 1<<32 - 1

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Buf = b.Buf[:0]
	b.ids, b.first, b.spans = b.ids[:0], b.first[:0], b.spans[:0]
	b.bytes = 0
}

// Len returns the number of events.
func (b *Batch) Len() int { return len(b.ids) }

// Bytes returns the sum of the events' sizes (names and values).
func (b *Batch) Bytes() int { return b.bytes }

// RangeBytes returns the sum of the sizes of events [from, to).
func (b *Batch) RangeBytes(from, to int) int {
	if from >= to {
		return 0
	}
	n := 0
	for _, s := range b.spans[b.first[from]:b.spanEnd(to-1)] {
		n += int(s.NameLen) + int(s.ValueLen)
	}
	return n
}

// ID returns the ID of event i.
func (b *Batch) ID(i int) ID { return b.ids[i] }

// Begin starts a new event; AddSpan and AddField add to the last one begun.
func (b *Batch) Begin(id ID) {
	b.ids = append(b.ids, id)
	b.first = append(b.first, uint32(len(b.spans)))
}

// AddSpan adds a field whose name and value lie in Buf already, at the given
// offsets.
func (b *Batch) AddSpan(name, nameLen, value, valueLen int) {
	b.spans = append(b.spans, Span{uint32(name), uint32(nameLen), uint32(value), uint32(valueLen)})
	b.bytes += nameLen + valueLen
}

// AddSpans adds an event whose fields lie in Buf already. It copies the spans.
func (b *Batch) AddSpans(id ID, spans []Span) {
	b.Begin(id)
	b.spans = append(b.spans, spans...)
	for i := range spans {
		b.bytes += int(spans[i].NameLen) + int(spans[i].ValueLen)
	}
}

// AddField copies a field into Buf and adds it.
func (b *Batch) AddField(name, value []byte) {
	at := len(b.Buf)
	b.Buf = append(b.Buf, name...)
	b.Buf = append(b.Buf, value...)
	b.AddSpan(at, len(name), at+len(name), len(value))
}

// Append copies e into the batch.
func (b *Batch) Append(e *Event) {
	b.Begin(e.ID)
	for _, f := range e.Fields {
		b.AddField(f.Name, f.Value)
	}
}

// Truncate drops the events from n on; their bytes stay in Buf until Reset.
func (b *Batch) Truncate(n int) {
	if n >= len(b.ids) {
		return
	}
	b.bytes -= b.RangeBytes(n, len(b.ids))
	b.spans = b.spans[:b.first[n]]
	b.ids, b.first = b.ids[:n], b.first[:n]
}

// Slice returns events [from, to) as a batch that shares b's memory: it is valid
// as long as b is, and not to be filled.
func (b *Batch) Slice(from, to int) Batch {
	if from >= to {
		return Batch{}
	}
	return Batch{
		Buf: b.Buf, ids: b.ids[from:to:to], first: b.first[from:to:to],
		spans: b.spans[:b.spanEnd(to-1)], bytes: b.RangeBytes(from, to),
	}
}

// Event fills e with event i, reusing e.Fields. The fields' bytes are those of
// the batch: they are valid until it is Reset.
func (b *Batch) Event(i int, e *Event) {
	e.ID = b.ids[i]
	e.Fields = e.Fields[:0]
	for _, s := range b.spans[b.first[i]:b.spanEnd(i)] {
		e.Fields = append(e.Fields, Field{
			Name:  b.Buf[s.Name : s.Name+s.NameLen : s.Name+s.NameLen],
			Value: b.Buf[s.Value : s.Value+s.ValueLen : s.Value+s.ValueLen],
		})
	}
}

func (b *Batch) spanEnd(i int) uint32 {
	if i+1 < len(b.first) {
		return b.first[i+1]
	}
	return uint32(len(b.spans))
}
