package projection_test

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// TestValues: what Go gives is in the table, and what does not fit is refused.
func TestValues(t *testing.T) {
	db := connect(t)
	when := time.Date(2026, 11, 21, 7, 8, 9, 123456000, time.UTC)
	type tenant string
	for i, c := range []struct {
		typ   string
		value any
		want  string // as JSON; "" when the value does not fit
	}{
		{"UInt8", 255, "255"},
		{"UInt8", 256, ""},
		{"UInt8", -1, ""},
		{"UInt64", uint64(math.MaxUint64), "18446744073709551615"},
		{"Int64", uint64(math.MaxUint64), ""},
		{"Int64", int64(math.MinInt64), "-9223372036854775808"},
		{"Int32", int64(1) << 31, ""},
		{"Int16", -32768, "-32768"},
		{"UInt32", "5", ""},
		{"UInt32", 5.0, ""},
		{"UInt128", new(big.Int).Lsh(big.NewInt(1), 127), "170141183460469231731687303715884105728"},
		{"Int128", new(big.Int).Lsh(big.NewInt(1), 127), ""},
		{"Float64", 3, "3"},
		{"Float32", 0.5, "0.5"},
		{"Float64", "0.5", ""},
		{"Bool", true, "true"},
		{"Bool", 1, ""},
		{"String", "ß\x00", `"ß\u0000"`},
		{"String", []byte("bytes"), `"bytes"`},
		{"String", tenant("acme"), `"acme"`},
		{"String", 3, ""},
		{"LowCardinality(String)", "x", `"x"`},
		{"LowCardinality(Nullable(String))", nil, "null"},
		{"FixedString(3)", "abc", `"abc"`},
		{"FixedString(3)", "abcd", ""},
		{"Nullable(UInt8)", nil, "null"},
		{"Nullable(UInt8)", 3, "3"},
		{"Nullable(UInt8)", (*int)(nil), "null"},
		{"Date", when, `"2026-11-21"`},
		{"DateTime", when, `"2026-11-21T07:08:09Z"`},
		{"DateTime64(6, 'UTC')", when, `"2026-11-21T07:08:09.123456Z"`},
		{"DateTime64(3, 'UTC')", when.In(time.FixedZone("", 3600)), `"2026-11-21T07:08:09.123Z"`},
		{"DateTime", "2026-11-21", ""},
		{"Decimal(18, 2)", "12.34", "12.34"},
		{"Decimal(18, 2)", "12.345", ""},
		{"Decimal(4, 2)", 100, ""},
		{"Decimal(4, 2)", -99, "-99"},
		{"Decimal(18, 2)", 0.1, ""},
		{"Decimal(18, 2)", "1e3", ""},
		{"UUID", "db67d989-23fc-4783-856c-7d27fd2d01bd", `"db67d989-23fc-4783-856c-7d27fd2d01bd"`},
		{"UUID", "no", ""},
		{"Enum8('a' = 1, 'b' = 2)", "b", `"b"`},
		{"Enum8('a' = 1, 'b' = 2)", "c", ""},
		{"Enum16('a' = 1, 'it\\'s' = -2)", nil, `"it's"`},
		{"IPv4", "127.0.0.1", `"127.0.0.1"`},
		{"Array(UInt8)", []int{1, 2}, "[1,2]"},
		{"Array(UInt8)", []int{1, 256}, ""},
		{"Array(Array(String))", [][]string{{"a"}, {}, {"b", "c"}}, `[["a"],[],["b","c"]]`},
		{"Array(Nullable(String))", []any{"a", nil}, `["a",null]`},
		{"Array(String)", nil, "[]"},
		{"Array(String)", "a", ""},
		{"Map(String, UInt8)", map[string]int{"z": 1, "a": 2}, `{"a":2,"z":1}`},
		{"Map(UInt32, Array(String))", map[int][]string{10: {"x"}, 9: nil}, `{"9":[],"10":["x"]}`},
		{"Map(String, UInt8)", map[string]int{"z": 300}, ""},
		{"Tuple(a String, b Nullable(UInt8))", map[string]any{"a": "x"}, `{"a":"x","b":null}`},
		{"Tuple(a String, b UInt8)", []any{"x", 3}, `{"a":"x","b":3}`},
		{"Tuple(a String, b UInt8)", []any{"x"}, ""},
		{"Tuple(a String, b UInt8)", map[string]any{"c": 1}, ""},
		{"Array(Tuple(at DateTime64(3, 'UTC'), tags Array(String)))", []any{[]any{when, []string{"a"}}}, `[{"at":"2026-11-21T07:08:09.123Z","tags":["a"]}]`},
		{"SimpleAggregateFunction(sum, UInt64)", 3, "3"},
	} {
		table := projection.Table{Columns: []projection.Column{{Name: "n", Type: "UInt8"}, {Name: "v", Type: c.typ}}, Engine: "MergeTree", OrderBy: []string{"n"}}
		rows, err := projection.NewRows(&table)
		if err != nil {
			t.Errorf("%s: %v", c.typ, err)
			continue
		}
		err = rows.Append(projection.Row{"n": 1, "v": c.value})
		if c.want == "" {
			if err == nil || !strings.Contains(err.Error(), "column v") || rows.Len() != 0 {
				t.Errorf("%s took %v: %v, %d rows", c.typ, c.value, err, rows.Len())
			}
			if err := rows.Append(projection.Row{"n": 2}); err != nil || rows.Len() != 1 { // the block is whole
				t.Errorf("%s: %v", c.typ, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.typ, err)
			continue
		}
		into := db.Table(fmt.Sprint("values_", i))
		if err := db.CreateTable(t.Context(), into, table.Spec(), chstore.Mark{Projection: "p"}); err != nil {
			t.Errorf("%s: %v", c.typ, err)
			continue
		}
		if n, err := db.LoadRows(t.Context(), rows.Block(), chstore.Load{Into: into, Chunk: 1}); err != nil || n != 1 {
			t.Errorf("%s: %d rows, %v", c.typ, n, err)
			continue
		}
		got, err := db.Read(t.Context(), into, chstore.Page{Columns: []string{"v"}, Limit: 2})
		if err != nil || len(got.Rows) != 1 || string(got.Rows[0][0]) != c.want {
			t.Errorf("%s: got %s, want %s, %v", c.typ, got.Rows, c.want, err)
		}
	}
}

func TestRowsAreAllOrNone(t *testing.T) {
	table := projection.Table{Columns: []projection.Column{{Name: "n", Type: "UInt8"}, {Name: "u", Type: "UUID"}}}
	rows, err := projection.NewRows(&table)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][]projection.Row{
		{{"n": 1}, {"n": 2, "m": 3}},
		{{"n": 1}, {"n": 2, "u": "no"}},
	} {
		if err := rows.Append(wrong...); err == nil || !strings.Contains(err.Error(), "row 2: column") || rows.Len() != 0 {
			t.Errorf("%v, %d rows", err, rows.Len())
		}
	}
	if err := rows.Append(projection.Row{"n": 1}, projection.Row{}); err != nil || rows.Len() != 2 || rows.Bytes() == 0 {
		t.Errorf("%v, %d rows", err, rows.Len())
	}
	rows.Reset()
	if rows.Len() != 0 || rows.Bytes() != 0 {
		t.Error("it is not empty")
	}
	table.Columns[1].Type = "AggregateFunction(sum, UInt64)"
	if _, err := projection.NewRows(&table); err == nil || !strings.Contains(err.Error(), "column u") {
		t.Error(err)
	}
}

