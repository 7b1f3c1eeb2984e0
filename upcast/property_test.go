package upcast_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/upcast"
)

// member is one member of a made-up object, as it is written.
type member struct{ name, text string }

// spaces and values are written in ways that an encoder would not keep.
var (
	spaces = rapid.SampledFrom([]string{"", " ", "\n\t", "\r\n  "})
	values = rapid.SampledFrom([]string{"1e400", "18446744073709551615", "-0", "1.50", `"\u0041\/é"`, `"\ud800"`, "null", "true", "[1, 2]", `{"a" : {"a":1,"a":2}}`, `"}]{[,\""`, "[ ]", "{ }", "\"\xff\""})
	labels = rapid.SampledFrom([]string{"a", "b", "c", "old", "new", "x y", "é", `a\"b`, "", "[]", "k.k"})
)

func drawObject(t *rapid.T, label string) []member {
	var members []member
	seen := map[string]bool{}
	for range rapid.IntRange(0, 6).Draw(t, label) {
		name := labels.Draw(t, "name")
		if !seen[name] {
			seen[name] = true
			members = append(members, member{name, values.Draw(t, "value")})
		}
	}
	return members
}

// write gives the text of members with spaces between everything.
func writeObject(t *rapid.T, members []member) string {
	space := func() string { return spaces.Draw(t, "space") }
	var b strings.Builder
	b.WriteString(space() + "{" + space())
	for i, m := range members {
		if i > 0 {
			b.WriteString("," + space())
		}
		b.WriteString(`"` + m.name + `"` + space() + ":" + space() + m.text + space())
	}
	b.WriteString("}" + space())
	return b.String()
}

// topMembers reads the members of an object in order, each value as it is
// written.
func topMembers(t *rapid.T, text string) (members []member) {
	dec := json.NewDecoder(strings.NewReader(text))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
		members = append(members, member{name.(string), string(value)})
	}
	return members
}

// TestStepProperties compares steps with what they mean for a list of members.
func TestStepProperties(t *testing.T) {
	quote := func(name string) string { return `"` + name + `"` } // names are written as JSON has them
	rapid.Check(t, func(t *rapid.T) {
		before := drawObject(t, "members")
		text := writeObject(t, before)
		name, other := labels.Draw(t, "member"), labels.Draw(t, "other")
		find := func(ms []member, name string) int {
			for i, m := range ms {
				if m.name == name {
					return i
				}
			}
			return -1
		}
		at := find(before, name)
		var want []member
		want = append(want, before...)
		fails := false
		op := rapid.SampledFrom([]string{"set", "default", "drop", "rename"}).Draw(t, "op")
		step := fmt.Sprintf("%s: {path: %q", op, quote(name))
		switch op {
		case "set":
			step += ", value: 7.0"
			if at >= 0 {
				want[at].text = "7.0"
			} else {
				want = append(want, member{name, "7.0"})
			}
		case "default":
			step += ", value: 7.0"
			if at < 0 {
				want = append(want, member{name, "7.0"})
			}
		case "drop":
			if at >= 0 {
				want = append(want[:at], want[at+1:]...)
			}
		case "rename":
			if name == other {
				return
			}
			step += fmt.Sprintf(", to: %q", quote(other))
			if at >= 0 {
				fails = find(before, other) >= 0
				want[at].name = other
			}
		}
		set, err := upcast.Parse("orders.yaml", strings.NewReader(rules(step+"}")))
		if err != nil {
			t.Fatal(err)
		}
		e := entry("z", "\xff", "type", "T", "z", "", "schema_version", "1", "payload", text, "", "z")
		var env event.Envelope
		shape := event.Mapping{}.Extractor().Extract(e, &env)
		var out event.Batch
		_, err = set.Upcaster(event.Mapping{}).Apply(e, &env, shape, &out)
		if fails != (err != nil) {
			t.Fatalf("%s on %s: %v", step, text, err)
		}
		if fails {
			return
		}
		var got event.Event
		out.Event(0, &got)
		result := string(got.Fields[4].Value)
		for i, f := range entry("z", "\xff", "type", "T", "z", "", "schema_version", "2", "payload", result, "", "z").Fields {
			if string(f.Name) != string(got.Fields[i].Name) || string(f.Value) != string(got.Fields[i].Value) {
				t.Fatalf("field %d is %q", i, got.Fields[i])
			}
		}
		members := topMembers(t, result)
		if len(members) != len(want) {
			t.Fatalf("%s made %s of %s", step, result, text)
		}
		for i, m := range members {
			var unescaped string
			if err := json.Unmarshal([]byte(quote(want[i].name)), &unescaped); err != nil {
				t.Fatal(err)
			}
			if m.name != unescaped || m.text != want[i].text {
				t.Fatalf("%s made %s of %s: member %d is not %q", step, result, text, i, want[i])
			}
		}
		if nothing := at < 0 && (op == "drop" || op == "rename"); nothing && result != text {
			t.Fatalf("%s made %q of %q", step, result, text)
		}
	})
}

