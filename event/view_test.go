package event

import (
	"encoding/json"
	"testing"
)

func TestView(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"envelope", []string{"event_id", "e1", "type", "Paid", "tenant", "acme", "aggregate_type", "order", "aggregate_id", "7",
			"version", "3", "occurred_at", "2026-11-21T07:30:00Z", "correlation_id", "c", "causation_id", "d", "schema_version", "2",
			"payload", `{"a": [1, 2]}`, "trace", "x"},
			`{"stream":"s","id":"1000-2","time":"2026-11-21T07:30:00Z","event_id":"e1","type":"Paid","tenant":"acme","aggregate_type":"order",` +
				`"aggregate_id":"7","aggregate_version":3,"correlation_id":"c","causation_id":"d","schema_version":"2","payload":{"a":[1,2]},"fields":{"trace":"x"}}`},
		{"not understood", []string{"version", "three", "occurred_at", "yesterday", "payload", "hello"},
			`{"stream":"s","id":"1000-2","time":"1970-01-01T00:00:01Z","payload":"hello","fields":{"occurred_at":"yesterday","version":"three"}}`},
		{"not text", []string{"type", "\xff", "\xfe", "\x00\xfd", "payload", "\"\xfc\""},
			`{"stream":"s","id":"1000-2","time":"1970-01-01T00:00:01Z","type":"` + "\ufffd" + `","payload":"` + "\ufffd" + `","fields":{"` + "\ufffd" + `":"\u0000` + "\ufffd" + `"}}`},
		{"repeated", []string{"a", "1", "a", "2"}, `{"stream":"s","id":"1000-2","time":"1970-01-01T00:00:01Z","fields":{"a":"1"}}`},
		{"document", []string{"event", `{"specversion":"1.0","id":"e1","type":"Paid","data":{"n":1}}`},
			`{"stream":"s","id":"1000-2","time":"1970-01-01T00:00:01Z","event_id":"e1","type":"Paid","payload":{"n":1}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Event{ID: ID{1000, 2}}
			for i := 0; i < len(c.fields); i += 2 {
				e.Fields = append(e.Fields, Field{[]byte(c.fields[i]), []byte(c.fields[i+1])})
			}
			got, err := json.Marshal(Mapping{}.Extractor().View("s", &e))
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
			}
		})
	}
}
