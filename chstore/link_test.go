package chstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
)

// linked is a table of which a tenant is left out, in a test.
type linked struct {
	t       *testing.T
	store   *chstore.Store
	kind    chstore.Kind
	from    chstore.Table
	columns string
}

// contents gives the rows of tenants as they read, with their lineage where that is kept.
func (l *linked) contents(table chstore.Table, where string) string {
	l.t.Helper()
	text := "SELECT " + l.columns + " FROM " + table.String()
	if l.kind != chstore.Keeping {
		text += " FINAL"
	}
	rows, err := l.store.Query(l.t.Context(), text+" WHERE "+where+" ORDER BY ALL", 10_000)
	if err != nil {
		l.t.Fatal(err)
	}
	return fmt.Sprintf("%s", rows.Rows)
}

// same compares what is carried over, in the ways that a table is read.
func (l *linked) same(when string, table chstore.Table, others string) {
	l.t.Helper()
	if got, want := l.contents(table, "1"), l.contents(l.from, others); got != want {
		l.t.Errorf("%s: the table holds %.300s, want %.300s", when, got, want)
	}
	lineage := "sum(" + l.kind.Lineage() + ")"
	if l.kind == chstore.Keeping {
		lineage = "count(), sum(amount), countIf(tenant = 'acme')"
	}
	counts := func(table chstore.Table, where string) string {
		final := map[bool]string{true: " FINAL"}[l.kind == chstore.Replacing]
		rows, err := l.store.Query(l.t.Context(), "SELECT "+lineage+" FROM "+table.String()+final+where, 1)
		if err != nil {
			l.t.Fatal(err)
		}
		return fmt.Sprintf("%s", rows.Rows)
	}
	if got, want := counts(table, ""), counts(l.from, " WHERE "+others); got != want {
		l.t.Errorf("%s: %s is %s, want %s", when, lineage, got, want)
	}
}

// What is linked but for some rows reads as if they had never been there: at once, after
// merges, exchanged, linked again, and with new rows of the same keys.
func TestLinkExcept(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	ctx := t.Context()
	for _, engine := range []string{"MergeTree", "SummingMergeTree", "ReplacingMergeTree", "AggregatingMergeTree"} {
		for _, partition := range []string{"", "tenant", "substring(tenant, 1, 1)", "id"} {
			name := strings.NewReplacer("(", "", ")", "", ",", "", " ", "").Replace(engine + "_" + partition)
			spec := spec(engine)
			spec.PartitionBy = partition
			if engine == "AggregatingMergeTree" {
				spec.Columns[2].Type = "SimpleAggregateFunction(sum, UInt64)"
			}
			kind, err := spec.Kind()
			if err != nil {
				t.Fatal(err)
			}
			l := &linked{t: t, store: store, kind: kind, columns: "tenant, id, amount, " + kind.Lineage()}
			l.from = made(t, store, "from_"+name, spec, 900)
			load := chstore.Load{Into: l.from, Columns: spec.Names(), Select: "SELECT tenant, aggregate_id AS id, 2 AS amount FROM events", Chunk: 2, Adding: kind == chstore.Adding}
			if _, err := store.LoadBlock(ctx, block(t, sample(300)), "", load); err != nil { // more parts
				t.Fatal(err)
			}
			to, via := made(t, store, "to_"+name, spec, 30), made(t, store, "via_"+name, spec.Quiet(), 20)
			if alike, err := store.Alike(ctx, l.from, to); err != nil || !alike {
				t.Fatalf("%s: alike is %v, %v", name, alike, err)
			}
			others := "tenant != 'acme'"
			for range 2 {
				if _, err := store.LinkExcept(ctx, chstore.Links{From: l.from, Via: via, To: to, Kind: kind, Except: "tenant = 'acme'", ByKey: true}); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				l.same(name+", linked", to, others)
			}
			again := made(t, store, "again_"+name, spec, 0)
			if _, err := store.LinkExcept(ctx, chstore.Links{From: to, Via: via, To: again, Kind: kind, Except: "id = 'o1'"}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			l.same(name+", linked from what was linked", again, others+" AND id != 'o1'")
			for _, table := range []chstore.Table{to, again} {
				if err := store.Exec(ctx, "optimize", "OPTIMIZE TABLE "+table.String()+" FINAL"); err != nil {
					t.Fatal(err)
				}
			}
			l.same(name+", merged", to, others)
			l.same(name+", linked and merged", again, others+" AND id != 'o1'")
			load.Into, load.Chunk = to, 3
			if _, err := store.LoadBlock(ctx, block(t, sample(300)), "tenant = 'acme'", load); err != nil {
				t.Fatal(err)
			}
			rows, err := store.Query(ctx, "SELECT sum(amount) FROM "+to.String()+map[bool]string{true: " FINAL"}[kind == chstore.Replacing]+" WHERE tenant = 'acme'", 1)
			if want := map[bool]string{true: "20", false: "200"}[kind == chstore.Replacing]; err != nil || string(rows.Rows[0][0]) != want {
				t.Errorf("%s: new rows of the tenant add up to %s, %v; want %s", name, rows.Rows, err, want)
			}
		}
	}
}

// Only a table of the same columns and keys is linked.
func TestAlike(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	from := made(t, store, "t", spec("MergeTree"), 10)
	for name, change := range map[string]func(*chstore.TableSpec){
		"another column": func(s *chstore.TableSpec) { s.Columns = append(s.Columns, chstore.Column{Name: "x", Type: "UInt8"}) },
		"another type":   func(s *chstore.TableSpec) { s.Columns[2].Type = "UInt32" },
		"another key":    func(s *chstore.TableSpec) { s.OrderBy = "id, tenant" },
		"partitions":     func(s *chstore.TableSpec) { s.PartitionBy = "tenant" },
		"another engine": func(s *chstore.TableSpec) { s.Engine = "SummingMergeTree" },
	} {
		other := spec("MergeTree")
		change(&other)
		if alike, err := store.Alike(t.Context(), from, made(t, store, strings.ReplaceAll(name, " ", "_"), other, 0)); err != nil || alike {
			t.Errorf("%s: alike is %v, %v", name, alike, err)
		}
	}
	if _, err := store.Alike(t.Context(), from, store.Table("nowhere")); !errors.Is(err, chstore.ErrNoTable) {
		t.Errorf("a table that is not there: %v", err)
	}
}

// What changes meanwhile is found.
func TestLinkExceptIsProved(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	ctx := t.Context()
	from := made(t, store, "f", spec("MergeTree"), 90)
	to := made(t, store, "t", spec("MergeTree"), 0)
	rows, err := store.LinkExcept(ctx, chstore.Links{From: from, Via: made(t, store, "via", spec("MergeTree").Quiet(), 0), To: to, Kind: chstore.Keeping, Except: "tenant = 'acme'"})
	if err != nil || rows != 60 {
		t.Fatalf("%d rows, %v", rows, err)
	}
	if n, err := store.CountBelow(ctx, to, 2); err != nil || n != 60 {
		t.Errorf("%d rows below chunk 2, %v", n, err)
	}
	if n, err := store.CountBelow(ctx, to, 1); err != nil || n != 0 {
		t.Errorf("%d rows below chunk 1, %v", n, err)
	}
	if err := store.DeleteWhere(ctx, to, "id = 'o1'"); err != nil {
		t.Fatal(err)
	}
	if n, err := store.CountBelow(ctx, to, 2); err != nil || n != 54 {
		t.Errorf("%d rows below chunk 2 after some were deleted, %v", n, err)
	}
}
