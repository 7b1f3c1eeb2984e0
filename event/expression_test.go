package event_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

func TestExpression(t *testing.T) {
	e := entry("event_type", "OrderPlaced", "tenant", "acme", "channel", "web",
		"payload", `{"total":19.99,"items":[{"n":2},{"n":3}],"name":"Ada Lovelace"}`)
	for _, c := range []struct {
		text, item string
		want       any
	}{
		{`type + "/" + tenant`, "", "OrderPlaced/acme"},
		{`int(round(payload.total * 100))`, "", 1999},
		{`sum(map(payload.items, .n))`, "", 5},
		{`split(payload.name, " ")[0]`, "", "Ada"},
		{`fields["channel"]`, "", "web"},
		{`payload.missing * 2`, "", nil},
		{`item.price * item.qty`, `{"price":3,"qty":4}`, 12},
		{`item`, "", nil},
		{`item?.x ?? "none"`, "", "none"},
		{`sort(keys(payload.prices ?? {}))`, "", []any{}},
		{`{"a": ms}`, "", map[string]any{"a": int(e.ID.Ms)}},
	} {
		x, err := event.CompileExpression(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		var env event.Envelope
		event.Mapping{}.Extractor().Extract(e, &env)
		got, err := x.Eval(e, &env, []byte(c.item))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, %v, want %#v", c.text, got, err, c.want)
		}
	}
}

func TestExpressionErrors(t *testing.T) {
	for text, want := range map[string]string{
		"payloud.x":  "unknown name payloud",
		"1 +":        "unexpected token EOF",
		"$env":       "unknown name $env",
		"now()":      "unknown name now",
		"tenant * 2": "mismatched types",
	} {
		if _, err := event.CompileExpression(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	x, err := event.CompileExpression(`int(payload.x)`)
	if err != nil {
		t.Fatal(err)
	}
	var env event.Envelope
	if _, err := x.Eval(&event.Event{}, &env, nil); err == nil {
		t.Error("int of nothing is a number")
	}
	if _, err := event.CompilePredicate("item.x == 1"); err == nil {
		t.Error("a predicate knows item")
	}
}

func TestMember(t *testing.T) {
	doc := `{"id":"1", "ty\u0070e" : "A\nB","data":{"x":[1,2]},"schemaversion":7}`
	e := entry("event", doc)
	var env event.Envelope
	x := event.Mapping{}.Extractor()
	x.Extract(e, &env)
	for a, want := range map[event.Attribute]string{
		event.EventID: `"1"`, event.Type: `"A\nB"`, event.SchemaVersion: "7", event.Payload: `{"x":[1,2]}`, event.Tenant: "",
	} {
		from, to, ok := env.Member(a)
		if ok != (want != "") || doc[from:to] != want {
			t.Errorf("%s is %q, %v, want %q", a, doc[from:to], ok, want)
		}
	}
	x.Extract(entry("event", `{"type":"T","x":1}`), &env)
	if _, _, ok := env.Member(event.Payload); ok {
		t.Error("the whole document is no member of itself")
	}
	x.Extract(entry("type", "T", "payload", doc), &env)
	if _, _, ok := env.Member(event.Type); ok {
		t.Error("an attribute in a field is no member")
	}
}
