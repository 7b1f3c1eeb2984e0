package event_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

func matcher(t testing.TB, f event.Filter) *event.Matcher {
	t.Helper()
	m, err := f.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func match(t testing.TB, f event.Filter, e *event.Event) bool {
	t.Helper()
	var env event.Envelope
	event.Mapping{}.Extractor().Extract(e, &env)
	ok, err := matcher(t, f).Match(e, &env)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestFilter(t *testing.T) {
	paid := entry("event_id", "e1", "event_type", "OrderPaid", "tenant", "acme", "aggregate_type", "order",
		"aggregate_id", "4711", "payload", `{"total":12}`)
	bare := entry("x", "y")
	slashed := entry("aggregate_id", "order/4711")
	tests := []struct {
		name   string
		filter event.Filter
		event  *event.Event
		want   bool
	}{
		{"nothing asked", event.Filter{}, bare, true},
		{"type", event.Filter{Types: []string{"X", "OrderPaid"}}, paid, true},
		{"other type", event.Filter{Types: []string{"orderpaid"}}, paid, false},
		{"pattern", event.Filter{Types: []string{"X", "Order*"}}, paid, true},
		{"pattern of one", event.Filter{Types: []string{"Order?aid"}}, paid, true},
		{"other pattern", event.Filter{Types: []string{"*Order"}}, paid, false},
		{"type beside patterns", event.Filter{Types: []string{"OrderPaid", "*Order"}}, paid, true},
		{"any type without one", event.Filter{Types: []string{"*"}}, bare, true},
		{"pattern on what is not UTF-8", event.Filter{Types: []string{"A*"}}, entry("type", "A\xff"), false},
		{"anything on what is not UTF-8", event.Filter{Types: []string{"*"}}, entry("type", "A\xff"), true},
		{"no type", event.Filter{Types: []string{""}}, bare, true},
		{"no type on one with", event.Filter{Types: []string{""}}, paid, false},
		{"tenant", event.Filter{Tenants: []string{"acme"}}, paid, true},
		{"tenants have no patterns", event.Filter{Tenants: []string{"ac*"}}, paid, false},
		{"aggregate type", event.Filter{AggregateTypes: []string{"order"}}, paid, true},
		{"other aggregate type", event.Filter{AggregateTypes: []string{"cart"}}, paid, false},
		{"aggregate", event.Filter{Aggregates: []string{"4711"}}, paid, true},
		{"aggregate with type", event.Filter{Aggregates: []string{"order/4711"}}, paid, true},
		{"aggregate of other type", event.Filter{Aggregates: []string{"cart/4711"}}, paid, false},
		{"other aggregate", event.Filter{Aggregates: []string{"order/4712", "47", "/4711"}}, paid, false},
		{"aggregate with a slash in its ID", event.Filter{Aggregates: []string{"order/4711"}}, slashed, true},
		{"aggregate on none", event.Filter{Aggregates: []string{"4711"}}, bare, false},
		{"event ID", event.Filter{EventIDs: []string{"e0", "e1"}}, paid, true},
		{"other event ID", event.Filter{EventIDs: []string{"e"}}, paid, false},
		{"all at once", event.Filter{Types: []string{"*"}, Tenants: []string{"acme"}, Where: "payload.total > 10"}, paid, true},
		{"one of them not", event.Filter{Types: []string{"*"}, Tenants: []string{"no"}, Where: "payload.total > 10"}, paid, false},
		{"where not", event.Filter{Tenants: []string{"acme"}, Where: "payload.total > 12"}, paid, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := match(t, tt.filter, tt.event); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

func TestPredicate(t *testing.T) {
	e := entry("event_id", "e1", "event_type", "OrderPaid", "tenant", "acme", "version", "7",
		"occurred_at", "2026-11-21T07:00:00.5Z", "trace-id", "t1", "trace-id", "t2", "payload",
		`{"total":12.5,"n":3,"big":9007199254740993,"paid":true,"name":"Ann","none":null,`+
			`"items":[{"sku":"a","qty":2},{"sku":"b"}],"customer":{"tier":"gold"},"huge":1e400}`)
	bare := entry("payload", "no JSON", "x", "y")
	tests := []struct {
		where        string
		match, plain bool // on e and on bare
	}{
		{`type == "OrderPaid"`, true, false},
		{`type in ["A", "OrderPaid"] and tenant startsWith "ac"`, true, false},
		{`event_id == "e1" and id == "1700000000000-0" and ms == 1700000000000`, true, false},
		{`id == "1700000000000-0" && aggregate_id == ""`, true, true},
		{`version >= 7`, true, false},
		{`version < 7 or version > 7`, false, false},
		{`version == nil`, false, true},
		{`occurred_at > date("2026-11-21") && occurred_at.Year() == 2026`, true, false},
		{`occurred_at < date("2023-11-15")`, false, true},
		{`payload.total > 12 && payload.total < 13`, true, false},
		{`payload.big == 9007199254740993 and payload.big != 9007199254740992`, true, false},
		{`payload.customer.tier == "gold"`, true, false},
		{`payload["customer"]["tier"] == "gold"`, true, false},
		{`payload.customer.tier.deep.er > 5`, false, false},
		{`payload.missing > 5 or payload.missing < 5 or payload.missing == 5`, false, false},
		{`payload.missing + 1 > 0 or 2 * payload.missing.x <= 0`, false, false},
		{`payload.missing == nil`, true, true},
		{`payload.none == nil and payload != nil`, true, false},
		{`payload == nil`, false, true},
		{`payload.missing?.x == nil`, true, true},
		{`not (payload.missing > 5)`, true, true},
		{`payload.missing contains "x" or payload.missing matches "x" or payload.missing in ["x"]`, false, false},
		{`payload.name matches "^A"`, true, false},
		{`payload.paid`, true, false},
		{`payload.missing`, false, false},
		{`!payload.paid || payload.none`, false, true},
		{`payload.paid ? true : false`, true, false},
		{`any(payload.items, .qty > 1)`, true, false},
		{`any(payload.items, .sku == "b" && .qty > 1)`, false, false},
		{`len(payload.items) == 2`, true, false},
		{`len(payload.missing) == 0 and count(payload.missing, .x) == 0`, true, true},
		{`payload.items[1].sku == "b" and payload.items[-2].sku == "a"`, true, false},
		{`payload.items[2].sku == "b" or payload.items.sku == "b" or payload[0] == 1`, false, false},
		{`sum(payload.items, .qty ?? 1) == 3`, true, false},
		{`payload.total * payload.n - 1 == 36.5 and payload.n % 2 == 1 and payload.n ** 2 == 9`, true, false},
		{`payload.huge == nil`, true, true},
		{`fields["trace-id"] == "t1"`, true, false},
		{`fields.x == "y"`, false, true},
		{`fields.missing == ""`, true, true},
		{`let t = payload.total; t > 1 and t < 20`, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.where, func(t *testing.T) {
			if got := match(t, event.Filter{Where: tt.where}, e); got != tt.match {
				t.Errorf("got %t, want %t", got, tt.match)
			}
			if got := match(t, event.Filter{Where: tt.where}, bare); got != tt.plain {
				t.Errorf("got %t, want %t without JSON", got, tt.plain)
			}
		})
	}
}

func TestPredicateErrors(t *testing.T) {
	compile := []struct{ where, want string }{
		{`typo == "x"`, "unknown name typo (1:1)"},
		{"type == \"x\" and\n  payloads.total > 5", "unknown name payloads (2:3)"},
		{`type > 5`, "invalid operation: > (mismatched types string and int) (1:6)"},
		{`fields.x > 5`, "mismatched types string and int"},
		{`type ==`, "unexpected token EOF (1:7)"},
		{`type`, "expected bool, but got string"},
		{`payload.total + 1 > 2 and`, "unexpected token EOF"},
		{`$env.type == "x"`, "$env"},
		{`Ms > 5`, "unknown name Ms"},
	}
	for _, tt := range compile {
		t.Run(tt.where, func(t *testing.T) {
			_, err := (&event.Filter{Where: tt.where}).Compile()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	for _, where := range []string{
		`payload.name > 5`, `payload.name and true`, `payload.total`, `any(payload.name2 ?? 5, true)`, `payload.name * 2 == 4`,
	} {
		t.Run(where, func(t *testing.T) {
			var env event.Envelope
			e := entry("payload", `{"name":"Ann","total":1}`)
			event.Mapping{}.Extractor().Extract(e, &env)
			_, err := matcher(t, event.Filter{Where: where}).Match(e, &env)
			if err == nil || !strings.Contains(err.Error(), "event 1700000000000-0") {
				t.Errorf("got %v, want one that names the event", err)
			}
		})
	}
}

func TestFilterErrors(t *testing.T) {
	_, err := (&event.Filter{Types: []string{"\xff*"}, Tenants: []string{"\xff"}, EventIDs: []string{""}, Aggregates: []string{""}, Where: "("}).Compile()
	for _, want := range []string{"types: \"\\xff*\"", "tenants: \"\\xff\"", "event_ids: an empty", "aggregates: an empty", "where: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestMatcherPruning(t *testing.T) {
	all := matcher(t, event.Filter{Where: "true"})
	some := matcher(t, event.Filter{Types: []string{"Order*", "Paid", ""}, Tenants: []string{"a"},
		Aggregates: []string{"order/4711", "x", "a/b/c", "slash/"}, EventIDs: []string{"2", "1", "2"}})
	counts := map[string]uint64{"OrderPaid": 1, "OrderSent": 10, "Paid": 100, "Other": 1000, "": 10000}
	if got := some.CountTypes(counts); got != 10111 {
		t.Errorf("CountTypes: got %d, want 10111", got)
	}
	if got := some.CountTenants(map[string]uint64{"b": 5}); got != 0 {
		t.Errorf("CountTenants: got %d, want 0", got)
	}
	for _, got := range []uint64{some.CountTypes(nil), some.CountTenants(nil), all.CountTypes(counts), all.CountTenants(counts)} {
		if got != math.MaxUint64 {
			t.Errorf("unknown counts: got %d, want no bound", got)
		}
	}
	if got, want := some.EventIDs(), []string{"1", "2"}; !slices.Equal(got, want) {
		t.Errorf("EventIDs: got %q, want %q", got, want)
	}
	if got, want := some.AggregateIDs(), []string{"4711", "a/b/c", "b/c", "c", "order/4711", "slash/", "x"}; !slices.Equal(got, want) {
		t.Errorf("AggregateIDs: got %q, want %q", got, want)
	}
	if all.EventIDs() != nil || all.AggregateIDs() != nil {
		t.Error("want nil where nothing is asked")
	}
	for where, want := range map[string]bool{"true": false, "type == 'payload'": false, "payload.x == 1": true, "fields.x == ''": true} {
		if got := matcher(t, event.Filter{Where: where}).NeedsPayload(); got != want {
			t.Errorf("NeedsPayload of %s: got %t", where, got)
		}
	}
}

func TestPredicateIsSafeForConcurrentUse(t *testing.T) {
	m := matcher(t, event.Filter{Types: []string{"Order*"}, Where: `payload.total > 10 and fields.tenant == "acme"`})
	done := make(chan error)
	for range 4 {
		go func() {
			x := event.Mapping{}.Extractor()
			var env event.Envelope
			for i := range 500 {
				e := entry("event_type", "OrderPaid", "tenant", "acme", "payload", `{"total":`+[]string{"5", "50"}[i%2]+`}`)
				x.Extract(e, &env)
				if got, err := m.Match(e, &env); err != nil || got != (i%2 == 1) {
					done <- errors.Join(err, errors.New("wrong match"))
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func FuzzPredicate(f *testing.F) {
	for _, seed := range []string{
		`payload.total > 10 and type == "A"`, `any(payload.items, .qty > 1 or #.x)`, `let x = fields.a; x in [payload.b, nil]`,
		`not (payload?.a.b ?? true) ? payload.c[1:2] == [] : -payload.d < 2 ** payload.e`, `payload | map(#) | len() > 1`,
		`reduce(payload.items, #acc + .qty, 0) % 2 == 1`, `occurred_at.Year() > version`, `payload.a matches payload.b`,
	} {
		f.Add(seed)
	}
	var env event.Envelope
	e := entry("type", "A", "payload", `{"total":12,"items":[{"qty":2,"x":true},{}],"a":"(","b":null,"c":[1,2.5,"x"],"d":-1,"e":{}}`)
	event.Mapping{}.Extractor().Extract(e, &env)
	f.Fuzz(func(t *testing.T, where string) {
		p, err := event.CompilePredicate(where)
		if err != nil || strings.Contains(where, "repeat") { // which may be slow, rightly
			return
		}
		first, err := p.Match(e, &env)
		if second, again := p.Match(e, &env); first != second || (err == nil) != (again == nil) {
			if !strings.Contains(where, "now") {
				t.Fatalf("%q gives %t, %v, then %t, %v", where, first, err, second, again)
			}
		}
	})
}
