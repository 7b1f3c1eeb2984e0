package upcast_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/upcast"
)

// rules is a file with one rule for T from v1 to v2.
func rules(steps ...string) string {
	text := "upcasters:\n- type: T\n  from: 1\n  to: 2\n"
	if len(steps) > 0 {
		text += "  steps:\n"
	}
	for _, s := range steps {
		text += "  - " + s + "\n"
	}
	return text
}

// run applies a set to an event, and says what became of it.
func run(t testing.TB, set *upcast.Set, m event.Mapping, e *event.Event) (*event.Event, error) {
	t.Helper()
	var env event.Envelope
	shape := m.Extractor().Extract(e, &env)
	before := e.Clone()
	var out event.Batch
	wants := set.Wants(&env)
	changed, err := set.Upcaster(m).Apply(e, &env, shape, &out)
	if !before.Equal(e) {
		t.Fatalf("the event itself was changed: %q", e.Fields)
	}
	if changed != (out.Len() == 1) || err == nil && wants != changed {
		t.Fatalf("wanted %v, changed %v, %d events", wants, changed, out.Len())
	}
	if !changed {
		return &before, err
	}
	var got event.Event
	out.Event(0, &got)
	if got.ID != e.ID {
		t.Fatalf("ID %s became %s", e.ID, got.ID)
	}
	got = got.Clone()
	return &got, err
}

