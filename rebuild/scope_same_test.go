package rebuild_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// outside gives all that is stored of the rows that do not meet a condition, with what
// says where they came from.
func (k *kitchen) outside(name, condition string) string {
	k.t.Helper()
	return k.query("SELECT * FROM %s WHERE NOT (%s) ORDER BY ALL", name, condition)
}

// windowedYAML is cut into partitions, some of which a scope is made of.
const windowedYAML = `
name: windowed
kind: sql
source: {streams: ["shop:*"], types: ["Order*"]}
table:
  engine: MergeTree
  partition_by: toYYYYMMDD(at)
  order_by: [order_id, at]
  columns: {order_id: String, tenant: "LowCardinality(String)", at: "DateTime64(6, 'UTC')", what: String}
select: SELECT aggregate_id AS order_id, tenant, occurred_at AS at, type AS what FROM events
scope: {tenant: tenant, aggregate: order_id, time: at}
`

// A rebuild of any part of a table by the same definition leaves it as it is, and does
// not touch what is outside of that part; so does one after another.
func TestScopedRebuildChangesNothingElse(t *testing.T) {
	k := newKitchen(t, true)
	k.examples()
	k.defs.put("windowed", windowedYAML)
	k.must(k.publish(t.Context(), "shop:orders", 1500))
	k.must(k.publish(t.Context(), "shop:payments", 500))
	k.archiveAll(300)
	names := []string{"items", "orders", "revenue", "windowed"}
	want := map[string]string{}
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
		want[name] = k.contents(name)
	}
	day := time.Unix(1_760_000_000, 0).UTC().Truncate(24 * time.Hour)
	tries := between(5, 60)
	rapid.Check(t, func(rt *rapid.T) {
		if tries--; tries < 0 {
			return // each is a rebuild
		}
		name := rapid.SampledFrom(names).Draw(rt, "name")
		scope, condition := rebuild.Scope{}, ""
		by := []string{"tenant"}
		if name != "revenue" {
			by = append(by, "order_id")
		}
		if name == "windowed" {
			by = append(by, "at", "at")
		}
		switch rapid.SampledFrom(by).Draw(rt, "by") {
		case "tenant":
			scope.Tenants = []string{fmt.Sprintf("t%d", rapid.IntRange(0, 9).Draw(rt, "tenant")), "nobody"}
			condition = "tenant = '" + scope.Tenants[0] + "'"
		case "order_id":
			scope.Aggregates = []string{fmt.Sprintf("o%d", rapid.IntRange(0, 499).Draw(rt, "order")), "nothing"}
			condition = "order_id = '" + scope.Aggregates[0] + "'"
		case "at":
			scope.From = day.Add(time.Duration(rapid.IntRange(0, 24).Draw(rt, "hours")) * time.Hour)
			scope.To = scope.From.Add(time.Duration(rapid.IntRange(1, 48).Draw(rt, "more hours")) * time.Hour)
			condition = fmt.Sprintf("at >= fromUnixTimestamp64Micro(%d) AND at < fromUnixTimestamp64Micro(%d)", scope.From.UnixMicro(), scope.To.UnixMicro())
		}
		before, within := k.outside(name, condition), k.query("SELECT count() FROM %s WHERE %s", name, condition)
		job := k.build(rebuild.Spec{Projection: name, Scope: scope})
		if got := k.contents(name); got != want[name] {
			rt.Fatalf("%s of %+v: %s", name, scope, firstDifference(name, got, want[name]))
		}
		// Rows that the engine may merge are compared as they read, above.
		if after := k.outside(name, condition); after != before && name != "revenue" && name != "orders" {
			rt.Fatalf("%s outside of %+v: %s", name, scope, firstDifference(name, after, before))
		}
		v, err := k.svc.Verification(t.Context(), job.ID)
		k.must(err)
		if d := v.Difference; d == nil || !d.Equal() || (d.Same == 0) != (within == "0") {
			rt.Fatalf("%s of %+v, which has %s rows: the difference is %+v", name, scope, within, d)
		}
	})
}

// Where the definition has changed the table, the rest is copied into it.
func TestScopedRebuildIntoAnotherTable(t *testing.T) {
	k := newKitchen(t, true)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 900))
	k.archiveAll(300)
	k.build(rebuild.Spec{Projection: "items"})
	before := k.query("SELECT order_id, tenant, sku, n, version, event FROM items ORDER BY ALL")
	k.defs.put("items", strings.Replace(itemsYAML, "order_by: [order_id, sku]", "order_by: [tenant, order_id]", 1))
	job := k.build(rebuild.Spec{Projection: "items", Scope: rebuild.Scope{Tenants: []string{"t3"}}})
	if got := k.query("SELECT order_id, tenant, sku, n, version, event FROM items ORDER BY ALL"); got != before {
		t.Error(firstDifference("items", got, before))
	}
	said := ""
	for _, e := range job.Log {
		said += e.Message + "\n"
	}
	if !strings.Contains(said, "over into another table") {
		t.Errorf("the log says %s", said)
	}
}

