package rebuild_test

import (
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/rebuild"
)

// Rows that expire while a part of a table is rebuilt, as soon as they are there, are no
// fault: neither where the rest is linked nor where it is copied, whatever the engine.
func TestScopedRebuildWhileRowsExpire(t *testing.T) {
	k := newKitchen(t, false)
	definition := func(name, engine, order string) string {
		return `
name: ` + name + `
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: ` + engine + `
  order_by: [` + order + `]
  ttl: toDateTime(at) + INTERVAL 1 DAY DELETE
  columns: {id: String, tenant: String, at: "DateTime64(6, 'UTC')", n: UInt64}
  settings: {merge_with_ttl_timeout: "0"}
select: SELECT event_id AS id, tenant, if(event_id LIKE '%7', toDateTime64('2100-01-01 00:00:00', 6, 'UTC'), occurred_at) AS at, toUInt64(1) AS n FROM events
scope: {tenant: tenant}
`
	}
	engines := map[string]string{"kept": "MergeTree", "added": "SummingMergeTree(n)", "replaced": "ReplacingMergeTree"}
	k.must(k.publish(t.Context(), "shop:orders", 600))
	k.archiveAll(200)
	scope := rebuild.Spec{Scope: rebuild.Scope{Tenants: []string{"t3", "t7"}}}
	for name, engine := range engines {
		scope.Projection = name
		k.defs.put(name, definition(name, engine, "tenant, id"))
		k.build(rebuild.Spec{Projection: name})
		want := k.query("SELECT uniqExact(id), uniqExact(tenant) FROM %s WHERE at > now()", name)
		for _, order := range []string{"tenant, id", "id, tenant"} { // linked, and copied
			k.defs.put(name, definition(name, engine, order))
			job := k.build(scope)
			said := ""
			for _, e := range job.Log {
				said += e.Message + "\n"
			}
			if copied := strings.Contains(said, "over into another table"); copied != (order == "id, tenant") {
				t.Errorf("%s: the log says %s", name, said)
			}
			k.query("OPTIMIZE TABLE %s FINAL", name)
			if got := k.query("SELECT uniqExact(id), uniqExact(tenant) FROM %s", name); got != want {
				t.Errorf("%s, ordered by %s, has %s, want %s", name, order, got, want)
			}
		}
	}
}