// TestSteps runs steps on a payload.
func TestSteps(t *testing.T) {
	for _, c := range []struct{ name, steps, in, want string }{ // want: a payload, or "error: …"
		{"rename", "rename: {path: a, to: b}", `{"x":1, "a" : 2 ,"y":3}`, `{"x":1, "b" : 2 ,"y":3}`},
		{"rename nothing", "rename: {path: a, to: b}", `{"x":1}`, `{"x":1}`},
		{"rename taken", "rename: {path: a, to: b}", `{"a":1,"b":2}`, `error: a: cannot become b: there is something already`},
		{"rename escaped", "rename: {path: ab, to: c}", `{"\u0061b":1}`, `{"c":1}`},
		{"rename deep", "rename: {path: a.b, to: a.c}", `{"a":{"b":1,"x":{"b":2}}}`, `{"a":{"c":1,"x":{"b":2}}}`},
		{"move", "move: {path: city, to: customer.address.city}", `{"city":"Paris","n":1}`, `{"n":1,"customer":{"address":{"city":"Paris"}}}`},
		{"move into", "move: {path: city, to: customer.city}", `{"customer":{"n":1},"city":"Paris"}`, `{"customer":{"n":1,"city":"Paris"}}`},
		{"move into null", "move: {path: city, to: c.city}", `{"c":null,"city":1e400}`, `{"c":{"city":1e400}}`},
		{"move into a number", "move: {path: city, to: c.city}", `{"c":1,"city":2}`, `error: city: "c" has no members: it is a number`},
		{"move up", "move: {path: a.b, to: b}", `{"a":{"b":[1, 2]}}`, `{"a":{},"b":[1, 2]}`},
		{"move each", `move: {path: "items[].sku", to: "items[].p.sku"}`, `{"items":[ {"sku":"a","n":1} , {"n":2}, {"sku":"c"}]}`, `{"items":[ {"n":1,"p":{"sku":"a"}} , {"n":2}, {"p":{"sku":"c"}}]}`},
		{"rename each", `rename: {path: "a[].b[].x", to: "a[].b[].y"}`, `{"a":[{"b":[{"x":1},{"x":2}]},{},{"b":null}]}`, `{"a":[{"b":[{"y":1},{"y":2}]},{},{"b":null}]}`},
		{"root list", `rename: {path: "[].x", to: "[].y"}`, ` [{"x":1}, 2 ]`, ` [{"y":1}, 2 ]`},
		{"no list", `rename: {path: "a[].x", to: "a[].y"}`, `{"a":{"x":1}}`, `error: a[].x: "a" is not a list: it is an object`},
		{"twice", "rename: {path: a, to: b}", `{"a":1,"a":2}`, `error: a: "a": the object has it twice`},
		{"drop", "drop: {path: b}", `{"a":1, "b":2, "c":3}`, `{"a":1, "c":3}`},
		{"drop first", "drop: {path: a}", "{\n \"a\":1,\n \"b\":2\n}", "{\n \"b\":2\n}"},
		{"drop last", "drop: {path: b}", "{\n \"a\":1,\n \"b\":2\n}", "{\n \"a\":1\n}"},
		{"drop only", "drop: {path: a}", `{"a":{"a":[1,"}"]}}`, `{}`},
		{"drop nothing", "drop: {path: z.y}", `{"z":3}`, `{"z":3}`},
		{"drop all of a name", "drop: {path: a}", `{"a":1,"b":2,"a":3,"\u0061":4,"c":5}`, `{"b":2,"c":5}`},
		{"drop each", `drop: {path: "l[].a"}`, `{"l":[{"a":1},[],null,{"b":1,"a":2}]}`, `{"l":[{},[],null,{"b":1}]}`},
		{"default", "default: {path: a, value: {b: [1e400, null]}}", `{}`, `{"a":{"b":[1e400,null]}}`},
		{"default there", "default: {path: a, value: 1}", `{"a":null}`, `{"a":null}`},
		{"default deep", "default: {path: a.b.c, value: x}", `{"a":{"z":1}}`, `{"a":{"z":1,"b":{"c":"x"}}}`},
		{"default each", `default: {path: "l[].q", value: 1}`, `{"l":[{},{"q":2}]}`, `{"l":[{"q":1},{"q":2}]}`},
		{"set", `set: {path: a, value: "<&>"}`, `{"a" : {"b":1}, "c":2}`, `{"a" : "<&>", "c":2}`},
		{"set date", "set: {path: a, value: 2026-11-21}", `{}`, `{"a":"2026-11-21"}`},
		{"set yaml numbers", "set: {path: a, value: [0x10, 1_0, .5, 007.5, '1', true, ~]}", `{}`, `{"a":[16,10,0.5,7.5,"1",true,null]}`},
		{"set elements", `set: {path: "l[]", value: 0}`, `{"l":[1,{"a":2}]}`, `{"l":[0,0]}`},
		{"set in a text", "set: {path: a.b, value: 1}", `{"a":"x"}`, `error: a.b: "a" has no members: it is a text`},
		{"set in the elements", `set: {path: "l[].a", value: 1}`, `{"l":[{},"x"]}`, `error: l[].a: element 1 of "l": the payload or the element has no members: it is a text`},
		{"set in a list", "set: {path: b, value: 1}", `[]`, `error: b: the payload or the element has no members: it is a list`},
		{"quoted names", `rename: {path: '"a.b"."[]"', to: '"a.b"."\""'}`, `{"a.b":{"[]":1}}`, `{"a.b":{"\"":1}}`},
		{"expr", "expr: {path: cents, is: int(round(payload.total * 100))}", `{"total":19.99}`, `{"total":19.99,"cents":1999}`},
		{"expr over", "expr: {path: a.b, is: 'upper(payload.a.b) + type + schema_version'}", `{"a":{"b":"x"}}`, `{"a":{"b":"XT1"}}`},
		{"expr of nothing", "expr: {path: cents, is: payload.total * 100}", `{"a":1}`, `{"a":1}`},
		{"expr fails", "expr: {path: cents, is: int(payload.total)}", `{"total":"x"}`, `error: cents: evaluate expression: `},
		{"expr makes", `expr: {path: name, is: '{"first": split(payload.name, " ")[0]}'}`, `{"name":"Ada L"}`, `{"name":{"first":"Ada"}}`},
		{"expr each", `expr: {path: "l[].t", is: item.p * item.q}`, `{"l":[{"p":2,"q":3},{"p":1}]}`, `{"l":[{"p":2,"q":3,"t":6},{"p":1}]}`},
		{"expr elements", `expr: {path: "tags[]", is: upper(item)}`, `{"tags":["a","b"]}`, `{"tags":["A","B"]}`},
		{"expr infinite", "expr: {path: a, is: 1 / payload.zero}", `{"zero":0}`, `error: a: the result is not JSON`},
		{"not JSON", "set: {path: a, value: 1}", `{"a":`, `error: the payload is not JSON`},
		{"two values", "set: {path: a, value: 1}", `{} {}`, `error: the payload is not JSON`},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := parse(t, rules(c.steps))
			got, err := run(t, set, event.Mapping{}, entry("type", "T", "schema_version", "1", "payload", c.in))
			if want, isError := strings.CutPrefix(c.want, "error: "); isError {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := entry("type", "T", "schema_version", "2", "payload", c.want)
			if !got.Equal(want) {
				t.Errorf("%s, want %s (%q)", got.Fields[2].Value, c.want, got.Fields)
			}
		})
	}
}

