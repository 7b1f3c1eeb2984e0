package rebuild_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// Rows that expire while a rebuild waits are no fault of the table, and more rows are.
func TestRowsExpireDuringApproval(t *testing.T) {
	k := newKitchen(t, false)
	text := strings.Replace(itemsYAML, "columns: {", "ttl: toDateTime(at) + INTERVAL 1 DAY DELETE\n  columns: {at: \"DateTime64(6, 'UTC')\", ", 1)
	k.defs.put("items", strings.Replace(text, "SELECT aggregate_id", "SELECT if(event_id = 'e7', toDateTime64('2100-01-01 00:00:00', 6, 'UTC'), occurred_at) AS at, aggregate_id", 1))
	k.must(k.publish(t.Context(), "shop:orders", 60)) // of which all but one are old
	k.archiveAll(100)
	for _, c := range []struct{ statement, want string }{
		{"OPTIMIZE TABLE items__g1 FINAL", ""},
		{"INSERT INTO items__g2 (at, order_id, _chunk) SELECT now64(6), 'ghost', bitShiftLeft(toUInt64(2), 40) + 1 FROM numbers(500)", "more"},
	} {
		job := k.create(rebuild.Spec{Projection: "items", Approval: projection.Required})
		if job, err := k.try(t.Context(), k.store, job.ID, time.Minute); err != nil || job.State != jobs.Paused {
			t.Fatalf("%+v, %v", job, err)
		}
		k.query("%s", c.statement)
		_, err := k.svc.Approve(t.Context(), job.ID, "ann")
		k.must(err)
		job, err = k.try(t.Context(), k.store, job.ID, time.Minute)
		k.must(err)
		if c.want == "" && job.State != jobs.Succeeded || c.want != "" && job.State != jobs.Failed {
			t.Errorf("%s: the rebuild is %s: %+v", c.statement, job.State, job.LastError)
		}
	}
	if got := k.query("SELECT count() FROM items"); got != "2" {
		t.Errorf("%s rows are left, want the 2 of one event", got)
	}
}

// Rows of tables with a TTL, and of dependents with one, expire while they are fed: as soon
// as they are there, as here. That is no fault of a batch, whatever the engine, also where
// it is in doubt, nor does it damage a table or keep a rebuild from being handed over.
func TestRowsExpireWhileTheyAreFed(t *testing.T) {
	k := newKitchen(t, false)
	at := "if(event_id LIKE '%7', toDateTime64('2100-01-01 00:00:00', 6, 'UTC'), occurred_at) AS at"
	table := func(name, engine, dependents string) {
		k.defs.put(name, `
name: `+name+`
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: `+engine+`
  order_by: [id]
  ttl: toDateTime(at) + INTERVAL 1 DAY DELETE
  columns: {id: String, at: "DateTime64(6, 'UTC')", n: UInt64}
  settings: {merge_with_ttl_timeout: "0"}
select: SELECT event_id AS id, `+at+`, toUInt64(1) AS n FROM events
`+dependents)
	}
	table("kept", "MergeTree", "")
	table("added", "SummingMergeTree(n)", "")
	k.defs.put("plain", `
name: plain
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: MergeTree
  order_by: [id]
  columns: {id: String, at: "DateTime64(6, 'UTC')"}
select: SELECT event_id AS id, `+at+` FROM events
dependents:
  - name: plain_kept
    engine: MergeTree
    order_by: [id]
    ttl: toDateTime(at) + INTERVAL 1 DAY DELETE
    settings: {merge_with_ttl_timeout: "0"}
    columns: {id: String, at: "DateTime64(6, 'UTC')"}
    select: SELECT id, at FROM {table}
  - name: plain_added
    engine: SummingMergeTree(n)
    order_by: [id]
    ttl: toDateTime(at) + INTERVAL 1 DAY DELETE
    settings: {merge_with_ttl_timeout: "0"}
    columns: {id: String, at: "DateTime64(6, 'UTC')", n: UInt64}
    select: SELECT id, at, toUInt64(1) AS n FROM {table}
`)
	names := []string{"kept", "added", "plain"}
	k.must(k.publish(t.Context(), "shop:orders", 200))
	k.archiveAll(100)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
	}
	expire := func() {
		for _, name := range []string{"kept", "added", "plain_kept", "plain_added"} {
			k.query("OPTIMIZE TABLE %s FINAL", name)
		}
	}
	last := 207
	for round := range 3 {
		stop := k.project(names...)
		for range 4 {
			k.must(k.publish(t.Context(), "shop:orders", 10)) // of which one stays
			expire()
			last += 10
		}
		for _, name := range []string{"kept", "added", "plain", "plain_kept", "plain_added"} {
			id := fmt.Sprintf("e%d", last-10)
			eventually(t, 20*time.Second, func() bool { return k.query("SELECT count() FROM %s WHERE id = '%s'", name, id) == "1" }, func() string {
				return name + " is not fed any more"
			})
		}
		if round < 2 { // with a batch in doubt: the last one is announced, and not known to be there
			stop()
			expire()
		}
		for _, name := range names {
			k.build(rebuild.Spec{Projection: name})
			doc, err := k.svc.Documents().Get(t.Context(), name)
			k.must(err)
			if doc.Damaged != "" {
				t.Fatalf("%s is damaged: %s", name, doc.Damaged)
			}
		}
	}
	expire()
	for _, name := range []string{"kept", "added", "plain_kept", "plain_added"} {
		if got, want := k.query("SELECT uniqExact(id) FROM %s", name), k.query("SELECT countIf(at > now()) FROM plain"); got != want {
			t.Errorf("%s has %s rows, want %s", name, got, want)
		}
	}
}