// TestMapProjection: a function in Go makes rows, what it refuses or panics at is
// put aside, and types are selected.
func TestMapProjection(t *testing.T) {
	registry, err := projection.NewRegistry(projection.NewMap("lines", func(e *projection.Event) ([]projection.Row, error) {
		var p struct{ Items []string }
		if err := e.Decode(&p); err != nil {
			return nil, err
		}
		if e.Version == 13 {
			panic("thirteen")
		}
		var rows []projection.Row
		for i, item := range p.Items {
			rows = append(rows, projection.Row{"id": e.AggregateID, "line": i, "item": item, "at": e.OccurredAt, "stream": e.Stream})
		}
		return rows, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	set, err := projection.Parse("lines.yaml", strings.NewReader(`
name: lines
kind: map
source: {streams: ["shop:*"], types: ["Order*"]}
table:
  engine: MergeTree
  order_by: [id, line]
  columns: {id: String, line: UInt8, item: String, at: "DateTime64(3, 'UTC')", stream: String}
checks:
  - name: three
    sql: SELECT count() FROM {table}
    expect: "= 3"
  - name: no rows without an item
    sql: SELECT id FROM {table} WHERE item = ''
    expect: empty
`), registry)
	if err != nil {
		t.Fatal(err)
	}
	d, err := set.Get("lines")
	if err != nil {
		t.Fatal(err)
	}
	events, err := projection.ReadEvents("events.jsonl", strings.NewReader(`
{"stream":"shop:orders","id":"1-0","type":"OrderPlaced","aggregate_id":"7","aggregate_version":1,"payload":{"items":["a","b"]}}
{"stream":"shop:orders","id":"2-0","type":"OrderPlaced","aggregate_id":"8","aggregate_version":13,"payload":{"items":["x"]}}
{"stream":"shop:orders","id":"3-0","type":"OrderPlaced","aggregate_id":"9","payload":"{\"items\":"}
{"stream":"shop:orders","id":"4-0","type":"Refund","aggregate_id":"9","payload":{"items":["x"]}}
{"stream":"other","id":"5-0","type":"OrderPlaced","aggregate_id":"9","payload":{"items":["x"]}}
{"stream":"shop:orders","id":"6-0","type":"OrderChanged","aggregate_id":"9","time":"2026-11-21T07:00:00Z","payload":{"items":["c"]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	db := connect(t)
	if err := projection.CheckEngine(t.Context(), db, d); err != nil {
		t.Fatal(err)
	}
	trial, err := set.Try(t.Context(), db, d, events)
	if err != nil {
		t.Fatal(err)
	}
	want, err := projection.ReadRows("rows.jsonl", strings.NewReader(`
{"id":"9","line":0,"item":"c","at":"2026-11-21T07:00:00.000Z"}
{"id":"7","line":0,"item":"a","at":"1970-01-01T00:00:00.001Z"}
{"id":"7","line":1,"item":"b"}
`))
	if err != nil {
		t.Fatal(err)
	}
	if differences := d.Compare(trial.Rows, want); len(differences) > 0 {
		t.Errorf("%+v", differences)
	}
	if trial.Used != 2 || len(trial.Unusable) != 2 || trial.Unusable[0].ID != (event.ID{Ms: 2}) || !strings.Contains(trial.Unusable[0].Reason, "thirteen") ||
		!trial.Checks[0].Passed || !trial.Checks[1].Passed {
		t.Errorf("%+v", trial)
	}
	want[0]["item"], want = []byte(`"d"`), want[:2]
	differences := d.Compare(trial.Rows, want)
	if len(differences) != 2 || differences[0].Columns[0].Column != "item" || !differences[1].Extra {
		t.Errorf("%+v", differences)
	}
}

// TestEngineFindsMistakes: what only ClickHouse can know.
func TestEngineFindsMistakes(t *testing.T) {
	db := connect(t)
	for name, c := range map[string]struct{ old, with, want string }{
		"right":        {"", "", ""},
		"type":         {"id: {type: UInt64,", "id: {type: UInt65,", "p.yaml:3: table: "},
		"aggregate":    {"SELECT tenant, 1 AS id", "SELECT anyIf(tenant, 1) AS tenant, toUInt64(count()) AS id", "p.yaml:11: select: it gives a row where there are no events"},
		"column":       {"1 AS id", "1 AS id, nonsense", "p.yaml:11: select: "},
		"cast":         {"1 AS id", "toInt64(1) AS id", "p.yaml:11: select: column \"id\" is a Int64"},
		"nullable":     {"1 AS id", "version AS id", "p.yaml:11: select: column \"id\" is a Nullable(Int64)"},
		"more":         {"1 AS id", "1 AS id, 2 AS tenannt", "p.yaml:11: select: it gives column \"tenannt\", which the table has not: did you mean \"tenant\"?"},
		"less":         {"tenant, 1 AS id", "tenant", "p.yaml:9: table.columns.id: the SELECT does not give it"},
		"require":      {"select: |", "require: [nonsense > 3]\nselect: |", "p.yaml:11: require[0]: "},
		"check":        {"select: |", "checks:\n  - {sql: 'SELECT nonsense FROM {table}', expect: 0}\nselect: |", "p.yaml:12: checks[0].sql: "},
		"check shape":  {"select: |", "checks:\n  - {sql: 'SELECT 1, 2 FROM {table}', expect: 0}\nselect: |", "p.yaml:12: checks[0].sql: "},
		"partition":    {"order_by: [tenant, id]", "partition_by: nonsense(id)\n  order_by: [tenant, id]", "p.yaml:3: table: "},
		"setting":      {"storage_policy: hot", "nonsense: 1", "p.yaml:3: table: "},
		"requirements": {"select: |", "require: [version > 0, {sql: JSONHas(payload), reason: no}]\nselect: |", ""},
	} {
		t.Run(name, func(t *testing.T) {
			base := strings.Replace(good, "storage_policy: hot, ", "", 1)
			if name == "setting" {
				base = good
			}
			yaml := strings.Replace(base, c.old, c.with, 1)
			set, err := projection.Parse("p.yaml", strings.NewReader(yaml), nil)
			if err != nil {
				t.Fatal(err)
			}
			for d := range set.All() {
				err := projection.CheckEngine(t.Context(), db, d)
				if c.want == "" {
					if err != nil {
						t.Error(err)
					}
				} else if err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("got  %v\nwant %s", err, c.want)
				}
			}
		})
	}
	tables, err := db.Query(t.Context(), "SELECT name FROM system.tables WHERE startsWith(name, '_reservoir')", 10)
	if err != nil || len(tables.Rows) > 0 {
		t.Errorf("left behind: %s, %v", tables.Rows, err)
	}
}

// TestDependents: a dependent's SELECT is asked about too.
func TestDependents(t *testing.T) {
	db := connect(t)
	yaml := strings.Replace(strings.Replace(good, "ReplacingMergeTree(version)", "MergeTree", 1), "storage_policy: hot, ", "", 1) + `dependents:
  - name: per_tenant
    engine: SummingMergeTree
    order_by: tenant
    columns: {tenant: String, orders: UInt64}
    select: SELECT tenant, count() AS orders FROM {table} GROUP BY tenant
`
	for old, want := range map[string]string{
		"AS orders FROM": "", "AS odrers FROM": `p.yaml:19: dependents[0].select: it gives column "odrers", which the table has not: did you mean "orders"?`,
	} {
		set, err := projection.Parse("p.yaml", strings.NewReader(strings.Replace(yaml, "AS orders FROM", old, 1)), nil)
		if err != nil {
			t.Fatal(err)
		}
		for d := range set.All() {
			if err := projection.CheckEngine(t.Context(), db, d); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}

// TestTypeConditions: the condition selects what the filter selects.
func TestTypeConditions(t *testing.T) {
	db := connect(t)
	types := []string{"", "OrderPaid", "OrderPlaced", "Order%", "Order_", `a\b`, "It's", "order"}
	for _, source := range []projection.Source{
		{}, {Types: []string{"*"}}, {Types: []string{"OrderPaid"}}, {Types: []string{"Order*"}}, {Types: []string{"*P*d", `a\*`, "It's"}},
		{Types: []string{"Order%*", "Order_"}}, {Types: []string{"OrderPaid", "order", "It'*"}},
	} {
		filter := source.Filter()
		matcher, err := filter.Compile()
		if err != nil {
			t.Fatal(err)
		}
		for _, typ := range types {
			rows, err := db.Query(t.Context(), "SELECT toUInt8("+source.TypeCondition("type")+") FROM (SELECT "+chstore.Literal(typ)+" AS type)", 1)
			if err != nil {
				t.Fatal(err)
			}
			want := matcher.MatchType([]byte(typ))
			if strings.Contains(strings.Join(source.Types, ""), `\`) && strings.Contains(typ, `\`) {
				continue // a definition has no backslash in its types
			}
			if got := string(rows.Rows[0][0]) == "1"; got != want {
				t.Errorf("%q of %q: %v, want %v", typ, source.Types, got, want)
			}
		}
	}
}