// TestPlaces runs rules on events that lie in entries in different ways.
func TestPlaces(t *testing.T) {
	const (
		renames = "upcasters:\n- type: T\n  to: 2\n  steps:\n  - type: U\n  - set: {path: a.b, value: 1}\n"
		version = "upcasters:\n- type: T\n  from: 1\n  to: 2\n  steps:\n  - set: {path: a, value: 1}\n"
	)
	for _, c := range []struct {
		name, rules string
		mapping     event.Mapping
		in, want    []string
	}{
		{"fields", version, event.Mapping{}, []string{"x", "1", "ce_type", "T", "event-version", "1", "data", "{}", "x", "2"},
			[]string{"x", "1", "ce_type", "T", "event-version", "2", "data", `{"a":1}`, "x", "2"}},
		{"version is added", renames, event.Mapping{}, []string{"type", "T", "data", "{}", "type", "T"},
			[]string{"type", "U", "data", `{"a":{"b":1}}`, "type", "T", "schema_version", "2"}},
		{"empty version", renames, event.Mapping{}, []string{"type", "T", "schema_version", "", "data", "{}"},
			[]string{"type", "U", "schema_version", "2", "data", `{"a":{"b":1}}`}},
		{"mapped", renames, event.Mapping{EventType: []string{"kind"}, SchemaVersion: []string{"v", "w"}}, []string{"kind", "T", "data", "{}", "schema_version", "x"},
			[]string{"kind", "U", "data", `{"a":{"b":1}}`, "schema_version", "x", "v", "2"}},
		{"document", renames, event.Mapping{}, []string{"event", `{"id":1, "type" : "T", "data":{"z":1e400}, "x":[]}`},
			[]string{"event", `{"id":1, "type" : "U", "data":{"z":1e400,"a":{"b":1}}, "x":[],"schema_version":"2"}`}},
		{"document with a number", version, event.Mapping{}, []string{"event", `{"type":"T","schemaVersion":1,"payload":{}}`},
			[]string{"event", `{"type":"T","schemaVersion":2,"payload":{"a":1}}`}},
		{"document with a text", version, event.Mapping{}, []string{"event", `{"schema_version":"\u0031","type":"T","payload":{}}`},
			[]string{"event", `{"schema_version":"2","type":"T","payload":{"a":1}}`}},
		{"document with null", renames, event.Mapping{}, []string{"event", `{"schema_version":null,"type":"T","payload":{}}`},
			[]string{"event", `{"schema_version":"2","type":"U","payload":{"a":{"b":1}}}`}},
		{"document that is the payload", renames, event.Mapping{}, []string{"event", `{"type":"T","a":{"c":2}}`},
			[]string{"event", `{"type":"U","a":{"c":2,"b":1},"schema_version":"2"}`}},
		{"cloud event", renames, event.Mapping{}, []string{"content_type", "application/cloudevents+json", "payload", `{"specversion":"1.0","id":"1","type":"T","data":{}}`},
			[]string{"content_type", "application/cloudevents+json", "payload", `{"specversion":"1.0","id":"1","type":"U","data":{"a":{"b":1}},"schemaversion":"2"}`}},
		{"version beside the document", version, event.Mapping{Document: []string{"doc"}}, []string{"v", "x", "event_version", "1", "doc", `{"type":"T","data":{}}`},
			[]string{"v", "x", "event_version", "2", "doc", `{"type":"T","data":{"a":1}}`}},
		{"field steps", rules("rename: {field: x, to: y}", "drop: {field: z}", "set: {field: c, value: web}", "default: {field: y, value: 0}",
			"default: {field: d, value: 5}", "expr: {field: t, is: 'fields[\"y\"] + tenant'}", "expr: {field: n, is: payload.x}"), event.Mapping{},
			[]string{"type", "T", "x", "1", "version", "3", "x", "2", "z", "", "schema_version", "1", "tenant", "acme", "z", "3"},
			[]string{"type", "T", "y", "1", "version", "3", "y", "2", "schema_version", "2", "tenant", "acme", "c", "web", "d", "5", "t", "1acme"}},
		{"fields and payload", rules("set: {path: a, value: 1}", "rename: {field: payload, to: data}", "set: {path: b, value: 2}", "set: {field: note, value: [1, 2]}"), event.Mapping{},
			[]string{"type", "T", "schema_version", "1", "payload", "{}"},
			[]string{"type", "T", "schema_version", "2", "data", `{"a":1,"b":2}`, "note", "[1,2]"}},
		{"no payload", rules("drop: {path: a}", "rename: {path: a, to: b}"), event.Mapping{},
			[]string{"type", "T", "schema_version", "1"}, []string{"type", "T", "schema_version", "2"}},
		{"empty payload", rules("drop: {path: a}"), event.Mapping{},
			[]string{"type", "T", "schema_version", "1", "payload", ""}, []string{"type", "T", "schema_version", "2", "payload", ""}},
		{"payload that is no JSON and not looked at", rules(), event.Mapping{},
			[]string{"type", "T", "schema_version", "1", "payload", "\xff"}, []string{"type", "T", "schema_version", "2", "payload", "\xff"}},
		{"another version", version, event.Mapping{}, []string{"type", "T", "schema_version", "3"}, []string{"type", "T", "schema_version", "3"}},
		{"no version", version, event.Mapping{}, []string{"type", "T"}, []string{"type", "T"}},
		{"another type", version, event.Mapping{}, []string{"type", "V", "schema_version", "1"}, []string{"type", "V", "schema_version", "1"}},
		{"no type", version, event.Mapping{}, []string{"schema_version", "1", "x", "T"}, []string{"schema_version", "1", "x", "T"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := parse(t, c.rules)
			got, err := run(t, set, c.mapping, entry(c.in...))
			if err != nil {
				t.Fatal(err)
			}
			if want := entry(c.want...); !got.Equal(want) {
				t.Errorf("\n%q, want\n%q", got.Fields, want.Fields)
			}
			again, err := run(t, set, c.mapping, got)
			if err != nil || !again.Equal(got) {
				t.Errorf("again: %q, %v", again.Fields, err)
			}
		})
	}
}

