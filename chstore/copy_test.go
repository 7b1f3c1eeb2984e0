package chstore_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// made makes a table and loads n events into it.
func made(t *testing.T, store *chstore.Store, name string, spec chstore.TableSpec, n int) chstore.Table {
	t.Helper()
	table := store.Table(name)
	if err := store.CreateTable(t.Context(), table, spec, chstore.Mark{Projection: name}); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		return table
	}
	kind, err := spec.Kind()
	if err != nil {
		t.Fatal(err)
	}
	load := chstore.Load{Into: table, Columns: spec.Names(), Select: "SELECT tenant, aggregate_id AS id, 1 AS amount FROM events", Chunk: 1, Adding: kind == chstore.Adding}
	if _, err := store.LoadBlock(t.Context(), block(t, sample(n)), "", load); err != nil {
		t.Fatal(err)
	}
	return table
}

func TestPourAndCarryOver(t *testing.T) {
	const events = 900 // of three tenants in turn
	store, _ := connect(t, chstore.Config{})
	ctx := t.Context()
	for engine, test := range map[string]struct {
		copied uint64 // of what is not acme's
		sum    string
	}{
		"MergeTree": {600, "600"}, "SummingMergeTree": {600, "600"}, "ReplacingMergeTree": {20, "20"},
	} {
		spec := spec(engine)
		spec.PartitionBy = "tenant"
		from := made(t, store, "from"+engine, spec, events)
		to := made(t, store, "to"+engine, spec, 0)
		rows, err := store.CopyExcept(ctx, from, to, spec.Names(), "tenant = 'acme'", 5, false, nil)
		if err != nil || rows != test.copied {
			t.Errorf("%s: %d rows copied, %v; want %d", engine, rows, err, test.copied)
		}
		final := " FINAL"
		if engine == "MergeTree" {
			final = ""
		}
		sum, err := store.Query(ctx, "SELECT sum(amount) FROM "+to.String()+final, 1)
		if err != nil || string(sum.Rows[0][0]) != test.sum {
			t.Errorf("%s: sum %s, %v; want %s", engine, sum.Rows, err, test.sum)
		}
		for range 2 {
			if err := store.Clone(ctx, from, to); err != nil {
				t.Fatal(err)
			}
			diff, err := store.Diff(ctx, chstore.DiffSpec{Old: from, New: to, Keys: []string{"tenant", "id"}})
			if err != nil || !diff.Equal() || diff.Same != 30 {
				t.Errorf("%s: clone differs: %+v, %v", engine, diff, err)
			}
		}
		if err := store.DeleteWhere(ctx, to, "tenant = 'acme'"); err != nil {
			t.Fatal(err)
		}
		diff, err := store.Diff(ctx, chstore.DiffSpec{Old: from, New: to, Keys: []string{"tenant", "id"}})
		if err != nil || diff.Removed != 10 || diff.Same != 20 {
			t.Errorf("%s: after the deletion: %+v, %v", engine, diff, err)
		}
	}
	keeping := spec("MergeTree")
	keeping.PartitionBy = "tenant"
	kept := made(t, store, "kept", keeping, events)
	if err := store.Clone(ctx, store.Table("nowhere"), kept); !errors.Is(err, chstore.ErrNoTable) {
		t.Errorf("a table that is not there is cloned: %v", err)
	}
	if rows, err := store.Rows(ctx, kept); err != nil || rows != events {
		t.Errorf("then the other one has %d rows, %v; want %d", rows, err, events)
	}
	summing := spec("SummingMergeTree")
	staging := made(t, store, "staging", summing.Staging(), events)
	poured := made(t, store, "poured", summing, 0)
	if rows, err := store.Pour(ctx, staging, poured, summing.Names(), nil); err != nil || rows != events {
		t.Errorf("%d rows poured, %v", rows, err)
	}
	if rows, err := store.Pour(ctx, staging, poured, summing.Names(), nil); err != nil || rows != events {
		t.Errorf("%d rows poured on top of what is there, %v", rows, err)
	}
	if added, err := store.Added(ctx, poured); err != nil || added != 2*events {
		t.Errorf("%d rows were added, %v", added, err)
	}
}

