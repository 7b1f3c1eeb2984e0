package event

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What is found of an event's kept fields is what is found of all of them.
func TestKeptFieldsGiveTheSame(t *testing.T) {
	names := []string{
		"event_id", "id", "type", "event_type", "tenant", "Tenant-ID", "aggregate_id", "version", "aggregate_version", "occurred_at", "time",
		"payload", "data", "content-type", "contenttype", "datacontenttype", "document", "note", "", "correlation_id",
	}
	values := []string{"", "a", "17", "007", "yesterday", "2026-01-02T03:04:05Z", `{"type":"Inner","id":"5","data":{"x":1}}`, `{"payload":1}`, "application/cloudevents+json", "[1]", "\xff"}
	rapid.Check(t, func(t *rapid.T) {
		mapping := rapid.SampledFrom([]Mapping{{}, {Document: []string{"document"}}, {Document: []string{none}}, {Tenant: []string{"note", "tenant"}}}).Draw(t, "mapping")
		var e Event
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 8).Draw(t, "names") {
			e.Fields = append(e.Fields, Field{Name: []byte(name), Value: []byte(rapid.SampledFrom(values).Draw(t, "value"))})
		}
		wanted := Attributes(rapid.Uint16Range(0, 1<<NumAttributes-1).Draw(t, "attributes"))
		list := make([][]byte, len(e.Fields))
		for i := range e.Fields {
			list[i] = e.Fields[i].Name
		}
		kept := mapping.Extractor().Kept(list, wanted)
		if kept == nil {
			return
		}
		pruned := Event{ID: e.ID}
		for i, f := range e.Fields {
			if kept[i] {
				pruned.Fields = append(pruned.Fields, f)
			}
		}
		var all, some Envelope
		mapping.Extractor().Extract(&e, &all)
		mapping.Extractor().Extract(&pruned, &some)
		for a := range NumAttributes {
			want, has := all.Get(a)
			got, found := some.Get(a)
			if wanted.Has(a) && (has != found || !slices.Equal(got, want)) {
				t.Fatalf("%s of %q is %q, and of %q %q", a, e.Fields, want, pruned.Fields, got)
			}
		}
	})
}
