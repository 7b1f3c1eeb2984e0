package rebuild_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

const seenYAML = `
name: seen
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: MergeTree
  order_by: [tenant, event]
  columns: {event: String, tenant: String, stream: String}
select: SELECT event_id AS event, tenant, stream FROM events
scope: {tenant: tenant}
`

// A stream that the definition has not any more is not fed, wherever the table was in
// it; one that has it again goes on from there.
func TestScopedRebuildOfFewerStreams(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("seen", seenYAML)
	publish := func(n int) {
		for _, stream := range []string{"shop:orders", "shop:payments"} {
			k.must(k.publish(t.Context(), stream, n))
		}
	}
	publish(300)
	k.archiveAll(200)
	k.build(rebuild.Spec{Projection: "seen"})
	publish(100)
	const payments = "SELECT count() FROM seen WHERE stream = 'shop:payments' AND tenant != 't3'"
	before := k.query(payments)
	scope := rebuild.Spec{Projection: "seen", Scope: rebuild.Scope{Tenants: []string{"t3"}}}
	k.defs.put("seen", strings.Replace(seenYAML, `"shop:*"`, `"shop:orders"`, 1))
	k.build(scope)
	stop := k.project("seen")
	orders := func() bool { return k.query("SELECT count() FROM seen WHERE stream = 'shop:orders'") == "400" }
	eventually(t, 20*time.Second, orders, func() string { return "not all orders are there" })
	stop()
	if after := k.query(payments); after != before {
		t.Errorf("there are %s payments outside of the scope, want %s", after, before)
	}
	if got := k.query("SELECT count() FROM seen WHERE stream = 'shop:payments' AND tenant = 't3'"); got != "0" {
		t.Errorf("there are %s payments within the scope", got)
	}
	k.defs.put("seen", seenYAML)
	k.build(scope)
	if got := k.query("SELECT stream, count(), uniqExact(event) FROM seen GROUP BY stream ORDER BY stream"); got != "shop:orders\t400\t400\nshop:payments\t400\t400" {
		t.Errorf("with both streams there are %s", got)
	}
}

// A scoped rebuild that waited while another generation became live does not take the
// rows of that one.
func TestScopedRebuildBesideAnother(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("seen", seenYAML)
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "seen"})
	k.build(rebuild.Spec{Projection: "seen"})
	id := k.dieAt(rebuild.Spec{Projection: "seen", Approval: projection.Required, Scope: rebuild.Scope{Tenants: []string{"t3"}}}, "projections/seen.json", 2, func(at died) bool {
		return at.Generation != 0 && at.Snapshot == nil
	})
	_, err := k.svc.Rollback(t.Context(), "seen", "ann")
	k.must(err)
	job, err := k.try(t.Context(), k.store, id, time.Minute)
	k.must(err)
	if job.State != jobs.Failed || !strings.Contains(job.LastError.Message, "became live while") {
		t.Errorf("the rebuild is %s: %+v", job.State, job.LastError)
	}
}

// died is a part of the checkpoint of a rebuild whose worker died.
type died struct {
	Generation uint64
	Snapshot   map[string]any
	Carried    bool
}

// dieAt gives a rebuild whose worker died at the given Put, counted from 1, of a key that
// ends like that; after carried, of any key.
func (k *kitchen) dieAt(spec rebuild.Spec, key string, put int, there func(died) bool) (id string) {
	k.t.Helper()
	job := k.create(spec)
	puts := 0
	plan := func(s faulty.Step) faulty.Fault {
		if s.Op == faulty.Put && (strings.HasSuffix(s.Key, key) || key == carried && puts > 0) {
			puts++
		}
		return faulty.Fault{Crash: puts == put}
	}
	_, err := k.try(k.t.Context(), faulty.New(k.store, plan), job.ID, 1500*time.Millisecond)
	job, getErr := k.jobs.Get(k.t.Context(), job.ID)
	k.must(getErr)
	var at died
	k.must(json.Unmarshal(job.Checkpoint, &at))
	if err == nil || !there(at) {
		k.t.Fatalf("it died at %s, %v", job.Checkpoint, err)
	}
	return job.ID
}

const carried = "carried.json"

// A statement of a worker that was stopped while it carried rows over, and comes when
// another one is further, is found where the engine replaces rows; and so is what somebody
// takes away of parts from which the rows of the scope were deleted.
func TestLateStatementOfCarryOver(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 300))
	k.archiveAll(300)
	k.build(rebuild.Spec{Projection: "orders"})
	for _, late := range []string{
		"ALTER TABLE %t REPLACE PARTITION ID 'all' FROM %t__frozen1", // as from a table of another attempt
		"DELETE FROM %t WHERE tenant IN ('t3')",
		"ALTER TABLE %t DROP PART '%p'",
	} {
		id := k.dieAt(rebuild.Spec{Projection: "orders", Scope: rebuild.Scope{Tenants: []string{"t3"}}}, carried, 3, func(at died) bool { return at.Carried })
		doc, err := k.svc.Documents().Get(t.Context(), "orders")
		k.must(err)
		table := fmt.Sprintf("orders__g%d", doc.LastGeneration)
		part := k.query("SELECT name FROM system.parts WHERE active AND has_lightweight_delete AND table = '%s' LIMIT 1", table)
		k.query("%s", strings.NewReplacer("%t", table, "%p", part).Replace(late))
		job, err := k.try(t.Context(), k.store, id, time.Minute)
		k.must(err)
		if job.State != jobs.Failed || !strings.Contains(job.LastError.Message, "carried over") {
			t.Errorf("%s: the rebuild is %s: %+v", late, job.State, job.LastError)
		}
	}
}
