package chstore

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func TestEngineKind(t *testing.T) {
	for text, want := range map[string]struct {
		kind  Kind
		plain string // as it is written without replicas
	}{
		"MergeTree":                                        {Keeping, "MergeTree()"},
		" MergeTree ( ) ":                                  {Keeping, "MergeTree()"},
		"ReplacingMergeTree(version)":                      {Replacing, "ReplacingMergeTree(version)"},
		"ReplacingMergeTree(version, deleted)":             {Replacing, "ReplacingMergeTree(version, deleted)"},
		"SummingMergeTree":                                 {Adding, "SummingMergeTree()"},
		"SummingMergeTree(amount)":                         {Adding, "SummingMergeTree((amount, `_events`))"},
		"SummingMergeTree((amount, n))":                    {Adding, "SummingMergeTree((amount, n, `_events`))"},
		"AggregatingMergeTree()":                           {Adding, "AggregatingMergeTree()"},
		"ReplicatedMergeTree('/a/{shard}','{replica}')":    {Keeping, "MergeTree()"},
		"ReplicatedReplacingMergeTree('/a', 'b', version)": {Replacing, "ReplacingMergeTree(version)"},
		"SharedMergeTree":                                  {Keeping, "MergeTree()"},
		"CollapsingMergeTree(sign)":                        {},
		"Log":                                              {},
		"MergeTree(":                                       {},
		"":                                                 {},
	} {
		e, err := parseEngine(text)
		if want.kind == "" {
			if !errors.Is(err, ErrEngine) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil || e.kind != want.kind || e.text(false) != want.plain {
			t.Errorf("%q is %s %s, %v; want %s %s", text, e.kind, e.text(false), err, want.kind, want.plain)
		}
	}
}

// TestQuoting lets the engine read back what was quoted.
func TestQuoting(t *testing.T) {
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	store, err := Connect(t.Context(), Config{URL: engine.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ask := func(rt *rapid.T, text string) (got string) {
		if err := store.scan(t.Context(), &statement{what: "test", doing: "ask", text: text}, &got); err != nil {
			rt.Fatal(err)
		}
		return got
	}
	hostile := rapid.Custom(func(rt *rapid.T) string {
		return strings.Join(rapid.SliceOf(rapid.OneOf(
			rapid.SampledFrom([]string{"'", "`", `"`, `\`, "\x00", "\n", "--", "/*", "{x:String}", "?", "$1", "@a", ";", "\xff", "é", "\x7f"}), rapid.StringN(0, 3, 5),
		)).Draw(rt, "parts"), "")
	})
	rapid.Check(t, func(rt *rapid.T) {
		text := hostile.Draw(rt, "text")
		if got := ask(rt, "SELECT "+Literal(text)); got != text {
			rt.Fatalf("literal %q came back as %q", text, got)
		}
		name := strings.ToValidUTF8(text, "") + "x"
		if got, err := store.describe(t.Context(), "SELECT 1 AS "+Identifier(name)); err != nil || got[0].Name != name {
			rt.Fatalf("identifier %q came back as %q, %v", name, got, err)
		}
	})
}

func TestMark(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := Mark{Projection: rapid.String().Draw(rt, "projection"), Generation: rapid.Int().Draw(rt, "generation"), Rebuild: rapid.String().Draw(rt, "rebuild")}
		comment, err := m.Comment()
		if err != nil || ParseMark(comment) != m {
			rt.Fatalf("%+v became %s, %v", m, comment, err)
		}
	})
	for _, comment := range []string{"", "{", "orders of all tenants", `{"reservoir":null}`, `[]`} {
		if m := ParseMark(comment); !m.IsZero() {
			t.Errorf("%q is %v", comment, m)
		}
	}
}

// TestStatementsOfClusters writes the statements for what the engine of tests has not,
// and lets it parse them.
func TestStatementsOfClusters(t *testing.T) {
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	store, err := Connect(t.Context(), Config{URL: engine.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	here := *store
	store.config.Cluster, store.config.Replicated = "my cluster", true
	spec := TableSpec{
		Columns: []Column{{Name: "a`b", Type: "String", Default: "'x'", Comment: "it's", Codec: "ZSTD(3)"}, {Name: "v", Type: "UInt64"}},
		Engine:  "ReplacingMergeTree(v)", OrderBy: "`a``b`", PartitionBy: "v % 2", PrimaryKey: "`a``b`", TTL: "toDateTime(v)", Settings: map[string]string{"index_granularity": "4096", "storage_policy": "x"},
	}
	ddl, err := store.ddl(Table{"d", "t"}, spec, Mark{Projection: "p", Generation: 2})
	if err != nil {
		t.Fatal(err)
	}
	const want = "CREATE TABLE `d`.`t` ON CLUSTER `my cluster`\n(\n  `a\\`b` String DEFAULT 'x' COMMENT 'it\\'s' CODEC(ZSTD(3)),\n  `v` UInt64,\n" +
		"  `_chunk` UInt64 CODEC(T64, ZSTD(1)),\n  INDEX _chunk_range `_chunk` TYPE minmax GRANULARITY 16\n)\n" +
		"ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', v)\nPARTITION BY v % 2\nPRIMARY KEY (`a``b`)\nORDER BY (`a``b`)\nTTL toDateTime(v)\n" +
		"SETTINGS `index_granularity` = 4096, `replicated_deduplication_window` = 1000, `storage_policy` = 'x'\nCOMMENT '{\"reservoir\":{\"projection\":\"p\",\"generation\":2}}'"
	if ddl != want {
		t.Errorf("got\n%s\nwant\n%s", ddl, want)
	}
	source := Source{Stream: "s", Keys: []string{"a b", "c"}, S3: &S3{Bucket: "b", AccessKey: "k'", SecretKey: "s"}}
	relation, err := source.relation(store.readers())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(relation, `s3Cluster('my cluster', 'https://s3.us-east-1.amazonaws.com/b/{a%20b,c}', 'k\'', 's', 'Parquet', `) {
		t.Error(relation)
	}
	load := Load{Into: Table{"d", "t"}, Columns: []string{"a`b", "v"}, Select: "SELECT type, id_ms FROM events", Chunk: 3, Guard: true, Fence: &Fence{Mark: Mark{Projection: "p'"}}}
	loading, err := load.text(relation)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		ddl, loading, store.exchangeText(Table{"d", "a"}, Table{"d", "b"}), store.renameText(Table{"d", "a"}, Table{"d", "b"}),
		store.hostsText(Table{"d", "a"}), store.syncText(Table{"d", "a"}), store.killText(store.mine("")), "DROP TABLE d.t" + store.onCluster() + " SYNC",
		"SELECT * FROM " + store.processes(), replacePartitionText(Table{"d", "a"}, Table{"d", "b"}, "x'"), dropPartitionText(Table{"d", "a"}, "x'"),
	} {
		if err := here.exec(t.Context(), &statement{what: "explain", doing: "parse", text: "EXPLAIN AST " + text, values: source.values()}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
