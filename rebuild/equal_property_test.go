package rebuild_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// drawnColumn is a column that a definition may have.
type drawnColumn struct {
	typ, expression string
	// good says on which events the expression does not fail; "": on all.
	good string
}

// plainColumns are values of an event, of all kinds that there are.
func plainColumns() []drawnColumn {
	return []drawnColumn{
		{"String", "stream", ""}, {"UInt32", "incarnation", ""}, {"UInt64", "id_ms", ""}, {"UInt64", "id_seq", ""}, {"String", "event_id", ""},
		{"LowCardinality(String)", "type", ""}, {"LowCardinality(String)", "tenant", ""}, {"String", "aggregate_type", ""}, {"String", "aggregate_id", ""},
		{"Nullable(Int64)", "version", ""}, {"DateTime64(6, 'UTC')", "occurred_at", ""}, {"Date", "toDate(occurred_at, 'UTC')", ""},
		{"String", "correlation_id", ""}, {"String", "causation_id", ""}, {"String", "schema_version", ""}, {"String", "payload", ""}, {"UInt64", "length(payload)", ""},
		{"String", "JSONExtractString(payload, 'name')", ""}, {"Float64", "JSONExtractFloat(payload, 'n')", ""}, {"Int64", "JSONExtractInt(payload, 'n')", ""},
		{"UInt64", "JSONExtractUInt(payload, 'n')", ""}, {"Nullable(Int64)", "JSONExtract(payload, 'n', 'Nullable(Int64)')", ""}, {"UInt8", "JSONHas(payload, 'n')", ""},
		{"UInt64", "JSONLength(payload, 'tags')", ""}, {"Array(String)", "JSONExtract(payload, 'tags', 'Array(String)')", ""}, {"String", "JSONExtractRaw(payload, 'tags')", ""},
		{"LowCardinality(String)", "toString(JSONType(payload, 'n'))", ""}, {"String", "upperUTF8(JSONExtractString(payload, 'name'))", ""},
		{"Nullable(Float64)", "JSONExtract(payload, 'n', 'Nullable(Float64)')", ""}, {"String", "lower(hex(payload))", ""}, {"UInt64", "sipHash64(tenant, payload)", ""},
		{"Map(String, String)", "JSONExtract(payload, 'more', 'Map(String, String)')", ""}, {"Tuple(a Int32, b String)", "JSONExtract(payload, 'more', 'Tuple(a Int32, b String)')", ""},
		{"UInt32", "toUInt32(JSONExtractString(payload, 'count'))", "toUInt32OrNull(JSONExtractString(payload, 'count')) IS NOT NULL"},
		{"Date", "toDate(JSONExtractString(payload, 'day'))", "JSONExtractString(payload, 'day') = '2026-02-03'"},
	}
}

// addedColumns are what rows of one key add up to, whichever came first.
func addedColumns(engine string) []drawnColumn {
	if engine == "SummingMergeTree" {
		return []drawnColumn{{"Int64", "JSONExtractInt(payload, 'n')", ""}, {"UInt64", "length(payload)", ""}, {"Int64", "ifNull(version, 0)", ""}}
	}
	return []drawnColumn{
		{"SimpleAggregateFunction(sum, Int64)", "JSONExtractInt(payload, 'n')", ""}, {"SimpleAggregateFunction(max, String)", "JSONExtractString(payload, 'name')", ""},
		{"SimpleAggregateFunction(min, DateTime64(6, 'UTC'))", "occurred_at", ""}, {"SimpleAggregateFunction(max, Nullable(Int64))", "version", ""},
		{"AggregateFunction(uniqExact, String)", "initializeAggregation('uniqExactState', aggregate_id)", ""},
		{"AggregateFunction(sum, Float64)", "initializeAggregation('sumState', toFloat64(JSONExtractInt(payload, 'small')))", ""},
	}
}

// drawn is a definition with the text of its file.
type drawn struct {
	text, good string
}

