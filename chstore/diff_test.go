package chstore_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/chstore"
)

type diffRow struct {
	tenant, id string
	amount     int64
}

// naive compares two tables' rows in maps.
func naive(before, after []diffRow) (d chstore.Diff) {
	group := func(rows []diffRow) map[[2]string][]int64 {
		m := map[[2]string][]int64{}
		for _, r := range rows {
			k := [2]string{r.tenant, r.id}
			m[k] = append(m[k], r.amount)
			slices.Sort(m[k])
		}
		return m
	}
	a, b := group(before), group(after)
	d.OldRows, d.NewRows = uint64(len(before)), uint64(len(after))
	for k, old := range a {
		switch now, ok := b[k]; {
		case !ok:
			d.Removed++
		case slices.Equal(old, now):
			d.Same++
		default:
			d.Changed++
		}
	}
	for k := range maps.Keys(b) {
		if _, ok := a[k]; !ok {
			d.Added++
		}
	}
	return d
}

func TestDiffEqualsNaive(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	for _, name := range []string{"a", "b"} {
		if err := store.CreateTable(t.Context(), store.Table(name), spec("MergeTree"), chstore.Mark{Projection: name}); err != nil {
			t.Fatal(err)
		}
	}
	row := rapid.Custom(func(rt *rapid.T) diffRow {
		return diffRow{
			rapid.SampledFrom([]string{"", "acme", "it's"}).Draw(rt, "tenant"), rapid.SampledFrom([]string{"1", "2", "3", "\\"}).Draw(rt, "id"),
			rapid.Int64Range(-2, 2).Draw(rt, "amount"),
		}
	})
	run := func(text string) {
		if _, err := engine.Query(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	insert := func(table string, rows []diffRow) {
		run("TRUNCATE TABLE " + table)
		var values []string
		for i, r := range rows {
			values = append(values, fmt.Sprintf("(%s, %s, %d, %d)", chstore.Literal(r.tenant), chstore.Literal(r.id), r.amount, i))
		}
		if len(values) > 0 {
			run("INSERT INTO " + table + " VALUES " + strings.Join(values, ", "))
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		before, after := rapid.SliceOfN(row, 0, 12).Draw(rt, "before"), rapid.SliceOfN(row, 0, 12).Draw(rt, "after")
		insert("a", before)
		insert("b", after)
		got, err := store.Diff(t.Context(), chstore.DiffSpec{Old: store.Table("a"), New: store.Table("b"), Keys: []string{"tenant", "id"}, Samples: 100})
		if err != nil {
			rt.Fatal(err)
		}
		want := naive(before, after)
		if got.Same != want.Same || got.Added != want.Added || got.Removed != want.Removed || got.Changed != want.Changed || got.OldRows != want.OldRows || got.NewRows != want.NewRows {
			rt.Fatalf("%+v, want %+v", got, want)
		}
		if n := uint64(len(got.Samples)); n != want.Added+want.Removed+want.Changed {
			rt.Fatalf("%d samples of %d", n, want.Added+want.Removed+want.Changed)
		}
		for _, s := range got.Samples {
			if (len(s.Old) == 0) != (s.Kind == "added") || (len(s.New) == 0) != (s.Kind == "removed") {
				rt.Fatalf("sample %+v", s)
			}
		}
	})
}

func TestDiffOfMergingTables(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	columns := []chstore.Column{{Name: "k", Type: "String"}, {Name: "v", Type: "UInt64"}}
	aggregating := []chstore.Column{{Name: "k", Type: "String"}, {Name: "v", Type: "AggregateFunction(uniq, UInt64)"}}
	for name, test := range map[string]struct {
		columns  []chstore.Column
		engine   string
		old, new []string
		want     chstore.Diff
	}{
		"replacing": {columns, "ReplacingMergeTree", []string{"('a', 1, 1)", "('a', 2, 2)", "('b', 1, 3)"}, []string{"('a', 2, 1)", "('b', 2, 1), ('c', 3, 1)"}, chstore.Diff{Same: 1, Added: 1, Changed: 1}},
		"summing":   {columns, "SummingMergeTree", []string{"('a', 1, 1)", "('a', 2, 1)", "('b', 5, 1)"}, []string{"('a', 3, 1)"}, chstore.Diff{Same: 1, Removed: 1}},
		"aggregating": {
			aggregating, "AggregatingMergeTree",
			[]string{"SELECT 'a', uniqState(toUInt64(number)), 1 FROM numbers(9)", "SELECT 'b', uniqState(toUInt64(1)), 1"},
			[]string{"SELECT 'a', uniqState(toUInt64(number)), 1 FROM numbers(5)", "SELECT 'a', uniqState(toUInt64(number + 5)), 1 FROM numbers(4)", "SELECT 'b', uniqState(toUInt64(number)), 1 FROM numbers(2)"},
			chstore.Diff{Same: 1, Changed: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var tables []chstore.Table
			for i, inserts := range [][]string{test.old, test.new} {
				table := store.Table(fmt.Sprintf("%s%d", name, i))
				tables = append(tables, table)
				if err := store.CreateTable(t.Context(), table, chstore.TableSpec{Columns: test.columns, Engine: test.engine, OrderBy: "k"}, chstore.Mark{Projection: name}); err != nil {
					t.Fatal(err)
				}
				for _, insert := range inserts {
					if !strings.HasPrefix(insert, "SELECT") {
						insert = "VALUES " + insert
					}
					if _, err := engine.Query(t.Context(), "INSERT INTO "+table.String()+" "+insert); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, err := store.Diff(t.Context(), chstore.DiffSpec{Old: tables[0], New: tables[1], Keys: []string{"k"}})
			if err != nil {
				t.Fatal(err)
			}
			if got.Same != test.want.Same || got.Added != test.want.Added || got.Removed != test.want.Removed || got.Changed != test.want.Changed {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// Values of every type are compared, those of types of their own size as they are.
func TestDiffOfTypes(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	types := []struct{ typ, one, other string }{
		{"String", `'a\xff'`, `'a\xfe'`}, {"FixedString(3)", "'a'", "'ab'"}, {"LowCardinality(String)", "'a'", "''"},
		{"Bool", "true", "false"}, {"UUID", "'61f0c404-5cb3-11e7-907b-a6006ad3dba0'", "'61f0c404-5cb3-11e7-907b-a6006ad3dba1'"},
		{"IPv4", "'10.0.0.1'", "'10.0.0.2'"}, {"IPv6", "'::1'", "'::2'"}, {"Date", "'2026-01-01'", "'2026-01-02'"}, {"Date32", "'1926-01-01'", "'2226-01-02'"},
		{"DateTime", "1", "2"}, {"DateTime('Europe/Berlin')", "1", "2"}, {"DateTime64(6, 'UTC')", "'1926-01-01 00:00:00.000001'", "'1926-01-01 00:00:00.000002'"}, {"DateTime64(9)", "1", "2"},
		{"Decimal(9, 2)", "1.01", "1.02"}, {"Decimal(38, 4)", "1.0001", "1.0002"}, {"Decimal(76, 4)", "1.0001", "1.0002"},
		{"Enum8('a' = 1, 'b\\'(' = 2)", "'a'", `'b\'('`}, {"Enum16('a' = 1, 'b' = 1000)", "'a'", "'b'"},
		{"Float32", "1", "1.5"}, {"Float64", "1", "1.0000000001"}, {"Nullable(Int64)", "NULL", "0"}, {"Nullable(String)", "NULL", "''"}, {"LowCardinality(Nullable(String))", "NULL", "''"},
		{"Array(String)", "['a', 'b']", "['ab']"}, {"Array(Nullable(UInt8))", "[NULL]", "[0]"}, {"Map(String, UInt8)", "{'a': 1}", "{'a': 2}"}, {"Tuple(a Int8, b String)", "(1, 'a')", "(2, 'a')"},
	}
	for _, bits := range []int{8, 16, 32, 64, 128, 256} {
		types = append(types, struct{ typ, one, other string }{fmt.Sprintf("Int%d", bits), "-1", "1"}, struct{ typ, one, other string }{fmt.Sprintf("UInt%d", bits), "0", "1"})
	}
	columns := []chstore.Column{{Name: "k", Type: "UInt64"}}
	ones := []string{"1000"}
	for i, c := range types {
		columns, ones = append(columns, chstore.Column{Name: fmt.Sprintf("c%d", i), Type: c.typ}), append(ones, c.one)
	}
	run := func(text string) {
		t.Helper()
		if _, err := engine.Query(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	values := func(k int, but int) string {
		row := slices.Clone(ones)
		row[0] = fmt.Sprint(k)
		if but >= 0 {
			row[but+1] = types[but].other
		}
		return "(" + strings.Join(row, ", ") + ", 1)"
	}
	var before, after []string
	for i := range types {
		before, after = append(before, values(i, -1)), append(after, values(i, i))
	}
	for name, rows := range map[string][]string{"before": append(before, values(1000, -1)), "after": append(after, values(1000, -1))} {
		table := store.Table(name)
		if err := store.CreateTable(t.Context(), table, chstore.TableSpec{Columns: columns, Engine: "MergeTree", OrderBy: "k"}, chstore.Mark{Projection: name}); err != nil {
			t.Fatal(err)
		}
		run("INSERT INTO " + table.String() + " VALUES " + strings.Join(rows, ", "))
	}
	diff, err := store.Diff(t.Context(), chstore.DiffSpec{Old: store.Table("before"), New: store.Table("after"), Keys: []string{"k"}, Samples: 100})
	if err != nil {
		t.Fatal(err)
	}
	if diff.Same != 1 || diff.Changed != uint64(len(types)) || diff.Added != 0 || diff.Removed != 0 {
		t.Errorf("%d same, %d changed, want 1 and %d", diff.Same, diff.Changed, len(types))
	}
	for i := range types { // as keys, one after the other
		diff, err := store.Diff(t.Context(), chstore.DiffSpec{Old: store.Table("before"), New: store.Table("after"), Keys: []string{"k", fmt.Sprintf("c%d", i)}, Columns: []string{"k"}})
		if err != nil {
			t.Fatal(err)
		}
		if n := uint64(len(types)); diff.Added != 1 || diff.Removed != 1 || diff.Same != n || len(diff.Samples) != 2 {
			t.Errorf("with a key of %s: %+v", types[i].typ, diff)
		}
	}
}

// Columns may have any names, those too that a statement might give to what it makes of them.
func TestDiffOfNames(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	names := []string{"k", "h", "side", "o", "n", "oh", "nh", "kind", "x", "_reservoir_key"}
	columns := []chstore.Column{{Name: "id", Type: "UInt64"}}
	for _, name := range names {
		columns = append(columns, chstore.Column{Name: name, Type: "UInt64"})
	}
	for table, change := range map[string]int{"before": 0, "after": 5} {
		if err := store.CreateTable(t.Context(), store.Table(table), chstore.TableSpec{Columns: columns, Engine: "MergeTree", OrderBy: "id"}, chstore.Mark{Projection: table}); err != nil {
			t.Fatal(err)
		}
		var rows []string
		for row := range len(names) + 1 { // the last one stays as it is
			values := []string{fmt.Sprint(row)}
			for i := range names {
				value := 7
				if i == row {
					value += change
				}
				values = append(values, fmt.Sprint(value))
			}
			rows = append(rows, "("+strings.Join(values, ", ")+", 1)")
		}
		if _, err := engine.Query(t.Context(), "INSERT INTO "+table+" VALUES "+strings.Join(rows, ", ")); err != nil {
			t.Fatal(err)
		}
	}
	changed := uint64(len(names))
	for keys, want := range map[string]chstore.Diff{
		"id": {Same: 1, Changed: changed}, "id " + strings.Join(names, " "): {Same: 1, Added: changed, Removed: changed},
		"id k side": {Same: 1, Changed: changed - 2, Added: 2, Removed: 2}, "id h": {Same: 1, Changed: changed - 1, Added: 1, Removed: 1},
	} {
		got, err := store.Diff(t.Context(), chstore.DiffSpec{Old: store.Table("before"), New: store.Table("after"), Keys: strings.Fields(keys), Where: "k < 100 AND side < 100 AND h < 100"})
		if err != nil {
			t.Fatal(err)
		}
		if got.Same != want.Same || got.Changed != want.Changed || got.Added != want.Added || got.Removed != want.Removed {
			t.Errorf("by %s: %+v, want %+v", keys, got, want)
		}
		for _, s := range got.Samples {
			if len(s.Old)+len(s.New) == 0 {
				t.Errorf("by %s: a sample without rows: %+v", keys, s)
			}
		}
	}
}

// Columns whose types have changed are compared by what they hold.
func TestDiffOfChangedTypes(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	for table, types := range map[string][]string{"before": {"UInt32", "String", "Date", "Decimal(9, 2)"}, "after": {"UInt64", "LowCardinality(String)", "Date32", "Decimal(18, 2)"}} {
		var columns []chstore.Column
		for i, name := range []string{"id", "what", "day", "amount"} {
			columns = append(columns, chstore.Column{Name: name, Type: types[i]})
		}
		if err := store.CreateTable(t.Context(), store.Table(table), chstore.TableSpec{Columns: columns, Engine: "MergeTree", OrderBy: "id"}, chstore.Mark{Projection: table}); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Query(t.Context(), "INSERT INTO "+table+" VALUES (1, 'a', '2026-01-01', 1.5, 1), (2, 'b', '2026-01-02', "+map[string]string{"before": "2", "after": "3"}[table]+", 1)"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := store.Diff(t.Context(), chstore.DiffSpec{Old: store.Table("before"), New: store.Table("after"), Keys: []string{"id"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Same != 1 || got.Changed != 1 || got.Added != 0 || got.Removed != 0 {
		t.Errorf("%+v", got)
	}
}