func TestGuardsOfBatches(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	store = store.As("guards")
	table := made(t, store, "t", spec("MergeTree"), 0)
	rows, err := chstore.NewRowBlock(spec("MergeTree").Columns)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := rows.Append("acme", "o1", int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Append("acme"); err == nil {
		t.Error("a row with too few values is taken")
	}
	for i, step := range []struct {
		load chstore.Load
		want uint64 // rows of all
	}{
		{chstore.Load{Chunk: 5}, 10},
		{chstore.Load{Chunk: 5}, 10},                          // the token
		{chstore.Load{Chunk: 5, Attempt: 1, Guard: true}, 10}, // the guard
		{chstore.Load{Chunk: 4, Guard: true}, 10},             // of an earlier batch
		{chstore.Load{Chunk: 6, Guard: true}, 20},             // the next one
		{chstore.Load{Chunk: 6, Attempt: 1}, 30},              // neither
		{chstore.Load{Chunk: 7, Attempt: 1, Wide: 2}, 40},
	} {
		step.load.Into = table
		if _, err := store.LoadRows(t.Context(), rows, step.load); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Rows(t.Context(), table); err != nil || got != step.want {
			t.Errorf("step %d: %d rows, %v; want %d", i, got, err, step.want)
		}
	}
}

func TestDefinitionsAreTried(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	ctx := t.Context()
	if _, err := engine.Query(ctx, "CREATE TABLE events (x UInt8) ENGINE = Memory"); err != nil {
		t.Fatal(err) // a table of that name does not get in the way
	}
	columns, err := store.Describe(ctx, "WITH x AS (SELECT * FROM events) SELECT type AS t, version, occurred_at FROM x; ")
	if want := []chstore.Column{{Name: "t", Type: "String"}, {Name: "version", Type: "Nullable(Int64)"}, {Name: "occurred_at", Type: "DateTime64(6, 'UTC')"}}; err != nil || !slices.Equal(columns, want) {
		t.Errorf("%v, %v; want %v", columns, err, want)
	}
	all, err := store.Describe(ctx, "SELECT * FROM events")
	for i, c := range chstore.EventColumns() {
		if err != nil || all[i].Name != c.Name || all[i].Type != c.Type {
			t.Errorf("column %d is %v, %v; want %v", i, all[i], err, c)
		}
	}
	if _, err := store.Describe(ctx, "SELECT nonsense FROM events"); !errors.Is(err, chstore.ErrDefinition) {
		t.Errorf("%v", err)
	}
	good := spec("ReplacingMergeTree")
	if err := store.CheckTable(ctx, good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*chstore.TableSpec){
		"engine":    func(s *chstore.TableSpec) { s.Engine = "Log" },
		"key":       func(s *chstore.TableSpec) { s.OrderBy = "nonsense" },
		"type":      func(s *chstore.TableSpec) { s.Columns = []chstore.Column{{Name: "tenant", Type: "Nonsense"}} },
		"lineage":   func(s *chstore.TableSpec) { s.Columns = []chstore.Column{{Name: "_chunk", Type: "UInt8"}} },
		"no key":    func(s *chstore.TableSpec) { s.OrderBy = " " },
		"partition": func(s *chstore.TableSpec) { s.PartitionBy = "nonsense(" },
		"setting":   func(s *chstore.TableSpec) { s.Settings = map[string]string{"nonsense": "1"} },
	} {
		bad := good
		change(&bad)
		if err := store.CheckTable(ctx, bad); err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
	table := made(t, store, "t", good, 10)
	before, err := store.Inspect(ctx, table)
	if err != nil || before.Kind != chstore.Replacing || !before.Lineage() || len(before.Columns) != 4 || before.Engine != "ReplacingMergeTree" || before.OrderBy != "tenant, id" {
		t.Errorf("%+v, %v", before, err)
	}
	if err := store.Exec(ctx, "alter", "ALTER TABLE "+table.String()+" MODIFY COLUMN amount Int128"); err != nil {
		t.Fatal(err)
	}
	after, err := store.Inspect(ctx, table)
	if err != nil || after.Fingerprint() == before.Fingerprint() {
		t.Errorf("the fingerprint is that of before, %v", err)
	}
}

// TestReadersShareFiles has two engines read the files of a chunk: equal to what one
// of them reads, and not silently less when the other one is gone.
func TestReadersShareFiles(t *testing.T) {
	const cluster = "<remote_servers><both><shard><replica><host>%s</host><port>%s</port></replica></shard>" +
		"<shard><replica><host>127.0.0.1</host><port>%d</port></replica></shard></both></remote_servers>"
	// The reader that is asked needs to know the name of the cluster only.
	second := stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: fmt.Sprintf(cluster, "127.0.0.1", "1", 1)})
	third := stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: fmt.Sprintf(cluster, "127.0.0.1", "1", 1)})
	host, port, err := net.SplitHostPort(second.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := net.SplitHostPort(third.Addr())
	if err != nil {
		t.Fatal(err)
	}
	first := stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: fmt.Sprintf(strings.ReplaceAll(cluster, "%d", "%s"), host, port, other)})
	store := open(t, chstore.Config{URL: first.URL(), Readers: "both"})
	s3Store, s3 := onS3(t)
	batch := sample(4000)
	for i := range 3 {
		batch.Append(&event.Event{ID: event.ID{Ms: batch.ID(0).Ms + uint64(i+1)*3_600_000}})
	}
	source := archived(t, s3Store, "orders", batch)
	source.S3 = s3
	if len(source.Keys) < 3 {
		t.Fatalf("%d files", len(source.Keys))
	}
	table := made(t, store, "t", spec("MergeTree"), 0)
	load := chstore.Load{Into: table, Columns: spec("MergeTree").Names(), Select: "SELECT tenant, aggregate_id AS id, 1 AS amount FROM events"}
	rows, err := store.LoadFiles(t.Context(), source, load)
	if err != nil || rows != uint64(batch.Len()) {
		t.Fatalf("%d rows, %v; want %d", rows, err, batch.Len())
	}
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	load.Chunk = 1
	// With one of them gone the others read its files, or the load fails: never less.
	if rows, err := store.LoadFiles(t.Context(), source, load); err == nil && rows != uint64(batch.Len()) || err != nil && !chstore.Retryable(err) {
		t.Errorf("without one reader: %d rows, %v", rows, err)
	}
	source.Alone, load.Chunk = true, 2
	if rows, err := store.LoadFiles(t.Context(), source, load); err != nil || rows != uint64(batch.Len()) {
		t.Errorf("alone: %d rows, %v; want %d", rows, err, batch.Len())
	}
}
