package upcast_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

func BenchmarkWants(b *testing.B) {
	set := parse(b, orders)
	for _, c := range []struct {
		name string
		e    *event.Event
		want bool
	}{
		{"rule", entry("type", "OrderPlaced", "schema_version", "1"), true},
		{"current", entry("type", "OrderPlaced", "schema_version", "3"), false},
		{"other", entry("type", "OrderCancelled", "schema_version", "1"), false},
	} {
		b.Run(c.name, func(b *testing.B) {
			var env event.Envelope
			event.Mapping{}.Extractor().Extract(c.e, &env)
			b.ReportAllocs()
			for b.Loop() {
				if set.Wants(&env) != c.want {
					b.Fatal("wrong")
				}
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	set := parse(b, rules("rename: {path: customer_name, to: customer.name}", "default: {path: currency, value: EUR}", "drop: {path: legacy}"))
	computed := parse(b, rules("rename: {path: customer_name, to: customer.name}", "drop: {path: legacy}", "expr: {path: cents, is: payload.total * 100}"))
	const payload = `{"order_id":4711,"customer_name":"Ada Lovelace","legacy":true,"total":19.99,"items":[{"sku":"SKU-1001","qty":2,"price":9.5},{"sku":"SKU-2001","qty":1,"price":0.99}],"note":"leave at the door"}`
	for _, c := range []struct {
		name string
		e    *event.Event
		expr bool
	}{
		{"fields", entry("id", "1", "type", "T", "schema_version", "1", "tenant", "acme", "payload", payload), false},
		{"document", entry("event", `{"id":"1","type":"T","schemaversion":"1","tenant":"acme","data":`+payload+`}`), false},
		{"expression", entry("id", "1", "type", "T", "schema_version", "1", "tenant", "acme", "payload", payload), true},
	} {
		b.Run(c.name, func(b *testing.B) {
			var env event.Envelope
			shape := event.Mapping{}.Extractor().Extract(c.e, &env)
			u := set.Upcaster(event.Mapping{})
			if c.expr {
				u = computed.Upcaster(event.Mapping{})
			}
			var out event.Batch
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				if changed, err := u.Apply(c.e, &env, shape, &out); err != nil || !changed {
					b.Fatal(changed, err)
				}
			}
		})
	}
}

func TestWantsAllocates(t *testing.T) {
	set := parse(t, orders)
	var env event.Envelope
	event.Mapping{}.Extractor().Extract(entry("type", "OrderPlaced", "schema_version", "1"), &env)
	if n := testing.AllocsPerRun(100, func() { set.Wants(&env) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
