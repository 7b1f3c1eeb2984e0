package migrations_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/migrations"
)

// TestEveryStatementHasAnID looks in the server's own log for statements without the
// prefix by which they are found and killed: of connecting, migrating, copying, loading
// and exchanging, over both protocols.
func TestEveryStatementHasAnID(t *testing.T) {
	const log = "<query_log><database>system</database><table>query_log</table><flush_interval_milliseconds>100</flush_interval_milliseconds></query_log>"
	b := newBench(t, false, log)
	b.add("orders", at(21, 7, 0), 10)
	ledger := jobs.NewStore(b.store, jobs.StoreOptions{})
	_, err := ledger.Create(t.Context(), jobs.New{Kind: "replay", Target: "orders", CreatedBy: "ann", Spec: json.RawMessage("{}")})
	b.must(err)
	for protocol, url := range map[string]string{"native": b.ch.URL(), "http": b.ch.HTTPURL()} {
		config := chstore.Config{URL: url, Database: "shop_" + protocol}
		m := b.migrator(config)
		_, err := m.Up(t.Context(), 0)
		b.must(err)
		_, err = m.SyncArchive(t.Context(), b.arch, b.place)
		b.must(err)
		_, err = m.SyncJobs(t.Context(), ledger)
		b.must(err)
		_, err = m.Roles(t.Context(), migrations.RolesSpec{Tenants: []string{"acme"}})
		b.must(err)
		b.load(config)
		_, err = m.Down(t.Context(), 0)
		b.must(err)
	}
	_, err = b.ch.Query(t.Context(), "SYSTEM FLUSH LOGS")
	b.must(err)
	// Those of this test come with the client of Go alone, those that begin the server by no
	// protocol; and the server's own KILL QUERY asks for what is running.
	const ours = " FROM system.query_log WHERE type != 'QueryStart' AND interface IN (1, 2) AND http_user_agent NOT LIKE 'Go-http-client%'" +
		" AND NOT (query_id NOT LIKE '%/%' AND query LIKE 'SELECT query_id, user, query FROM system.processes WHERE %') "
	without, err := b.ch.Query(t.Context(), "SELECT DISTINCT interface, query"+ours+"AND NOT match(query_id, '^reservoir/[^/]+/[^/]+/') LIMIT 20")
	if err != nil || without != "" {
		t.Errorf("statements without an ID of ours:\n%s%v", without, err)
	}
	kinds, err := b.ch.Query(t.Context(), "SELECT interface, extract(query_id, '^reservoir/([^/]+/[^/]+)/') AS what"+ours+"GROUP BY ALL ORDER BY ALL FORMAT CSV")
	b.must(err)
	for _, want := range []string{
		`1,"none/probe"`, `1,"migrate/exec"`, `1,"migrate/query"`, `1,"migrate/insert"`, `1,"job/chunk"`, `1,"job/prove"`, `1,"job/exchange"`,
		`2,"none/ping"`, `2,"none/probe"`, `2,"migrate/connect"`, `2,"migrate/exec"`, `2,"migrate/query"`, `2,"migrate/insert"`, `2,"job/chunk"`, `2,"job/exchange"`,
	} {
		if !strings.Contains(kinds, want+"\n") {
			t.Errorf("no %s was seen:\n%s", want, kinds)
		}
	}
}

// load makes a table, loads a chunk of one row and exchanges the table in.
func (b *bench) load(config chstore.Config) {
	b.t.Helper()
	ctx := b.t.Context()
	store, err := chstore.Connect(ctx, config)
	b.must(err)
	defer store.Close()
	store = store.As("job")
	b.must(store.Ping(ctx))
	mark := chstore.Mark{Projection: "p", Generation: 1}
	live := store.Table("t")
	spec := chstore.TableSpec{Columns: []chstore.Column{{Name: "id", Type: "String"}}, Engine: "MergeTree", OrderBy: "id"}
	b.must(store.CreateTable(ctx, live.Of(1), spec, mark))
	block, err := chstore.NewBlock()
	b.must(err)
	var batch event.Batch
	batch.Append(&event.Event{ID: at(21, 7, 0)})
	b.must(block.Append("orders", 1, &batch, event.Mapping{}.Extractor()))
	rows, err := store.LoadBlock(ctx, block, "", chstore.Load{Into: live.Of(1), Columns: []string{"id"}, Select: "SELECT aggregate_id AS id FROM events"})
	b.must(err)
	if rows != 1 {
		b.t.Errorf("loaded %d rows", rows)
	}
	b.must(store.Exchange(ctx, live, mark, chstore.Mark{}))
	b.must(store.Kill(ctx, ""))
}