// drawDefinition makes up a projection of the streams that begin with its name, into a
// table of an engine.
func drawDefinition(rt *rapid.T, name, engine string) drawn {
	keys := rapid.SliceOfNDistinct(rapid.SampledFrom([]drawnColumn{
		{"LowCardinality(String)", "tenant", ""}, {"String", "aggregate_id", ""}, {"String", "stream", ""}, {"Date", "toDate(occurred_at, 'UTC')", ""},
		{"Int64", "JSONExtractInt(payload, 'small')", ""}, {"String", "JSONExtractString(payload, 'name')", ""},
	}), 1, 3, func(c drawnColumn) string { return c.expression }).Draw(rt, "keys")
	values := plainColumns()
	var always []drawnColumn
	switch engine {
	case "SummingMergeTree":
		values, always = addedColumns(engine), []drawnColumn{{"UInt64", "toUInt64(1)", ""}} // no row of zeros
	case "AggregatingMergeTree":
		values, always = addedColumns(engine), []drawnColumn{{"SimpleAggregateFunction(sum, UInt64)", "toUInt64(1)", ""}}
	case "ReplacingMergeTree(which)":
		always = []drawnColumn{{"UInt64", "sipHash64(stream, id_ms, id_seq)", ""}} // no two are the same
	}
	columns := rapid.SliceOfNDistinct(rapid.SampledFrom(values), 1, min(8, len(values)), func(c drawnColumn) string { return c.expression }).Draw(rt, "columns")

	var types, selects, goods, order []string
	add := func(prefix string, list []drawnColumn) {
		for i, c := range list {
			column := fmt.Sprintf("%s%d", prefix, i)
			if prefix == "always" && engine == "ReplacingMergeTree(which)" {
				column = "which"
			}
			types = append(types, fmt.Sprintf("    %s: %q", column, c.typ))
			selects = append(selects, c.expression+" AS "+column)
			if c.good != "" {
				goods = append(goods, "("+c.good+")")
			}
			if prefix == "key" {
				order = append(order, column)
			}
		}
	}
	add("key", keys)
	add("value", columns)
	add("always", always)
	from := rapid.SampledFrom([]string{"", "", "\n  WHERE tenant != 'a'", "\n  ARRAY JOIN JSONExtractArrayRaw(payload, 'tags') AS tag"}).Draw(rt, "from")
	if strings.Contains(from, "ARRAY JOIN") && strings.HasPrefix(engine, "Replacing") {
		from = "" // rows of one event are of one version
	}
	source := fmt.Sprintf(`{streams: ["%s:*"]}`, name)
	if list := rapid.SampledFrom([][]string{nil, {"Order*"}, {"OrderPaid", "Noise"}, {"Order_*"}, {"*Paid"}, {"Order%*", "é*"}, {"*"}}).Draw(rt, "types"); list != nil {
		source = fmt.Sprintf(`{streams: ["%s:*"], types: ["%s"]}`, name, strings.Join(list, `", "`))
	}
	require := rapid.SampledFrom([]string{"", "", "version > 0", "JSONHas(payload, 'n')", "JSONType(payload, 'n') IN ('Int64', 'UInt64')", "tenant != ''"}).Draw(rt, "require")
	if require != "" {
		require = fmt.Sprintf("require:\n  - {sql: %q, reason: it is not what it should be}\n", require)
	}
	return drawn{
		text: fmt.Sprintf("name: %s\nkind: sql\nsource: %s\ntable:\n  engine: %s\n  order_by: [%s]\n  columns:\n%s\n%sfailures: {dead_letters: 100000}\nselect: |\n  SELECT %s\n  FROM events%s\n",
			name, source, engine, strings.Join(order, ", "), strings.Join(types, "\n"), require, strings.Join(selects, ",\n    "), from),
		good: strings.Join(goods, " AND "),
	}
}

