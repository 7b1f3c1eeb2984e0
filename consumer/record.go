package consumer

import (
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// Record is one entry of a stream as handlers get it. It shares no memory with
// anything else.
type Record struct {
	Stream string
	ID     event.ID
	// Attempt counts from 1: how often the event has been given to a handler, as
	// far as the failures were recorded.
	Attempt int

	// The envelope, found by Config.Mapping; what an event does not have is "".
	EventID       string
	Type          string
	Tenant        string
	AggregateType string
	AggregateID   string
	CorrelationID string
	CausationID   string
	SchemaVersion string
	// AggregateVersion is -1 when the event has none.
	AggregateVersion int64
	// OccurredAt is the time of the ID where the event has none of its own.
	OccurredAt time.Time
	Payload    []byte

	// Fields are all of the entry's, byte for byte and in order.
	Fields []event.Field
}

// Event is a Record with its payload decoded.
type Event[P any] struct {
	*Record
	Data P
}

// The fields that a replay adds to the events it sends again.
const (
	replayField = "reservoir_replay"
	streamField = "reservoir_stream"
	idField     = "reservoir_id"
)

// Get returns the value of the first field of that name.
func (r *Record) Get(name string) ([]byte, bool) {
	e := event.Event{Fields: r.Fields}
	return e.Get(name)
}

// Replay tells whether this is a copy that a replay of Reservoir has sent again,
// and of what: the replay's ID, and the stream and ID of the original. A handler
// with effects that must not happen again, such as sending mail, looks here.
func (r *Record) Replay() (id, stream string, origID event.ID, ok bool) {
	from, hasStream := r.Get(streamField)
	at, hasID := r.Get(idField)
	if !hasStream || !hasID {
		return "", "", event.ID{}, false
	}
	origID, err := event.ParseID(string(at))
	if err != nil {
		return "", "", event.ID{}, false // not of ours
	}
	replay, _ := r.Get(replayField)
	return string(replay), string(from), origID, true
}

// Key names what happened, the same for an event and for all of its copies: for
// deduplication here, and as an idempotency key elsewhere. It is the event's own
// ID, "id:4711", or where it has none the place of the original,
// "at:orders/1700000000000-0".
func (r *Record) Key() string {
	if r.EventID != "" {
		return "id:" + r.EventID
	}
	stream, id := r.Stream, r.ID
	if _, from, original, ok := r.Replay(); ok {
		stream, id = from, original
	}
	return "at:" + stream + "/" + id.String()
}

// records makes Records.
type records struct {
	stream    string
	extractor *event.Extractor
	envelope  event.Envelope
	event     event.Event
}

// look finds the envelope of event i and returns the event's type.
func (m *records) look(b *event.Batch, i int) []byte {
	b.Event(i, &m.event)
	m.extractor.Extract(&m.event, &m.envelope)
	kind, _ := m.envelope.Get(event.Type)
	return kind
}

// record copies the event that was looked at last.
func (m *records) record() *Record {
	text := func(a event.Attribute) string {
		value, _ := m.envelope.Get(a)
		return string(value)
	}
	r := &Record{
		Stream: m.stream, ID: m.event.ID, Attempt: 1, EventID: text(event.EventID), Type: text(event.Type), Tenant: text(event.Tenant),
		AggregateType: text(event.AggregateType), AggregateID: text(event.AggregateID), CorrelationID: text(event.CorrelationID),
		CausationID: text(event.CausationID), SchemaVersion: text(event.SchemaVersion), AggregateVersion: -1,
	}
	if version, ok := m.envelope.AggregateVersion(); ok {
		r.AggregateVersion = version
	}
	if micros, ok := m.envelope.Time(m.event.ID); ok {
		r.OccurredAt = time.UnixMicro(micros).UTC()
	}
	if payload, ok := m.envelope.Get(event.Payload); ok {
		r.Payload = append([]byte{}, payload...)
	}
	copied := m.event.Clone()
	r.Fields = copied.Fields
	return r
}
