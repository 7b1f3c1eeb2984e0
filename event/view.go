package event

import (
	"encoding/json"
	"strings"
	"time"
)

// View is an event for people and programs to look at: its envelope, its
// payload as JSON where it is JSON, and the other fields. It is not exact:
// bytes that are not text are replaced, and of several fields of one name it
// has the first.
type View struct {
	Stream           string            `json:"stream"`
	ID               ID                `json:"id"`
	Time             *time.Time        `json:"time,omitempty"` // when it occurred, see Envelope.Time
	EventID          string            `json:"event_id,omitempty"`
	Type             string            `json:"type,omitempty"`
	Tenant           string            `json:"tenant,omitempty"`
	AggregateType    string            `json:"aggregate_type,omitempty"`
	AggregateID      string            `json:"aggregate_id,omitempty"`
	AggregateVersion *int64            `json:"aggregate_version,omitempty"`
	CorrelationID    string            `json:"correlation_id,omitempty"`
	CausationID      string            `json:"causation_id,omitempty"`
	SchemaVersion    string            `json:"schema_version,omitempty"`
	Payload          json.RawMessage   `json:"payload,omitempty"` // a JSON string where it is not JSON
	Fields           map[string]string `json:"fields,omitempty"`  // those that the envelope does not show
}

// View returns the event as it looks to x. It shares no memory with e.
func (x *Extractor) View(stream string, e *Event) View {
	var env Envelope
	shape := x.Extract(e, &env)
	text := func(a Attribute) string {
		b, _ := env.Get(a)
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	v := View{
		Stream: strings.ToValidUTF8(stream, "\ufffd"), ID: e.ID,
		EventID: text(EventID), Type: text(Type), Tenant: text(Tenant),
		AggregateType: text(AggregateType), AggregateID: text(AggregateID),
		CorrelationID: text(CorrelationID), CausationID: text(CausationID), SchemaVersion: text(SchemaVersion),
	}
	if micros, ok := env.Time(e.ID); ok {
		t := time.UnixMicro(micros).UTC()
		v.Time = &t
	}
	if n, ok := env.AggregateVersion(); ok {
		v.AggregateVersion = &n
	}
	if b, ok := env.Get(Payload); ok {
		v.Payload = jsonOf(b)
	}
	v.Fields = x.otherFields(e, shape, &env)
	return v
}

// jsonOf returns a copy of b if it is JSON, and else b as a JSON string.
func jsonOf(b []byte) json.RawMessage {
	if json.Valid(b) {
		return json.RawMessage(strings.ToValidUTF8(string(b), "\ufffd"))
	}
	quoted, err := json.Marshal(string(b))
	if err != nil { // a string always has JSON
		return nil
	}
	return quoted
}

// otherFields gives the fields that are no part of the envelope, or not
// understood as one.
func (*Extractor) otherFields(e *Event, shape *Shape, env *Envelope) map[string]string {
	shown := func(i int) bool {
		if i == shape.Embedded {
			return true
		}
		for a := range NumAttributes {
			if shape.Source[a] != i {
				continue
			}
			if a == Version {
				_, ok := env.AggregateVersion()
				return ok
			}
			if a == OccurredAt {
				_, _, ok := ParseTime(e.Fields[i].Value)
				return ok
			}
			return true
		}
		return false
	}
	var others map[string]string
	for i, f := range e.Fields {
		name := strings.ToValidUTF8(string(f.Name), "\ufffd")
		if _, twice := others[name]; twice || shown(i) {
			continue
		}
		if others == nil {
			others = map[string]string{}
		}
		others[name] = strings.ToValidUTF8(string(f.Value), "\ufffd")
	}
	return others
}
