package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

// Where a column of the scope holds something else than the events say, rows would come
// twice or be lost: that is refused by the rows that there are.
func TestScopeThatEventsDoNotShare(t *testing.T) {
	k := newKitchen(t, true)
	k.must(k.publish(t.Context(), "shop:orders", 1500))
	k.archiveAll(1500)
	for name, sql := range map[string]string{
		"berlin": "toDate(occurred_at, 'Europe/Berlin')", "newyork": "toDate(occurred_at, 'America/New_York')", "fours": "toStartOfInterval(occurred_at, INTERVAL 4 HOUR)",
	} {
		kind := "DateTime('UTC')"
		if strings.HasPrefix(sql, "toDate(") {
			kind = "Date"
		}
		k.defs.put(name, "\nname: "+name+"\nkind: sql\nsource: {streams: [\"shop:*\"]}\n"+
			"table: {engine: MergeTree, order_by: [at], columns: {event: String, tenant: String, at: \""+kind+"\"}}\n"+
			"select: \"SELECT event_id AS event, if(tenant = 't3', 't4', tenant) AS tenant, "+sql+" AS at FROM events\"\nscope: {tenant: tenant, time: at}\n")
		k.build(rebuild.Spec{Projection: name})
	}
	day := time.Unix(1_760_000_000, 0).UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	for i, c := range []struct {
		name  string
		scope rebuild.Scope
		want  string // "" is right
	}{
		{"berlin", rebuild.Scope{From: day}, "events outside of the scope"},
		{"berlin", rebuild.Scope{To: day}, "rows outside of it"},
		{"newyork", rebuild.Scope{To: day}, "events outside of the scope"},
		{"newyork", rebuild.Scope{From: day}, "rows outside of it"},
		{"fours", rebuild.Scope{From: day.Add(13 * time.Hour)}, "rows outside of it"},
		{"fours", rebuild.Scope{From: day.Add(12 * time.Hour), To: day.Add(20 * time.Hour)}, ""},
		{"fours", rebuild.Scope{Tenants: []string{"t3"}}, "rows outside of it"},
		{"fours", rebuild.Scope{Tenants: []string{"t4"}}, "events outside of the scope"},
		{"fours", rebuild.Scope{Tenants: []string{"t5"}}, ""},
	} {
		ways := []rebuild.Way{rebuild.WayPushdown, rebuild.WayGo}
		if i > 0 {
			ways = ways[i%2:][:1]
		}
		for _, way := range ways {
			job := k.create(rebuild.Spec{Projection: c.name, Scope: c.scope, Way: way})
			job, err := k.try(t.Context(), k.store, job.ID, time.Minute)
			k.must(err)
			if c.want == "" {
				if job.State != jobs.Succeeded {
					t.Errorf("%s of %+v by %s: the rebuild is %s: %+v", c.name, c.scope, way, job.State, job.LastError)
				}
				continue
			}
			if job.State != jobs.Failed || !strings.Contains(job.LastError.Message, c.want) {
				t.Errorf("%s of %+v by %s: the rebuild is %s: %+v, want %q", c.name, c.scope, way, job.State, job.LastError, c.want)
			}
		}
	}
}
