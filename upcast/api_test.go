package upcast_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/upcast"
)

func entry(pairs ...string) *event.Event {
	e := &event.Event{ID: event.ID{Ms: 1700000000000, Seq: 7}}
	for i := 0; i < len(pairs); i += 2 {
		e.Fields = append(e.Fields, event.Field{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	return e
}

func TestFunc(t *testing.T) {
	set, err := upcast.New(upcast.Func("OrderPlaced", "", "2", "customers", func(d *upcast.Edit) error {
		return d.Rename("customer_name", "customer.name")
	}))
	if err != nil {
		t.Fatal(err)
	}
	e := entry("type", "OrderPlaced", "x", "1", "payload", `{"customer_name": "Ada", "n": 1e400}`, "x", "2")
	var env event.Envelope
	shape := event.Mapping{}.Extractor().Extract(e, &env)
	var out event.Batch
	changed, err := set.Upcaster(event.Mapping{}).Apply(e, &env, shape, &out)
	if err != nil || !changed || out.Len() != 1 {
		t.Fatal(changed, err, out.Len())
	}
	var got event.Event
	out.Event(0, &got)
	want := entry("type", "OrderPlaced", "x", "1", "payload", `{"n": 1e400,"customer":{"name":"Ada"}}`, "x", "2", "schema_version", "2")
	if !got.Equal(want) {
		t.Errorf("%q, want %q", got.Fields, want.Fields)
	}
}
