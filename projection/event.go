package projection

import (
	"fmt"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/segmentio/encoding/json" // as encoding/json, and several times as fast

	"github.com/reservoirhq/reservoir/event"
)

// Event is an event as functions in Go see it. Its texts are what the columns
// of the relation events hold: empty where the event has no such attribute, where
// that is not valid UTF-8, or where it is longer than 1024 bytes (but for the
// payload, which may be).
type Event struct {
	Stream      string
	Incarnation int
	ID          event.ID

	EventID       string
	Type          string
	Tenant        string
	AggregateType string
	AggregateID   string
	// Version is the aggregate's version; !HasVersion when the event has none.
	Version       int64
	HasVersion    bool
	OccurredAt    time.Time // UTC, microseconds; the ID's time where the event has none
	CorrelationID string
	CausationID   string
	SchemaVersion string
	Payload       string

	// Fields are the event's fields, byte for byte. They are valid only until the
	// function returns.
	Fields []event.Field

	shapes *shapes // of what payloads are decoded into; nil: not remembered
}

// Decode reads the payload, JSON, into v, as encoding/json does. It is fastest for a pointer
// to a struct whose fields are texts, numbers, booleans and such structs: what v has no
// fields for is only passed over.
func (e *Event) Decode(v any) error {
	// It is only read; and texts in v share its memory, which does not change.
	payload := unsafe.Slice(unsafe.StringData(e.Payload), len(e.Payload)) //nolint:gosec // as said
	if p := reflect.ValueOf(v); e.shapes != nil && p.Kind() == reflect.Pointer && !p.IsNil() {
		if shape := e.shapes.of(p.Type().Elem()); shape != nil {
			r := jsonReader{text: e.Payload, bytes: payload}
			if r.read(shape, p.UnsafePointer()) {
				return nil
			}
			if r.err != nil {
				return fmt.Errorf("payload: %w", r.err)
			}
		}
	}
	rest, err := json.Parse(payload, v, json.DontCopyString|json.DontCopyNumber)
	switch {
	case err != nil:
		return fmt.Errorf("payload: %w", err)
	case len(rest) > 0:
		return fmt.Errorf("payload: there is more after its value: %.20q", rest)
	}
	return nil
}

// Reader makes Events of what archives and tails give. It is not
// safe for concurrent use.
type Reader struct {
	// Together puts the texts of many events into one piece of memory, which stays for
	// as long as one of them is used: for functions that keep none of them for long.
	Together bool
	// Only, if set, are the attributes that events get; the others are empty, and there are no
	// Fields. See Function.Reads.
	Only event.Attributes

	values [event.NumAttributes][]byte
	texts  strings.Builder
	shapes *shapes
}

// textsTogether is how many bytes of texts Reader.Together puts together.
const textsTogether = 64 << 10

// Read fills e with an event of a stream. Only e.Fields share memory with what
// it is given.
func (r *Reader) Read(e *Event, stream string, incarnation int, from *event.Event, env *event.Envelope) {
	size := 0
	for a := range event.NumAttributes {
		r.values[a] = nil
		if a == event.Version || a == event.OccurredAt || !r.wants(a) {
			continue
		}
		if value, ok := env.Text(a); ok {
			r.values[a] = value
			size += len(value)
		}
	}
	if !r.Together {
		r.texts = strings.Builder{}
		r.texts.Grow(size) // one allocation for all of them
	} else if r.texts.Cap()-r.texts.Len() < size {
		r.texts = strings.Builder{}
		r.texts.Grow(max(size, textsTogether))
	}
	before := r.texts.Len()
	for _, value := range r.values {
		if len(value) > 0 {
			r.texts.Write(value)
		}
	}
	rest := r.texts.String()[before:]
	if r.shapes == nil {
		r.shapes = &shapes{}
	}
	var parts [event.NumAttributes]string
	for a, value := range r.values {
		parts[a], rest = rest[:len(value)], rest[len(value):]
	}
	*e = Event{
		Stream: stream, Incarnation: incarnation, ID: from.ID,
		EventID: parts[event.EventID], Type: parts[event.Type], Tenant: parts[event.Tenant],
		AggregateType: parts[event.AggregateType], AggregateID: parts[event.AggregateID],
		CorrelationID: parts[event.CorrelationID], CausationID: parts[event.CausationID],
		SchemaVersion: parts[event.SchemaVersion], Payload: parts[event.Payload],
		Fields: from.Fields, shapes: r.shapes,
	}
	if r.Only != 0 {
		e.Fields = nil
	}
	if r.wants(event.Version) {
		e.Version, e.HasVersion = env.AggregateVersion()
	}
	if !r.wants(event.OccurredAt) {
		return
	}
	if micros, ok := env.Time(from.ID); ok {
		e.OccurredAt = time.UnixMicro(micros).UTC()
	}
}

func (r *Reader) wants(a event.Attribute) bool { return r.Only == 0 || r.Only.Has(a) }

// Clone returns a copy that shares no memory with e.
func (e *Event) Clone() Event {
	c := *e
	whole := event.Event{Fields: e.Fields}
	c.Fields = whole.Clone().Fields
	return c
}

// Aggregate gives the aggregate that the event is about: tenant, type and ID, as
// a text that no other aggregate has.
func (e *Event) Aggregate() string {
	var b strings.Builder
	b.Grow(len(e.Tenant) + len(e.AggregateType) + len(e.AggregateID) + 2)
	b.WriteString(e.Tenant)
	b.WriteByte(0)
	b.WriteString(e.AggregateType)
	b.WriteByte(0)
	b.WriteString(e.AggregateID)
	return b.String()
}
