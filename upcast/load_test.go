package upcast_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/upcast"
)

const orders = `
upcasters:
  - type: OrderPlaced
    from: "1"
    to: "2"
    steps:
      - rename: {path: customer_name, to: customer.name}
      - default: {path: currency, value: EUR}
      - drop: {path: legacy}
      - set: {path: channel, value: web}
      - expr: {path: total_cents, is: "int(round(payload.total * 100))"}
    samples:
      - name: simple
        in:  {"customer_name": "Ada", "legacy": 1, "total": 19.99, "big": 18446744073709551615}
        out: {customer: {name: Ada}, currency: EUR, channel: web, total: 19.99, total_cents: 1999, big: 18446744073709551615}
  - type: OrderPlaced
    from: 2
    to: 3
    steps:
      - type: OrderSubmitted
      - move: {path: "items[].sku", to: "items[].product.sku"}
      - expr: {path: "items[].total", is: item.price * item.qty}
      - set: {field: source, value: shop}
    samples:
      - in:  {"items": [{"sku": "a", "price": 2, "qty": 3}]}
        out: {"items": [{"price": 2, "qty": 3, "product": {"sku": "a"}, "total": 6}]}
        fields: {region: eu}
        out_fields: {region: eu, source: shop}
`

func parse(t testing.TB, text string, rules ...upcast.Rule) *upcast.Set {
	t.Helper()
	set, err := upcast.Parse("orders.yaml", strings.NewReader(text), rules...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestParse(t *testing.T) {
	set := parse(t, strings.Replace(orders, "big: 18446744073709551615}", "big: 18446744073709551615}\n        out_fields: {source: shop}", 1))
	report := set.Check()
	for _, r := range report.Samples {
		if !r.Passed() {
			t.Errorf("%s: %v %v", r.Sample.Source, r.Err, r.Differences)
		}
	}
	if len(report.Samples) != 2 || report.Failed != 0 || len(report.Untested) != 0 {
		t.Errorf("%d samples, %d failed, %d untested", len(report.Samples), report.Failed, len(report.Untested))
	}
	chains := set.Chains()
	if len(chains) != 1 || chains[0].String() != "v1 → v2 → OrderSubmitted v3" {
		t.Errorf("chains %v", chains)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "u.yaml: it is empty"},
		{"no list", "upcasters: 3", `u.yaml:1: upcasters: want a list, not "3"`},
		{"no upcasters", "{}", "u.yaml:1: upcasters: it is missing"},
		{"not YAML", "a: b: c", "u.yaml:1: not YAML: mapping values are not allowed"},
		{"two documents", "upcasters: []\n---\nupcasters: []", "one document"},
		{"unknown key", "upcasters:\n- typ: A\n  to: 2", "u.yaml:2: upcasters[0].typ: it is not known: want from, sample_files, samples, steps, to, type"},
		{"twice", "upcasters:\n- type: A\n  type: B\n  to: 2", "u.yaml:3: upcasters[0].type: it is there twice"},
		{"no type", "upcasters:\n- to: 2", "u.yaml:2: upcasters[0]: type: which event type"},
		{"no version", "upcasters:\n- type: A", "u.yaml:2: upcasters[0]: to: to which"},
		{"same version", "upcasters:\n- {type: A, from: 1, to: 1}", "to the same version"},
		{"null", "upcasters:\n- {type: , to: 1}", "upcasters[0].type: want a text, not nothing"},
		{"two steps in one", "upcasters:\n- type: A\n  to: 1\n  steps:\n  - {drop: {path: a}, set: {path: b}}", "u.yaml:5: upcasters[0].steps[0]: a step does one thing"},
		{"unknown step", step("delete: {path: a}"), "u.yaml:4: upcasters[0].steps[0].delete: it is not known: want default, drop, expr, move, rename, set, type"},
		{"no path", step("drop: {}"), "steps[0].drop: want a path in the payload or a field"},
		{"both", step("drop: {path: a, field: b}"), "one of both"},
		{"no target", step("rename: {path: a}"), "to: where to?"},
		{"no value", step("set: {path: a}"), "value: it is missing"},
		{"no expression", step("expr: {path: a}"), "is: the expression is missing"},
		{"bad expression", step("expr: {path: a, is: payloud.x}"), "unknown name payloud"},
		{"bad path", step("drop: {path: a..b}"), `"a..b": a name is empty`},
		{"index", step(`drop: {path: "a[0]"}`), "want [], which means every element"},
		{"after wildcard", step(`drop: {path: "a[]b"}`), `want a dot before "b"`},
		{"open quote", step(`drop: {path: '"a'}`), "a name in quotes is not a JSON string"},
		{"bracket", step(`drop: {path: 'a]'}`), "the name a] needs quotes"},
		{"elements", step(`drop: {path: 'a[]'}`), "a[] names elements of a list"},
		{"other list", step(`rename: {path: 'a[].x', to: 'b[].x'}`), "are in different lists"},
		{"part", step(`rename: {path: a, to: a.b}`), "one is a part of the other"},
		{"same", step(`rename: {path: a, to: a}`), "one is a part of the other"},
		{"same field", step(`rename: {field: a, to: a}`), "it is the same field"},
		{"infinite", step(`set: {path: a, value: .inf}`), "JSON has no .inf"},
		{"merge", step(`set: {path: a, value: {<<: {b: 1}}}`), "as the name of a member"},
		{"two types", step("type: B}, {type: C"), "u.yaml:4: upcasters[0].steps[1].type: the rule has another type step"},
		{"sample without out", sample("{in: {}}"), "u.yaml:4: upcasters[0].samples[0]: out: what must become of it"},
		{"sample without in", sample("{out: {}}"), "in: the payload before is missing"},
		{"sample with a payload field", sample("{in: {}, out: {}, out_fields: {payload: x}}"), "fields: payload follows from the rule"},
		{"empty sample", sample("{name: x}"), "in: want a payload, or fields"},
		{"no sample file", "upcasters:\n- type: A\n  to: 1\n  sample_files: [none.jsonl]", "u.yaml:4: upcasters[0].sample_files[0]: open none.jsonl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := upcast.Parse("u.yaml", strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func step(text string) string {
	return "upcasters:\n- {type: A, to: 1,\n  steps: [ \n  {" + text + "}]}"
}

func sample(text string) string {
	return "upcasters:\n- {type: A, to: 1,\n  samples: [ \n  " + text + "]}"
}

// TestParseAllErrors: one run shows everything.
func TestParseAllErrors(t *testing.T) {
	_, err := upcast.Parse("u.yaml", strings.NewReader("upcasters:\n- type: A\n  to: 2\n  steps:\n  - drop: {path: ''}\n  - nop: {}\n- from: 1\n"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"u.yaml:5: ", "u.yaml:6: ", "u.yaml:7: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

func TestChainErrors(t *testing.T) {
	rule := func(typ, from, to, newType string) upcast.Rule {
		r := upcast.Func(typ, from, to, "nothing", func(*upcast.Edit) error { return nil })
		r.NewType = newType
		return r
	}
	for _, c := range []struct {
		name  string
		rules []upcast.Rule
		want  string // "": none
	}{
		{"chain", []upcast.Rule{rule("A", "2", "3", ""), rule("A", "", "1", ""), rule("A", "1", "2", "")}, ""},
		{"skip", []upcast.Rule{rule("A", "1", "3", ""), rule("A", "2", "3", "")}, ""},
		{"renamed", []upcast.Rule{rule("A", "1", "2", "B"), rule("B", "2", "3", "")}, ""},
		{"only renamed", []upcast.Rule{rule("A", "", "", "B")}, ""},
		{"conflict", []upcast.Rule{rule("A", "1", "2", ""), rule("A", "1", "3", "")}, "there is a rule for A v1 already"},
		{"cycle", []upcast.Rule{rule("A", "1", "2", ""), rule("A", "2", "1", "")}, "A v1 → A v2 → A v1"},
		{"cycle of types", []upcast.Rule{rule("A", "1", "", "B"), rule("B", "1", "", "A")}, "a cycle that never ends"},
		{"into a cycle", []upcast.Rule{rule("A", "0", "1", ""), rule("A", "1", "2", ""), rule("A", "2", "1", "")}, "a cycle that never ends"},
		{"dead end", []upcast.Rule{rule("A", "1", "2", ""), rule("A", "3", "4", "")}, "ends there, but"},
		{"dead end of a renamed one", []upcast.Rule{rule("A", "1", "2", "B"), rule("B", "3", "4", "")}, "ends there, but"},
		{"two types", []upcast.Rule{rule("A", "1", "2", ""), rule("A", "2", "2", "B"), rule("A", "3", "4", "")}, "ends there, but"},
		{"no name", []upcast.Rule{upcast.Func("A", "1", "2", "", func(*upcast.Edit) error { return nil })}, "needs a Name"},
		{"no func", []upcast.Rule{upcast.Func("A", "1", "2", "x", nil)}, `"x" has no Func`},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := upcast.New(c.rules...)
			if c.want == "" {
				if err != nil || set.Len() != len(c.rules) {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestLoadDirectory(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := upcast.Load(dir); err == nil || !strings.Contains(err.Error(), "holds no *.yaml") {
		t.Errorf("an empty directory: %v", err)
	}
	put("a.yaml", "upcasters:\n- {type: A, from: 1, to: 2, sample_files: [a.samples.jsonl]}\n")
	put("b.yml", "upcasters:\n- {type: A, from: 2, to: 3}\n")
	put("a.samples.jsonl", "{\"in\":{\"a\":1},\"out\":{\"a\":1}}\n\n{\"name\":\"wrong\",\"in\":{\"a\":1},\"out\":{\"a\":2}}\n")
	put("notes.txt", "not YAML: at: all")
	set, err := upcast.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	report := set.Check()
	if len(report.Samples) != 2 || report.Failed != 1 || len(report.Untested) != 0 {
		t.Fatalf("%+v", report)
	}
	wrong := report.Samples[1]
	if wrong.Sample.Name != "wrong" || wrong.Sample.Source != filepath.Join(dir, "a.samples.jsonl:3") ||
		len(wrong.Differences) != 1 || wrong.Differences[0].String() != "a: want 2, got 1" {
		t.Errorf("%+v", wrong)
	}
	put("a.samples.jsonl", "{\"in\":1}\n{\"im\":1}\n{} {}\nx\n")
	put("b.yml", "upcasters:\n- {type: A, from: 1, to: 3}\n")
	_, err = upcast.Load(dir)
	for _, want := range []string{"jsonl:1: out: what must", `jsonl:2: json: unknown field "im"`, "jsonl:3: ", "jsonl:4: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	put("a.samples.jsonl", "")
	if _, err = upcast.Load(dir); err == nil || !strings.Contains(err.Error(), "b.yml:2: there is a rule for A v1 already, at "+filepath.Join(dir, "a.yaml:2")) {
		t.Errorf("%v", err)
	}
	if _, err := upcast.Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestDigest(t *testing.T) {
	base := parse(t, orders).Digest()
	if len(base) != 64 {
		t.Fatal(base)
	}
	same := "# a comment\n" + strings.ReplaceAll(orders, "name: simple", "name: other")
	if got := parse(t, same).Digest(); got != base {
		t.Error("a comment or a sample changes the digest")
	}
	for _, change := range [][2]string{{"EUR", "USD"}, {"round(", "ceil("}, {"path: legacy", "field: legacy"}, {"to: 3", "to: 4"}, {"OrderSubmitted", "Order"}} {
		if got := parse(t, strings.Replace(orders, change[0], change[1], 1)).Digest(); got == base {
			t.Errorf("%v does not change the digest", change)
		}
	}
	var none *upcast.Set
	if none.Wants(&event.Envelope{}) {
		t.Error("a nil Set wants an event")
	}
	if e, err := run(t, none, event.Mapping{}, entry("type", "T")); err != nil || len(e.Fields) != 1 {
		t.Error(err)
	}
	if none.Digest() != "" || none.Len() != 0 || none.Chains() != nil || len(none.Check().Samples) != 0 {
		t.Error("a nil Set is not empty")
	}
	empty, err := upcast.New()
	if err != nil || empty.Digest() != "" {
		t.Errorf("%q, %v", empty.Digest(), err)
	}
}
