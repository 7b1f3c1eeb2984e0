package event_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

func benchmarkExtract(b *testing.B, events ...*event.Event) {
	b.Helper()
	x := event.Mapping{}.Extractor()
	var env event.Envelope
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Extract(events[i%len(events)], &env)
	}
}

func nineFields(extra ...string) *event.Event {
	return entry(append([]string{"event_id", "0192f7a8-5d5c-7c3e-9a51-0d8e5b7f2a10", "event_type", "OrderPaid", "tenant", "acme",
		"aggregate_type", "order", "aggregate_id", "4711", "version", "7", "occurred_at", "2026-11-21T07:30:00.123Z",
		"correlation_id", "c-1", "payload", `{"total":12.5,"items":[{"sku":"a","qty":2}]}`}, extra...)...)
}

func BenchmarkExtract(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkExtract(b, nineFields()) })
	b.Run("two_shapes", func(b *testing.B) { benchmarkExtract(b, nineFields(), nineFields("trace", "t")) })
	b.Run("document", func(b *testing.B) {
		benchmarkExtract(b, entry("event", `{"specversion":"1.0","id":"0192f7a8-5d5c-7c3e-9a51-0d8e5b7f2a10","source":"/shop",`+
			`"type":"OrderPaid","subject":"4711","time":"2026-11-21T07:30:00.123Z","datacontenttype":"application/json",`+
			`"data":{"total":12.5,"items":[{"sku":"a","qty":2},{"sku":"b","qty":1}],"customer":{"id":"c-1","tier":"gold"}}}`))
	})
}

func BenchmarkParseTime(b *testing.B) {
	for _, text := range []string{"2026-11-21T07:30:00.123Z", "1700000000123"} {
		b.Run(text, func(b *testing.B) {
			value := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				event.ParseTime(value)
			}
		})
	}
}

func BenchmarkTimeFormAppend(b *testing.B) {
	micros, form, _ := event.ParseTime([]byte("2026-11-21T07:30:00.123Z"))
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = form.Append(buf[:0], micros)
	}
}

func BenchmarkMatch(b *testing.B) {
	for name, f := range map[string]event.Filter{
		"type":              {Types: []string{"OrderPaid"}},
		"pattern":           {Types: []string{"Order*"}, Tenants: []string{"acme"}, Aggregates: []string{"order/4711"}},
		"where_envelope":    {Where: `type == "OrderPaid" and version > 5`},
		"where_payload":     {Where: `type == "OrderPaid" and payload.total > 10`},
		"where_not_reached": {Where: `type == "OrderSent" and payload.total > 10`},
	} {
		b.Run(name, func(b *testing.B) {
			m, e := matcher(b, f), nineFields()
			var env event.Envelope
			event.Mapping{}.Extractor().Extract(e, &env)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Match(e, &env); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	e := nineFields()
	b.ReportAllocs()
	for b.Loop() {
		event.Digest(e)
	}
}
