// Package event holds the words that every other package shares: an Event is
// one Redis stream entry, byte for byte, and everything that selects or
// describes events (ID, Range, Filter, Envelope) speaks of nothing else. The
// package knows no transport and no storage, and imports nothing of ours.
package event

import "slices"

// Field is one name and value of an entry. Both are arbitrary bytes and may be
// empty; names may repeat within an entry.
type Field struct {
	Name  []byte
	Value []byte
}

// Event is one stream entry: its ID and its fields in the order in which they
// were added. The stream's name is known to whoever hands out the event.
type Event struct {
	ID     ID
	Fields []Field
}

// Clone returns a copy that shares no memory with e. Whoever keeps an event
// from an iterator or a Batch beyond the step that gave it needs one.
func (e *Event) Clone() Event {
	size := 0
	for _, f := range e.Fields {
		size += len(f.Name) + len(f.Value)
	}
	arena := make([]byte, 0, size)
	own := func(b []byte) []byte {
		start := len(arena)
		arena = append(arena, b...)
		return arena[start:len(arena):len(arena)]
	}
	fields := make([]Field, len(e.Fields))
	for i, f := range e.Fields {
		fields[i] = Field{Name: own(f.Name), Value: own(f.Value)}
	}
	return Event{ID: e.ID, Fields: fields}
}

// Equal reports whether both events have the same ID and the same fields in
// the same order. A nil slice equals an empty one.
func (e *Event) Equal(other *Event) bool {
	return e.ID == other.ID && slices.EqualFunc(e.Fields, other.Fields, func(a, b Field) bool {
		return string(a.Name) == string(b.Name) && string(a.Value) == string(b.Value)
	})
}

// Size returns the bytes of all names and values; what the limits, the
// statistics and the metrics call an event's raw bytes.
func (e *Event) Size() int {
	n := 0
	for _, f := range e.Fields {
		n += len(f.Name) + len(f.Value)
	}
	return n
}

// Get returns the value of the first field of that name.
func (e *Event) Get(name string) ([]byte, bool) {
	for _, f := range e.Fields {
		if string(f.Name) == name {
			return f.Value, true
		}
	}
	return nil, false
}