// drawEvents makes up events of three streams, in order.
func drawEvents(rt *rapid.T, name string) []projection.Recorded {
	of := func(values ...string) *rapid.Generator[string] { return rapid.SampledFrom(values) }
	long := strings.Repeat("a long one ", 100)
	fields := []struct {
		name   string
		values *rapid.Generator[string]
	}{
		{"event_id", of("e1", "e2", "", long, "\xff")},
		{"type", of("OrderPaid", "OrderPlaced", "Noise", "Order_x", "Order%y", "é", "", "Order\xff", "OrderPaid"+long, long+"Paid")},
		{"tenant", of("a", "b", "", "日本 🚀", "it's\\\t\n\x00", "\xc3\x28", long)},
		{"aggregate_type", of("order", "")},
		{"aggregate_id", of("1", "2", "3", "o'1", "\xfe", "")},
		{"version", of("1", "2", "-1", "0", "9223372036854775807", "9223372036854775808", "1.5", "", "one")},
		{"occurred_at", of("2026-02-03T04:05:06.123456Z", "2026-02-03T23:59:59.9999999+01:00", "1760000000000", "yesterday", "", "1969-12-31T23:59:59Z", "2199-01-01T00:00:00Z")},
		{"correlation_id", of("c", "")},
		{"schema_version", of("1", "2.0", "")},
	}
	members := []struct {
		name   string
		values *rapid.Generator[string]
	}{
		{"name", of(`"Zoë"`, `""`, `null`, `7`, `"\u0000\ud83d\ude80"`, `"`+long+long+`"`, `["a"]`)},
		{"n", of(`0`, `1`, `-5`, `1.5`, `1e30`, `-1e400`, `9007199254740993`, `9223372036854775807`, `18446744073709551615`, `123456789012345678901234567890`, `"12"`, `null`, `true`, `{}`)},
		{"small", of(`1`, `2`, `-3`, `null`, `"x"`)},
		{"tags", of(`[]`, `["a","b"]`, `["",null,3]`, `"a"`, `null`, `[["a"]]`)},
		{"more", of(`{}`, `{"a":1,"b":"x"}`, `{"a":"x","b":2}`, `{"é":"é","a":99999999999}`, `[1,"x"]`, `null`)},
		{"count", of(`"12"`, `"12"`, `"12"`, `"0"`, `""`, `"x"`, `3`)},
		{"day", of(`"2026-02-03"`, `"2026-02-03"`, `"2026-02-03"`, `""`, `null`)},
	}
	payload := rapid.Custom(func(rt *rapid.T) string {
		var parts []string
		for _, m := range members {
			if rapid.IntRange(0, 5).Draw(rt, "has "+m.name) > 0 {
				parts = append(parts, fmt.Sprintf("%q:%s", m.name, m.values.Draw(rt, m.name)))
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	})
	one := rapid.Custom(func(rt *rapid.T) projection.Recorded {
		e := projection.Recorded{Stream: name + ":" + rapid.SampledFrom([]string{"a", "b", "ü"}).Draw(rt, "stream")}
		add := func(field, value string) {
			e.Event.Fields = append(e.Event.Fields, event.Field{Name: []byte(field), Value: []byte(value)})
		}
		for _, f := range fields {
			if rapid.IntRange(0, 5).Draw(rt, "has "+f.name) > 0 {
				add(f.name, f.values.Draw(rt, f.name))
			}
		}
		switch rapid.IntRange(0, 9).Draw(rt, "payload") {
		case 0:
			add("payload", rapid.SampledFrom([]string{"", "null", "[]", `{"n":`, "{\"n\":1}\xff", ` {"n":1} `, `{"n":1,"n":2}`, `{"n":1} {}`, "\xef\xbb\xbf{}"}).Draw(rt, "odd payload"))
		case 1:
			add("message", "it has no payload")
		default:
			add("payload", payload.Draw(rt, "object"))
		}
		return e
	})
	events := rapid.SliceOfN(one, 40, 80).Draw(rt, "events")
	for i, stream := range []string{"a", "b", "ü"} { // there is something of each
		events[i].Stream = name + ":" + stream
	}
	step := time.Duration(rapid.IntRange(1, 1_000_000).Draw(rt, "milliseconds")) * time.Millisecond
	numbered(events, func(i int) time.Time { return time.UnixMilli(1_770_000_000_000).Add(time.Duration(i/3) * step) })
	return events
}

// Whatever the definition and the events are, all ways make the same of them.
func TestDrawnDefinitionsAreTheSameEveryWay(t *testing.T) {
	k := newKitchen(t, true)
	tries := between(4, 60)
	rapid.Check(t, func(rt *rapid.T) {
		if tries--; tries < 0 {
			return // each is several rebuilds
		}
		name := fmt.Sprintf("drawn%d", tries)
		events := drawEvents(rt, name)
		engines := []string{"MergeTree", "ReplacingMergeTree(which)", "SummingMergeTree", "AggregatingMergeTree"}
		made := drawDefinition(rt, name, engines[tries%len(engines)])
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "order of chunks"), 0))
		t.Log(made.text)
		k.defs.put(name, made.text)
		set, err := k.defs.set()
		if err != nil {
			rt.Fatalf("%v\n%s", err, made.text)
		}
		d, err := set.Get(name)
		k.must(err)
		k.send(events[:10])
		k.archiveAll(3)
		k.build(rebuild.Spec{Projection: name})
		stop := k.project(name)
		k.send(events[10:30])
		k.archiveAll(4)
		k.send(events[30:])
		slices.SortStableFunc(events, func(a, b projection.Recorded) int { return strings.Compare(a.Stream, b.Stream) })
		letters := k.inOnePass(d, made.good, events)
		k.becomesOnePass(d)
		stop()
		k.archiveAll(7)
		for _, wrong := range k.everyWay(d, letters, random) {
			rt.Error(wrong)
		}
		t.Logf("%s into %s: %s of %d events, %d of them put aside", name, d.Table.Engine, k.sums(d, "")[name], len(events), len(letters))
	})
}