const (
	firstRule  = "- type: T\n  from: 1\n  to: 2\n  steps: [{rename: {path: a, to: b.c}}, {default: {path: old, value: 1}}, {set: {path: '[].x', value: 1}}, {drop: {path: new}}]\n"
	secondRule = "- type: T\n  from: 2\n  to: 3\n  steps: [{type: U}, {expr: {path: c, is: 'type + schema_version + string(payload.old)'}}, {rename: {path: b.c, to: new}}, {set: {field: f, value: 1}}]\n"
)

// TestChainProperties: a chain is its rules one after the other, and an event of
// today's version stays as it is.
func TestChainProperties(t *testing.T) {
	steps := func(s string) string {
		return "upcasters:\n" + strings.ReplaceAll(s, "{set: {path: '[].x', value: 1}}, ", "")
	}
	both, first, second := parse(t, steps(firstRule+secondRule)), parse(t, steps(firstRule)), parse(t, steps(secondRule))
	rapid.Check(t, func(t *rapid.T) {
		payload := writeObject(t, drawObject(t, "members"))
		var e *event.Event
		switch rapid.IntRange(0, 2).Draw(t, "place") {
		case 0:
			e = entry("type", "T", "version", "1", "event_version", "1", "data", payload, "data", payload)
		case 1:
			e = entry("doc", `{"type":"T","x":1e400, "data": `+payload+`,"schemaVersion":1}`)
		default:
			e = entry("doc", strings.Replace(payload, "{", `{"type":"T","schema_version":"1"`+map[bool]string{true: ",", false: ""}[strings.Contains(payload, ":")], 1))
		}
		apply := func(set *upcast.Set, e *event.Event) (*event.Event, error) {
			var env event.Envelope
			shape := event.Mapping{}.Extractor().Extract(e, &env)
			var out event.Batch
			changed, err := set.Upcaster(event.Mapping{}).Apply(e, &env, shape, &out)
			if err != nil || !changed {
				return e, err
			}
			var got event.Event
			out.Event(0, &got)
			return &got, nil
		}
		at2, err1 := apply(first, e)
		at3, err2 := apply(second, at2)
		whole, err := apply(both, e)
		if (err != nil) != (err1 != nil || err2 != nil) {
			t.Fatalf("%q: %v, but one after the other %v, %v", e.Fields, err, err1, err2)
		}
		if err != nil {
			return
		}
		if !whole.Equal(at3) {
			t.Fatalf("at once %q, one after the other %q", whole.Fields, at3.Fields)
		}
		if again, err := apply(both, whole); err != nil || again != whole {
			t.Fatalf("again: %q, %v", again.Fields, err)
		}
	})
}

// FuzzPayload: whatever the payload, the steps fail or leave JSON.
func FuzzPayload(f *testing.F) {
	set := parse(f, "upcasters:\n- type: T\n  from: 1\n  to: 2\n  steps:\n"+
		"  - rename: {path: a, to: b}\n  - rename: {path: c, to: d.e}\n  - drop: {path: f.g}\n  - set: {path: h.i, value: 1}\n"+
		"  - default: {path: 'l[].m[].n', value: 2}\n  - drop: {path: 'l[].o'}\n  - move: {path: 'l[].p', to: 'l[].q.r'}\n  - expr: {path: 's[]', is: item}\n")
	for _, seed := range []string{`{}`, `{"a":1,"c":{"c":2},"f":{"g":[{}]},"h":null,"l":[{"m":[{}],"o":1,"p":2}],"s":[1,"\u0041"]}`,
		`{"\u0061" : "\\\"", "l" : [ ] }`, `[1]`, `"x"`, `{"f":{"g":1,"g":2}}`, ` {"h":{"i":{}} } `} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		valid := json.Valid([]byte(payload))
		got, err := run(t, set, event.Mapping{}, entry("type", "T", "schema_version", "1", "x", "\x00", "payload", payload))
		if err != nil {
			return
		}
		if !valid {
			t.Fatalf("%q is no JSON and went through", payload)
		}
		if result := got.Fields[3].Value; !json.Valid(result) {
			t.Fatalf("%q became %q", payload, result)
		}
	})
}

// FuzzDocument: an event that lies in a document stays in one, with the type and
// the version that the rules lead to.
func FuzzDocument(f *testing.F) {
	set := parse(f, "upcasters:\n- type: T\n  to: 2\n  steps: [{type: U}, {set: {path: a.b, value: 1}}]\n- type: U\n  from: 2\n  to: 3\n  steps: [{drop: {path: a}}]\n")
	for _, seed := range []string{`{"type":"T"}`, `{"id":1,"ty\u0070e":"\u0054","data":{},"schema_version":null}`, `{"type":"T","data":{"a":1}}`,
		`{"event":"T","type":"T","payload":null,"specversion":1,"schemaversion":""}`, `{"type":"T","a":{"type":"T"}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		got, err := run(t, set, event.Mapping{}, entry("doc", doc))
		if err != nil || string(got.Fields[0].Value) == doc {
			return
		}
		var env event.Envelope
		shape := event.Mapping{}.Extractor().Extract(got, &env)
		name, _ := env.Get(event.Type)
		version, _ := env.Get(event.SchemaVersion)
		if shape.Embedded != 0 || string(name) != "U" || string(version) != "3" || !json.Valid(got.Fields[0].Value) {
			t.Fatalf("%q became %q", doc, got.Fields[0].Value)
		}
	})
}
