package parquet_test

import (
	"bytes"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
)

// sameAttributes fails where events do not have the same IDs and attributes.
func sameAttributes(t interface{ Fatalf(string, ...any) }, mapping event.Mapping, attributes event.Attributes, got, want []event.Event) {
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	x, y := mapping.Extractor(), mapping.Extractor()
	var some, all event.Envelope
	for i := range want {
		x.Extract(&got[i], &some)
		y.Extract(&want[i], &all)
		for a := range event.NumAttributes {
			has, hasGot := all.Get(a)
			found, ok := some.Get(a)
			if attributes.Has(a) && (hasGot != ok || !bytes.Equal(has, found)) || got[i].ID != want[i].ID {
				t.Fatalf("event %d: %s of %q is %q, and of what was read, %q, it is %q", i, a, want[i].Fields, has, got[i].Fields, found)
			}
		}
	}
}

// Whatever fields are left out, the attributes that are wanted are those of the whole events.
func TestAttributesOfPartOfTheFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := anyEvents(t)
		written, asked := event.Mapping{}, event.Mapping{}
		if rapid.Bool().Draw(t, "mapped") {
			written.Tenant = []string{"x"}
		}
		if rapid.Bool().Draw(t, "asked by the same") {
			asked = written
		}
		var out bytes.Buffer
		w := parquet.NewWriter(&out, parquet.Options{Mapping: written, RowGroupRows: rapid.SampledFrom([]int{0, 5, 20}).Draw(t, "rows")})
		b := new(event.Batch)
		for i := range events {
			b.Append(&events[i])
		}
		if err := w.Write(b, 0, b.Len()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := parquet.Open(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		spec := parquet.ReadSpec{Mapping: asked, Attributes: event.Attributes(rapid.Uint16Range(1, 1<<event.NumAttributes-1).Draw(t, "attributes"))}
		if len(events) > 0 && rapid.Bool().Draw(t, "in part") {
			spec.Range.From = events[rapid.IntRange(0, len(events)-1).Draw(t, "from")].ID
		}
		sameAttributes(t, asked, spec.Attributes, readAll(t, f, spec), wanted(t, events, parquet.ReadSpec{Mapping: asked, Range: spec.Range}))
	})
}

// Columns that only some rows need are read from there on.
func TestAttributesNeededNowAndThen(t *testing.T) {
	var events []event.Event
	for i := range 20_000 {
		n := strconv.Itoa(i)
		e := event.Event{ID: event.ID{Ms: uint64(1000 + i)}, Fields: fields("event_id", n, "type", "T"+n, "tenant", "t", "payload", "p"+n, "x", "x"+n)}
		switch {
		case i%5000 == 4999:
			e.Fields = fields("event", `{"id":"`+n+`","type":"T`+n+`","tenant":"u","data":{"n":`+n+`}}`)
		case i%7 == 0:
			e.Fields = slices.DeleteFunc(e.Fields, func(f event.Field) bool { return string(f.Name) == "tenant" })
		}
		events = append(events, e)
	}
	f := open(t, write(t, events, parquet.Options{}))
	attributes := event.AttributesOf(event.Type, event.Payload)
	for _, from := range []int{0, 6000, 17_000} {
		got := read(t, f, parquet.ReadSpec{Attributes: attributes, Range: event.Range{From: events[from].ID}})
		sameAttributes(t, event.Mapping{}, attributes, got, events[from:])
		if got[0].Fields != nil && len(got[0].Fields) != 2 {
			t.Errorf("the first event has the fields %q", got[0].Fields)
		}
	}
}
