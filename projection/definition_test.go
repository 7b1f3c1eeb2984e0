package projection_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/projection"
)

const good = `name: orders
source: {streams: ["shop:*"], types: [OrderPaid, "Order*"]}
table:
  engine: ReplacingMergeTree(version)
  order_by: [tenant, id]
  settings: {index_granularity: 1024, storage_policy: hot, allow_nullable_key: true}
  columns:
    tenant: String
    id: {type: UInt64, comment: which one, codec: ZSTD(3)}
    version: {type: UInt64, default: "0"}
select: |
  SELECT tenant, 1 AS id
  FROM events
`

func TestDefaults(t *testing.T) {
	set, err := projection.Parse("p.yaml", strings.NewReader(good), nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := set.Get("orders")
	if err != nil {
		t.Fatal(err)
	}
	if d.Kind != projection.SQL || d.Table.Name != "orders" || d.Approval != projection.Required || d.Retention.Keep != 7*24*time.Hour ||
		!slices.Equal(d.Keys, []string{"tenant", "id"}) || d.Failures.DeadLetters != 0 || d.Where() != "p.yaml:1" {
		t.Errorf("%+v", d)
	}
	spec := d.Table.Spec()
	if want := map[string]string{"index_granularity": "1024", "storage_policy": "hot", "allow_nullable_key": "1"}; !maps.Equal(spec.Settings, want) {
		t.Errorf("settings %v", spec.Settings)
	}
	if spec.OrderBy != "tenant, id" || spec.Columns[1].Codec != "ZSTD(3)" || spec.Columns[2].Default != "0" {
		t.Errorf("%+v", spec)
	}
}

// TestMistakes: each is found where it is, all of them at once.
func TestMistakes(t *testing.T) {
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, c := range map[string]struct {
		yaml string
		want []string // each the beginning of a line
	}{
		"not YAML":         {"name: x\nsource: b: c\n", []string{"p.yaml:2: not YAML"}},
		"empty":            {"# nothing\n", []string{"p.yaml:1: it is empty"}},
		"a list":           {"- name: x\n", []string{"p.yaml:1: want a mapping, not a list"}},
		"typo":             {replace("engine:", "engin:"), []string{`p.yaml:4: table.engin: there is no such field: did you mean "engine"?`}},
		"two typos":        {strings.Replace(replace("engine:", "engin:"), "select:", "selekt:", 1), []string{"p.yaml:4: table.engin", "p.yaml:11: selekt"}},
		"twice":            {good + "name: again\n", []string{"p.yaml:14: name: it is there twice"}},
		"no name":          {replace("name: orders\n", ""), []string{"p.yaml:1: name: it is missing"}},
		"bad name":         {replace("name: orders", "name: my-orders"), []string{`p.yaml:1: name: "my-orders" cannot be a name`}},
		"our name":         {replace("name: orders", "name: orders__g1"), []string{"p.yaml:1: name: "}},
		"no streams":       {replace(`streams: ["shop:*"], `, ""), []string{"p.yaml:2: source.streams: it is missing"}},
		"type wildcard":    {replace(`"Order*"]`, `"Order?"]`), []string{"p.yaml:2: source.types[1]: "}},
		"kind":             {good + "kind: flod\n", []string{`p.yaml:14: kind: want sql, map or fold, not "flod": did you mean "fold"?`}},
		"engine typo":      {replace("ReplacingMergeTree(", "ReplacingMergTree("), []string{`p.yaml:4: table.engine: "ReplacingMergTree" cannot be used for projections: did you mean "ReplacingMergeTree"?`}},
		"replicated":       {replace("ReplacingMergeTree", "ReplicatedReplacingMergeTree"), []string{"p.yaml:4: table.engine: the text is the same for replicated"}},
		"collapsing":       {replace("ReplacingMergeTree(version)", "CollapsingMergeTree(sign)"), []string{"p.yaml:4: table.engine: CollapsingMergeTree needs"}},
		"no key":           {replace("  order_by: [tenant, id]\n", ""), []string{"p.yaml:3: table.order_by: it is missing"}},
		"tuple":            {replace("[tenant, id]", "[tuple()]"), []string{"p.yaml:5: table.order_by: ReplacingMergeTree needs a key"}},
		"no type":          {replace("type: UInt64, comment", "comment"), []string{"p.yaml:9: table.columns.id.type: it is missing"}},
		"null":             {replace("tenant: String", "tenant:"), []string{"p.yaml:8: table.columns.tenant: want a text, not nothing"}},
		"column twice":     {replace("    tenant: String\n", "    tenant: String\n    tenant: String\n"), []string{"p.yaml:9: table.columns.tenant: it is there twice"}},
		"our column":       {replace("    tenant: String\n", "    tenant: String\n    _chunk: String\n"), []string{"p.yaml:9: table.columns._chunk: Reservoir has a column"}},
		"key":              {good + "keys: [tenant, idd]\n", []string{`p.yaml:14: keys[1]: the table has no column "idd": did you mean "id"?`}},
		"scope":            {good + "scope: {tenant: tennant}\n", []string{`p.yaml:14: scope.tenant: the table has no column "tennant": did you mean "tenant"?`}},
		"scope of sums":    {strings.Replace(replace("ReplacingMergeTree(version)", "SummingMergeTree"), "[tenant, id]", "[id]", 1) + "scope: {tenant: tenant}\n", []string{"p.yaml:14: scope.tenant: SummingMergeTree adds up rows"}},
		"no select":        {good[:strings.Index(good, "select")], []string{"p.yaml:1: select: it is missing"}},
		"function":         {good + "function: f\n", []string{"p.yaml:14: function: a SQL projection has no function"}},
		"two statements":   {replace("  FROM events", "  FROM events\n  ; DROP TABLE x"), []string{"p.yaml:14: select: it is one statement"}},
		"join":             {replace("FROM events", "FROM events JOIN other USING x"), []string{"p.yaml:13: select: JOIN"}},
		"cross join":       {replace("FROM events", "FROM events, other"), []string{"p.yaml:13: select: FROM reads more"}},
		"another table":    {replace("FROM events", "FROM event"), []string{`p.yaml:13: select: it reads "event"`}},
		"group":            {replace("FROM events", "FROM events\n  GROUP BY tenant"), []string{"p.yaml:14: select: GROUP BY"}},
		"order":            {replace("FROM events", "FROM events ORDER BY tenant"), []string{"p.yaml:13: select: ORDER BY"}},
		"limit":            {replace("FROM events", "FROM events LIMIT 1"), []string{"p.yaml:13: select: LIMIT"}},
		"distinct":         {replace("SELECT tenant", "SELECT DISTINCT tenant"), []string{"p.yaml:12: select: DISTINCT"}},
		"window":           {replace("1 AS id", "row_number() OVER () AS id"), []string{"p.yaml:12: select: OVER"}},
		"union":            {replace("FROM events", "FROM events UNION ALL SELECT '', 2 FROM events"), []string{"p.yaml:13: select: it is more than one SELECT"}},
		"subquery":         {replace("1 AS id", "(SELECT max(id_ms) FROM events) AS id"), []string{"p.yaml:12: select: a subquery"}},
		"now":              {replace("1 AS id", "toUInt64(now()) AS id"), []string{"p.yaml:12: select: now gives another value each time"}},
		"random":           {replace("1 AS id", "rand64() AS id"), []string{"p.yaml:12: select: rand64 gives another"}},
		"reads nothing":    {replace("  FROM events\n", ""), []string{"p.yaml:12: select: it does not read events"}},
		"check":            {good + "checks:\n  - {name: a, sql: SELECT 1, expect: 1}\n  - {name: a, sql: 'SELECT 1 FROM {table}'}\n", []string{"p.yaml:16: checks[1].expect: it is missing"}},
		"check table":      {good + "checks:\n  - {name: a, sql: SELECT 1, expect: 1}\n", []string{"p.yaml:15: checks[0].sql: it does not look at the table"}},
		"expectation":      {good + "checks:\n  - {sql: 'SELECT 1 FROM {table}', expect: '> x'}\n", []string{`p.yaml:15: checks[0].expect: "> x" compares with a text`}},
		"failures":         {good + "failures: ignore\n", []string{"p.yaml:14: failures: want stop"}},
		"letters":          {good + "failures: {dead_letters: -1}\n", []string{"p.yaml:14: failures.dead_letters: want a whole number"}},
		"duration":         {good + "retention: {keep: soon}\n", []string{"p.yaml:14: retention.keep: want a duration"}},
		"long duration":    {good + "retention: {keep: 99999999999999w}\n", []string{"p.yaml:14: retention.keep: "}},
		"approval":         {good + "approval: yes\n", []string{"p.yaml:14: approval: want automatic or required"}},
		"upcast":           {good + "upcast: 3\n", []string{"p.yaml:14: upcast: want true or false"}},
		"dependent":        {good + "dependents:\n  - {name: d, engine: MergeTree, order_by: a, columns: {a: String}, select: SELECT 1 AS a FROM events}\n", []string{"p.yaml:15: dependents[0].select: it reads \"events\"", "p.yaml:15: dependents[0]: a dependent table is made"}},
		"same name":        {good + "---\n" + good, []string{`p.yaml:15: name: "orders" is also at p.yaml:1`}},
		"same table":       {good + "---\n" + replace("name: orders", "name: b") + "---\n" + strings.Replace(replace("name: orders", "name: c"), "table:\n", "table:\n  name: orders\n", 1), []string{`p.yaml:29: table.name: table "orders" is also that of p.yaml:1`}},
		"no such function": {strings.Replace(good[:strings.Index(good, "select")], ", default: \"0\"", "", 1) + "kind: map\n", []string{`p.yaml:1: function: this program has no function "orders"`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := projection.Parse("p.yaml", strings.NewReader(c.yaml), nil)
			var wrong *projection.Error
			if !errors.As(err, &wrong) {
				t.Fatalf("no problems in %s: %v", c.yaml, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("got\n%v\nwant\n%s", err, strings.Join(c.want, "\n"))
			}
			for i, line := range lines {
				if !strings.HasPrefix(line, c.want[i]) {
					t.Errorf("got  %s\nwant %s", line, c.want[i])
				}
			}
		})
	}
}

// TestSelectsThatAreRight: what looks like a mistake at first sight is none.
func TestSelectsThatAreRight(t *testing.T) {
	for _, text := range []string{
		"WITH JSONExtract(payload, 'Tuple(a UInt64)') AS p SELECT tenant, p.a AS id FROM events WHERE type = 'GROUP BY'",
		"SELECT tenant, id FROM (SELECT tenant, JSONExtractUInt(payload, 'id') AS id FROM events) WHERE id > 0 -- ORDER BY",
		"SELECT tenant, extract(aggregate_id, 'x') AS id FROM events /* LIMIT 1 */ ARRAY JOIN [1, 2] AS n",
		"SELECT tenant, arrayJoin([1]) AS id FROM `events`",
		"SELECT tenant, trim(BOTH 'x' FROM aggregate_id) AS id FROM events LEFT ARRAY JOIN JSONExtractArrayRaw(payload) AS item",
		"SELECT tenant, arraySum(x -> x, [1]) AS id, e.type AS `limit`, toDate(occurred_at) AS offset FROM events AS e",
		"SELECT tenant, dictGet('d', 'a', aggregate_id) AS id, $x$ JOIN ; $x$ AS version FROM events",
	} {
		yaml := strings.Replace(good, "SELECT tenant, 1 AS id\n  FROM events", text, 1)
		if _, err := projection.Parse("p.yaml", strings.NewReader(yaml), nil); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestDigest: what determines rows changes it, and nothing else does.
func TestDigest(t *testing.T) {
	digest := func(yaml string) string {
		t.Helper()
		set, err := projection.Parse("p.yaml", strings.NewReader(yaml), nil)
		if err != nil {
			t.Fatal(err)
		}
		for d := range set.All() {
			text, err := d.Digest()
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		return ""
	}
	base := digest(good)
	for _, c := range []struct {
		old, with string
		same      bool
	}{
		{"name: orders", "name: orders\ndescription: more", true},
		{"comment: which one", "comment: another", true},
		{"select:", "checks: [{sql: SELECT 1 FROM {table}, expect: 1}]\nselect:", true},
		{"select:", "approval: automatic\nretention: {keep: 1h}\nfailures: {dead_letters: 3}\nkeys: [id]\nscope: {tenant: tenant}\nselect:", true},
		{"select:", "# a comment\nselect:", true},
		{"index_granularity: 1024, storage_policy: hot,", "storage_policy: hot, index_granularity: 1024,", true},
		{"FROM events", "FROM events WHERE 1", false},
		{"shop:*", "shop:a", false},
		{"OrderPaid, ", "", false},
		{"type: UInt64, comment", "type: UInt32, comment", false},
		{"ZSTD(3)", "ZSTD(4)", false},
		{"order_by: [tenant, id]", "order_by: [id, tenant]", false},
		{"(version)", "", false},
		{"select:", "require: [version > 0]\nselect:", false},
		{"select:", "upcast: true\nselect:", false},
		{"select:", "version: 2\nselect:", false},
		{"name: orders", "name: others", false}, // another table
	} {
		yaml := strings.Replace(good, c.old, c.with, 1)
		if strings.Contains(c.with, "{table}") {
			yaml = strings.Replace(yaml, "SELECT 1 FROM {table}", "'SELECT 1 FROM {table}'", 1)
		}
		if same := digest(yaml) == base; same != c.same {
			t.Errorf("%q: same digest %v", c.with, same)
		}
	}
}

// TestRoundTrip: what a definition is written as in YAML is what it is read as,
// whatever its texts, and its digest is the same every time.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[!-~ß]([ -~äß\n]{0,20}[!-~])?`)
		name := rapid.StringMatching(`[a-z]{1,8}(_[a-z0-9]{1,5})?`)
		names := rapid.SliceOfNDistinct(name, 1, 5, rapid.ID[string]).Draw(t, "columns")
		columns := &yaml.Node{Kind: yaml.MappingNode}
		types := map[string]string{}
		for _, column := range names {
			types[column] = rapid.SampledFrom([]string{"String", "UInt64", "DateTime64(3, 'UTC')"}).Draw(t, "type")
			columns.Content = append(columns.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: column, Style: yaml.DoubleQuotedStyle},
				&yaml.Node{Kind: yaml.ScalarNode, Value: types[column], Style: yaml.DoubleQuotedStyle})
		}
		reason := strings.TrimSpace(text.Draw(t, "reason"))
		document := map[string]any{
			"name": name.Draw(t, "name"), "description": text.Draw(t, "description"),
			"source":  map[string]any{"streams": []string{text.Draw(t, "stream")}},
			"require": []any{map[string]any{"sql": "1 = 1", "reason": reason}},
			"table":   map[string]any{"engine": "MergeTree", "order_by": names, "columns": columns},
			"select":  "SELECT " + strings.Join(names, ", ") + " FROM events",
		}
		written, err := yaml.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		var digests []string
		for range 2 {
			set, err := projection.Parse("p.yaml", strings.NewReader(string(written)), nil)
			if err != nil {
				t.Fatalf("%v in\n%s", err, written)
			}
			for d := range set.All() {
				if len(d.Table.Columns) != len(names) || d.Require[0].Reason != reason || !slices.Equal(d.Keys, names) {
					t.Fatalf("%+v of\n%s", d, written)
				}
				for i, c := range d.Table.Columns {
					if c.Name != names[i] || c.Type != types[c.Name] {
						t.Fatalf("column %+v, want %s", c, names[i])
					}
				}
				digest, err := d.Digest()
				if err != nil {
					t.Fatal(err)
				}
				digests = append(digests, digest)
			}
		}
		if len(digests) != 2 || digests[0] != digests[1] {
			t.Fatal(digests)
		}
	})
}

func TestExpectations(t *testing.T) {
	for _, c := range []struct {
		expect, value string
		want          bool
	}{
		{"0", "0", true},
		{"0", "0.00", true},
		{"0", "1", false},
		{"= 18446744073709551615", "18446744073709551615", true},
		{"= 18446744073709551615", "18446744073709551614", false}, // not the same as floating-point numbers
		{">= 0", "-0.01", false},
		{">= 0", "0", true},
		{"< 5", "4.999", true},
		{"!= 3", "3.0", false},
		{"yes", "yes", true},
		{"!= yes", "no", true},
		{"empty", "0", false},
	} {
		x, err := projection.ParseExpectation(c.expect)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := x.Holds(c.value); got != c.want || err != nil {
			t.Errorf("%s of %s = %v, %v", c.expect, c.value, got, err)
		}
		if again, err := projection.ParseExpectation(x.String()); err != nil || again != x {
			t.Errorf("%q gives %q", c.expect, again)
		}
	}
	if _, err := projection.ParseExpectation(">= "); err == nil {
		t.Error("compared with nothing")
	}
	x, err := projection.ParseExpectation("> 1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Holds("1/2"); err == nil {
		t.Error("a text has no order")
	}
	if got := fmt.Sprint(x); got != "> 1" {
		t.Error(got)
	}
}
