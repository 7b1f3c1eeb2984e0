package event_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

// entry makes an event of alternating names and values.
func entry(pairs ...string) *event.Event {
	e := &event.Event{ID: event.ID{Ms: 1700000000000}}
	for i := 0; i < len(pairs); i += 2 {
		e.Fields = append(e.Fields, event.Field{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	return e
}

// show writes an envelope as "attribute=value" lines on one.
func show(env *event.Envelope) string {
	var out []string
	for a := range event.NumAttributes {
		if value, ok := env.Get(a); ok {
			out = append(out, fmt.Sprintf("%s=%s", a, value))
		}
	}
	return strings.Join(out, " ")
}

func TestExtract(t *testing.T) {
	const doc = `{"specversion":"1.0","id":"e1","type":"OrderPaid","subject":"4711","time":"2026-11-21T07:00:00Z","data":{"a":[1]} }`
	tests := []struct {
		name     string
		mapping  event.Mapping
		event    *event.Event
		want     string
		embedded int
	}{
		{name: "defaults", embedded: -1,
			event: entry("event_id", "e1", "event_type", "OrderPaid", "tenant", "t", "aggregate_type", "order",
				"aggregate_id", "4711", "version", "3", "timestamp", "x", "correlation_id", "c", "payload", `{"id":5}`),
			want: `event_id=e1 event_type=OrderPaid tenant=t aggregate_type=order aggregate_id=4711 ` +
				`aggregate_version=3 occurred_at=x correlation_id=c payload={"id":5}`},
		{name: "case and separators", embedded: -1,
			event: entry("eventId", "1", "Event-Type", "2", "EVENT.TIME", "3", "causationID", "4"),
			want:  "event_id=1 event_type=2 occurred_at=3 causation_id=4"},
		{name: "the most wanted name, then the first field", embedded: -1,
			event: entry("id", "no", "event-id", "yes", "event_id", "late", "data", "a", "data", "b"),
			want:  "event_id=yes payload=a"},
		{name: "empty values and no fields known", embedded: -1,
			event: entry("type", "", "x", "1", "", ""), want: "event_type="},
		{name: "no fields", embedded: -1, event: entry(), want: ""},
		{name: "CloudEvents binary with ce_", embedded: -1,
			event: entry("ce_specversion", "1.0", "ce_id", "1", "ce_type", "T", "ce_subject", "s", "ce_time", "t",
				"ce_source", "/shop", "content_type", "application/json", "data", `{}`),
			want: "event_id=1 event_type=T aggregate_id=s occurred_at=t payload={}"},
		{name: "CloudEvents binary with cloudEvents:", embedded: -1,
			event: entry("cloudEvents:id", "1", "cloudEvents:type", "T", "body", "x"),
			want:  "event_id=1 event_type=T payload=x"},
		{name: "CloudEvents structured", embedded: 0, event: entry("anything", doc),
			want: `event_id=e1 event_type=OrderPaid aggregate_id=4711 occurred_at=2026-11-21T07:00:00Z payload={"a":[1]}`},
		{name: "CloudEvents structured by content type", embedded: 1,
			event: entry("content-type", "application/CloudEvents+json; charset=utf-8", "data", doc, "tenant", "t"),
			want: `event_id=e1 event_type=OrderPaid tenant=t aggregate_id=4711 occurred_at=2026-11-21T07:00:00Z ` +
				`payload={"a":[1]}`},
		{name: "not by another content type", embedded: -1,
			event: entry("content-type", "application/json", "data", doc), want: "payload=" + doc},
		{name: "flat document is its own payload", embedded: 0, event: entry("data", `{"id":7,"amount":3}`),
			want: `event_id=7 payload={"id":7,"amount":3}`},
		{name: "a lone object that is no event", embedded: -1, event: entry("data", `{"amount":3}`),
			want: `payload={"amount":3}`},
		{name: "a lone value that is no object", embedded: -1, event: entry("data", `[{"id":1}]`),
			want: `payload=[{"id":1}]`},
		{name: "null and nested members are absent, the first one counts", embedded: 0,
			event: entry("m", `{"event_id":null,"id":"1","type":{"a":1},"name":"N","name":"O","data":null,"tenant":[]}`),
			want: `event_id=1 event_type=N payload=` +
				`{"event_id":null,"id":"1","type":{"a":1},"name":"N","name":"O","data":null,"tenant":[]}`},
		{name: "escapes", embedded: 0,
			event: entry("m", `{"\u0069d":"a\"\u00e9\ud83d\ude00\ud83d\n","type":true,"data":"x\ty"}`),
			want:  "event_id=a\"é😀\ufffd\n event_type=true payload=\"x\\ty\""},
		{name: "configured names replace the defaults and take them from others", embedded: -1,
			mapping: event.Mapping{AggregateID: []string{"ID"}, Payload: []string{"-"}},
			event:   entry("id", "4711", "payload", "x", "key", "k", "uuid", "u"),
			want:    "event_id=u aggregate_id=4711"},
		{name: "configured document", embedded: 1, mapping: event.Mapping{Document: []string{"msg", "json"}},
			event: entry("json", "{}", "Msg", `{"type":"T","tenant":"inner","data":1}`, "tenant", "outer", "payload", "p"),
			want:  "event_type=T tenant=outer payload=1"},
		{name: "configured document that is no object", embedded: -1, mapping: event.Mapping{Document: []string{"data"}},
			event: entry("data", `{"type":"T",}`, "tenant", "t"), want: `tenant=t payload={"type":"T",}`},
		{name: "configured document only", embedded: -1, mapping: event.Mapping{Document: []string{"msg"}},
			event: entry("data", doc), want: "payload=" + doc},
		{name: "no document", embedded: -1, mapping: event.Mapping{Document: []string{"-"}},
			event: entry("data", doc), want: "payload=" + doc},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.mapping.Validate(); err != nil {
				t.Fatal(err)
			}
			x := tt.mapping.Extractor()
			var env event.Envelope
			shape := x.Extract(tt.event, &env)
			for range 2 {
				if got := show(&env); got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				if shape.Embedded != tt.embedded {
					t.Errorf("embedded in %d, want %d", shape.Embedded, tt.embedded)
				}
				checkShape(t, shape, tt.event, &env)
				x.Extract(entry("something", "else"), &env)
				if again := x.Extract(tt.event, &env); again != shape {
					t.Errorf("another shape for the same event")
				}
			}
		})
	}
}

// checkShape holds a shape to what it promises of its event.
func checkShape(t interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}, s *event.Shape, e *event.Event, env *event.Envelope) {
	t.Helper()
	for i, f := range e.Fields {
		if string(s.Names[i]) != string(f.Name) {
			t.Errorf("name %d is %q, want %q", i, s.Names[i], f.Name)
		}
	}
	for a, field := range s.Source {
		value, ok := env.Get(event.Attribute(a))
		if field >= 0 && (!ok || string(value) != string(e.Fields[field].Value)) {
			t.Errorf("%s is not the value of field %d", event.Attribute(a), field)
		}
		if field < 0 && ok && s.Embedded < 0 {
			t.Errorf("%s comes from nowhere", event.Attribute(a))
		}
	}
	prefix, suffix, ok := env.Splice()
	if ok != (s.Embedded >= 0) {
		t.Fatalf("splice %t, embedded %d", ok, s.Embedded)
	}
	if !ok {
		return
	}
	payload, _ := env.Get(event.Payload)
	if got := string(prefix) + string(payload) + string(suffix); got != string(e.Fields[s.Embedded].Value) {
		t.Errorf("spliced %q, want %q", got, e.Fields[s.Embedded].Value)
	}
}