func TestApplyErrors(t *testing.T) {
	set := parse(t, rules("drop: {path: z}", "set: {path: a.b, value: 1}"))
	_, err := run(t, set, event.Mapping{}, entry("type", "T", "schema_version", "1", "payload", `{"a":1}`))
	var failed *upcast.Error
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	const want = `upcast event 1700000000000-7 by T v1 → v2 (orders.yaml:2, step 2, set a.b): a.b: "a" has no members: it is a number`
	if err.Error() != want || failed.Step != "step 2, set a.b" || failed.Rule != "T v1 → v2" || failed.Source != "orders.yaml:2" {
		t.Errorf("%v, want %s", err, want)
	}
	for _, c := range []struct {
		name, rules string
		mapping     event.Mapping
		in          []string
		want        string
	}{
		{"no payload", rules("default: {path: a, value: 1}"), event.Mapping{}, []string{"type", "T", "schema_version", "1"}, "the event has no payload"},
		{"nowhere to write", "upcasters: [{type: T, to: 2}]", event.Mapping{SchemaVersion: []string{"-"}}, []string{"type", "T"}, `the mapping has no field for schema_version to write "2" to`},
		{"the type dropped", rules("drop: {path: type}"), event.Mapping{}, []string{"event", `{"type":"T","schema_version":1}`}, `a step changed what event_type is read from`},
		{"another type field", rules("set: {field: event_type, value: V}", "drop: {field: x}"), event.Mapping{}, []string{"type", "V", "event_type", "T", "schema_version", "1"}, "a step changed what event_type is read from"},
		{"the version dropped", rules("drop: {field: schema_version}"), event.Mapping{}, []string{"type", "T", "schema_version", "1", "event_version", "5"}, "a step changed what schema_version is read from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := run(t, parse(t, c.rules), c.mapping, entry(c.in...))
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestEdit(t *testing.T) {
	boom := errors.New("boom")
	set, err := upcast.New(upcast.Func("T", "1", "2", "all", func(d *upcast.Edit) error {
		for _, err := range []error{
			d.Set("a.b", []int{1}), d.Default("a.b", 2), d.Default("c", "<"), d.Rename("a", "d"), d.Drop("x"),
		} {
			if err != nil {
				return err
			}
		}
		if got, ok, err := d.Get("d.b"); string(got) != "[1]" || !ok || err != nil {
			return fmt.Errorf("get d.b: %s, %v, %w", got, ok, err)
		}
		if _, ok, err := d.Get("nope"); ok || err != nil {
			return fmt.Errorf("get nope: %v, %w", ok, err)
		}
		if string(d.Payload()) != `{"d":{"b":[1]},"c":"<"}` {
			return fmt.Errorf("payload %s", d.Payload())
		}
		if err := d.SetPayload([]byte("{")); err == nil {
			return errors.New("a payload that is no JSON")
		}
		for _, err := range []error{d.Set("a..b", 1), d.Set("a", func() {}), d.Default("", 1), d.Drop("x[]"), d.Rename("a", "a.b"), d.Rename("", "x"), d.Rename("x", "")} {
			if err == nil {
				return errors.New("a mistake went through")
			}
		}
		if _, _, err := d.Get("a[]"); err == nil {
			return errors.New("get many")
		}
		if err := d.SetPayload([]byte("[1]")); err != nil {
			return err
		}
		if d.ID().Seq != 7 {
			return errors.New("ID")
		}
		if v, ok := d.Attribute(event.Tenant); string(v) != "acme" || !ok {
			return fmt.Errorf("tenant %s", v)
		}
		d.SetField("tenant", []byte("other"))
		if v, _ := d.Attribute(event.Tenant); string(v) != "other" {
			return fmt.Errorf("tenant %s", v)
		}
		if err := d.RenameField("tenant", "type"); err == nil {
			return errors.New("a field was renamed over another")
		}
		return d.RenameField("none", "other")
	}), upcast.Func("T", "3", "2", "fails", func(*upcast.Edit) error { return boom }))
	if err != nil {
		t.Fatal(err)
	}
	got, err := run(t, set, event.Mapping{}, entry("type", "T", "schema_version", "1", "tenant", "acme", "payload", `{"x":1}`))
	if want := entry("type", "T", "schema_version", "2", "tenant", "other", "payload", `[1]`); err != nil || !got.Equal(want) {
		t.Errorf("%q, %v", got.Fields, err)
	}
	_, err = run(t, set, event.Mapping{}, entry("type", "T", "schema_version", "3", "payload", `{}`))
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "(func fails): boom") {
		t.Error(err)
	}
}