// A worker that is killed at any step of a scoped rebuild leaves one that another ends.
func TestScopedWorkerIsKilled(t *testing.T) {
	k := newKitchen(t, false, functions()...)
	k.withStates()
	k.lease = 2 * time.Second
	k.examples()
	k.defs.put("counts", countsYAML)
	k.must(k.publish(t.Context(), "shop:orders", 600))
	k.archiveAll(200)
	k.must(k.publish(t.Context(), "shop:orders", 100))
	for _, name := range []string{"items", "revenue", "counts"} {
		k.build(rebuild.Spec{Projection: name})
		want := k.contents(name)
		spec := rebuild.Spec{Projection: name, Scope: rebuild.Scope{Tenants: []string{"t3", "t4"}}}
		quiet := faulty.New(k.store, nil)
		if job, err := k.try(t.Context(), quiet, k.create(spec).ID, 10*time.Second); err != nil || job.State != jobs.Succeeded {
			t.Fatalf("%+v, %v", job, err)
		}
		steps := quiet.Steps()
		for step := 1 + len(name)%3; step <= steps; step += between(97, 3) {
			job := k.create(spec)
			dying := faulty.New(k.store, faulty.CrashAt(step, step%2 == 0))
			if _, err := k.try(t.Context(), dying, job.ID, 100*time.Millisecond); err == nil {
				break // it is never reached
			}
			k.run(job.ID)
			if got := k.contents(name); got != want {
				t.Fatalf("%s, killed at step %d of %d: %s", name, step, steps, firstDifference(name, got, want))
			}
		}
	}
}

// A fold is rebuilt by tenant or aggregate, from all their events; not by time.
func TestScopedFold(t *testing.T) {
	broken := false
	fns := functions()
	fns[1] = projection.NewFold("counts", projection.Folds[*counted]{
		Init: func() *counted { return &counted{} },
		Apply: func(c *counted, e *projection.Event) (*counted, error) {
			if !broken {
				c.Total++
			}
			c.Order, c.Tenant, c.Events = e.AggregateID, e.Tenant, c.Events+1
			return c, nil
		},
		Rows: func(_ string, c *counted) ([]projection.Row, error) {
			return []projection.Row{{"order_id": c.Order, "tenant": c.Tenant, "events": c.Events, "total": c.Total}}, nil
		},
	})
	k := newKitchen(t, true, fns...)
	k.withStates()
	k.defs.put("counts", countsYAML)
	k.must(k.publish(t.Context(), "shop:orders", 1500))
	k.archiveAll(300)
	broken = true
	k.build(rebuild.Spec{Projection: "counts"})
	broken = false
	k.defs.put("counts", countsYAML+"version: \"2\"\n")
	if _, err := k.svc.Create(t.Context(), rebuild.Spec{Projection: "counts", Scope: rebuild.Scope{From: time.Unix(1, 0)}}, rebuild.CreateOptions{}); err == nil {
		t.Error("a fold is rebuilt by time")
	}
	before := k.outside("counts", "tenant = 't3'")
	k.build(rebuild.Spec{Projection: "counts", Scope: rebuild.Scope{Tenants: []string{"t3"}}})
	if after := k.outside("counts", "tenant = 't3'"); after != before {
		t.Error(firstDifference("counts", after, before))
	}
	if got := k.query("SELECT tenant, sum(events) = sum(total) AS whole, sum(total) = 0 AS none FROM counts FINAL GROUP BY tenant HAVING whole ORDER BY ALL FORMAT JSONEachRow"); got != `{"tenant":"t3","whole":1,"none":0}` {
		t.Errorf("built anew are %s", got)
	}
	// It is fed from all events of an aggregate, whoever's that is.
	k.project("counts")
	k.must(k.publish(t.Context(), "shop:orders", 3000))
	// Those that nothing happened to are as they were carried over.
	const sums = "SELECT sum(events), countIf(total NOT IN (0, events)) FROM counts FINAL"
	eventually(t, 30*time.Second, func() bool { return k.query(sums) == "4500\t0" }, func() string { return "the fold has " + k.query(sums) })
	job := k.build(rebuild.Spec{Projection: "counts", Scope: rebuild.Scope{Aggregates: []string{"o7", "o8"}}})
	v, err := k.svc.Verification(t.Context(), job.ID)
	k.must(err)
	if d := v.Difference; d == nil || !d.Equal() || d.Same != 2 {
		t.Errorf("the difference of two aggregates is %+v", d)
	}
}
