package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// definitions is a set of projections that a test changes as people do.
type definitions struct {
	mu    sync.Mutex
	texts map[string]string
	reg   *projection.Registry
}

func (d *definitions) put(name, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.texts[name] = text
}

func (d *definitions) set() (*projection.Set, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, text := range d.texts {
		all = append(all, text)
	}
	return projection.Parse("test.yaml", strings.NewReader(strings.Join(all, "\n---\n")), d.reg)
}

// kitchen is a Service in a world.
type kitchen struct {
	*world
	defs *definitions
	db   *chstore.Store
	jobs *jobs.Store
	opts rebuild.Options
	svc  *rebuild.Service
	// lease is that of the workers, long if 0.
	lease time.Duration
}

func newKitchen(t testing.TB, onS3 bool, functions ...projection.Function) *kitchen {
	t.Helper()
	w := newWorld(t, onS3)
	reg, err := projection.NewRegistry(functions...)
	w.must(err)
	k := &kitchen{world: w, defs: &definitions{texts: map[string]string{}, reg: reg}}
	k.db, err = chstore.Connect(t.Context(), chstore.Config{URL: w.ch.URL()})
	w.must(err)
	t.Cleanup(func() { k.db.Close() })
	k.jobs = jobs.NewStore(w.store, jobs.StoreOptions{})
	k.opts = rebuild.Options{
		Archive: w.arch, Objects: w.store, Jobs: k.jobs, ClickHouse: k.db, Definitions: k.defs.set, Redis: w.client, TTL: 2 * time.Second,
		Logger: slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if onS3 {
		k.opts.Pushdown.S3 = &chstore.S3{Endpoint: w.s3.Endpoint(), Region: stack.S3Region, Bucket: w.s3.Bucket(), AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey}
	}
	k.svc, err = rebuild.New(k.opts)
	w.must(err)
	return k
}

// logWriter writes to a test's log.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// create makes a rebuild.
func (k *kitchen) create(spec rebuild.Spec) *jobs.Job {
	k.t.Helper()
	if spec.Approval == "" {
		spec.Approval = projection.Automatic
	}
	job, err := k.svc.Create(k.t.Context(), spec, rebuild.CreateOptions{By: "test"})
	k.must(err)
	return job
}

// try runs a job by a worker of its own, which sees that store.
func (k *kitchen) try(ctx context.Context, store objectstore.Store, id string, lease time.Duration) (*jobs.Job, error) {
	js := jobs.NewStore(store, jobs.StoreOptions{})
	opts := k.opts
	opts.Jobs, opts.Objects = js, store
	svc, err := rebuild.New(opts)
	if err != nil {
		return nil, err
	}
	runner, err := jobs.NewRunner(js, jobs.RunnerOptions{
		Engines: map[string]jobs.Engine{rebuild.Kind: svc.Engine()}, LeaseTTL: lease, Poll: 20 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	return runner.RunOne(ctx, id)
}

// build creates and runs a rebuild, which must succeed.
func (k *kitchen) build(spec rebuild.Spec) *jobs.Job {
	k.t.Helper()
	return k.run(k.create(spec).ID)
}

func (k *kitchen) run(id string) *jobs.Job {
	k.t.Helper()
	lease := k.lease
	if lease == 0 {
		lease = time.Minute
	}
	job, err := k.try(k.t.Context(), k.store, id, lease)
	for errors.Is(err, jobs.ErrLeaseLost) { // the machine was busy for too long
		job, err = k.try(k.t.Context(), k.store, id, lease)
	}
	k.must(err)
	if job.State != jobs.Succeeded {
		var log strings.Builder
		for _, e := range job.Log {
			fmt.Fprintf(&log, "\n  %s %s", e.Level, e.Message)
		}
		k.t.Fatalf("the rebuild is %s: %s, %+v%s", job.State, job.StateReason, job.LastError, log.String())
	}
	return job
}

// project keeps projections live until the returned function is called.
func (k *kitchen) project(names ...string) (stop func()) {
	k.t.Helper()
	return k.projectWith(nil, names...)
}

// projectWith is project with metrics.
func (k *kitchen) projectWith(reg prometheus.Registerer, names ...string) (stop func()) {
	k.t.Helper()
	p, err := k.svc.Projector(rebuild.ProjectorOptions{
		Names: names, Worker: fmt.Sprintf("p%d", time.Now().UnixNano()), Batch: 20 * time.Millisecond, Poll: 50 * time.Millisecond, Discover: 200 * time.Millisecond,
		Registerer: reg,
	})
	k.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				k.t.Error(err)
			}
		})
	}
	k.t.Cleanup(stop)
	return stop
}

// contents is what a table holds, as text, however its rows came there.
func (k *kitchen) contents(d string) string {
	k.t.Helper()
	switch {
	case strings.HasPrefix(d, "lines"):
		suffix := strings.TrimPrefix(d, "lines")
		var all []string
		for _, q := range []string{
			"SELECT * EXCEPT _chunk FROM lines%s ORDER BY ALL",
			"SELECT tenant, sku, sum(n), sum(lines) FROM lines_sums%s GROUP BY tenant, sku ORDER BY tenant, sku",
			"SELECT sku, max(latest), uniqExactMerge(orders) FROM lines_late%s GROUP BY sku ORDER BY sku",
			"SELECT * EXCEPT _chunk FROM lines_large%s ORDER BY ALL",
			"SELECT * EXCEPT _chunk FROM lines_seen%s FINAL ORDER BY sku",
		} {
			all = append(all, k.query(q, suffix))
		}
		return strings.Join(all, "\n")
	case strings.HasPrefix(d, "revenue"):
		return k.query("SELECT tenant, day, sum(orders) AS o, sum(total) AS t FROM %s GROUP BY tenant, day ORDER BY tenant, day", d)
	case strings.HasPrefix(d, "orders"), strings.HasPrefix(d, "counts"):
		return k.query("SELECT * EXCEPT _chunk FROM %s FINAL ORDER BY order_id", d)
	}
	return k.query("SELECT * EXCEPT _chunk FROM %s ORDER BY ALL", d)
}

const timelineYAML = `
name: timeline
kind: sql
source: {streams: ["shop:*"], types: ["Order*"]}
table:
  engine: MergeTree
  order_by: [order_id, at]
  columns: {order_id: String, at: "DateTime64(6, 'UTC')", what: String, total: Float64, position: String}
select: |
  SELECT aggregate_id AS order_id, occurred_at AS at, type AS what, JSONExtractFloat(payload, 'total') AS total,
    concat(stream, '/', toString(incarnation), '/', toString(id_ms), '-', toString(id_seq)) AS position FROM events
scope: {tenant: what}
`

const ordersYAML = `
name: orders
kind: sql
source: {streams: ["shop:*"], types: ["Order*"]}
table:
  engine: ReplacingMergeTree(version)
  order_by: [order_id]
  columns: {order_id: String, tenant: String, state: String, total: Float64, name: String, version: UInt64}
select: |
  SELECT aggregate_id AS order_id, tenant, type AS state, JSONExtractFloat(payload, 'total') AS total, JSONExtractString(payload, 'name') AS name,
    id_ms * 1000 + id_seq AS version FROM events
scope: {tenant: tenant, aggregate: order_id}
`

const revenueYAML = `
name: revenue
kind: sql
source: {streams: ["shop:*"], types: [OrderPaid]}
table:
  engine: SummingMergeTree
  order_by: [tenant, day]
  partition_by: toYYYYMM(day)
  columns: {tenant: String, day: Date, orders: UInt64, total: Float64}
select: |
  SELECT tenant, toDate(occurred_at) AS day, toUInt64(1) AS orders, round(JSONExtractFloat(payload, 'total')) AS total FROM events
scope: {tenant: tenant}
`

const itemsYAML = `
name: items
kind: sql
source: {streams: ["shop:orders"]}
table:
  engine: MergeTree
  order_by: [order_id, sku]
  columns: {order_id: String, tenant: String, sku: String, n: Int64, version: Nullable(Int64), event: String}
select: |
  SELECT aggregate_id AS order_id, tenant, JSONExtractString(item, 'sku') AS sku, JSONExtractInt(item, 'n') AS n, version, event_id AS event
  FROM events ARRAY JOIN JSONExtractArrayRaw(payload, 'items') AS item
scope: {tenant: tenant, aggregate: order_id}
`

// linesYAML has dependents of every kind.
const linesYAML = `
name: lines
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: MergeTree
  order_by: [order_id, sku]
  columns: {order_id: String, tenant: String, sku: String, n: Int64, at: "DateTime64(6, 'UTC')", event: String}
select: |
  SELECT aggregate_id AS order_id, tenant, JSONExtractString(item, 'sku') AS sku, JSONExtractInt(item, 'n') AS n, occurred_at AS at, event_id AS event
  FROM events ARRAY JOIN JSONExtractArrayRaw(payload, 'items') AS item
dependents:
  - name: lines_sums
    engine: SummingMergeTree
    order_by: [tenant, sku]
    partition_by: sku
    columns: {tenant: String, sku: String, n: Int64, lines: UInt64}
    select: SELECT tenant, sku, sum(n) AS n, count() AS lines FROM {table} GROUP BY tenant, sku
  - name: lines_late
    engine: AggregatingMergeTree
    order_by: [sku]
    columns: {sku: String, latest: "SimpleAggregateFunction(max, DateTime64(6, 'UTC'))", orders: "AggregateFunction(uniqExact, String)"}
    select: SELECT sku, max(at) AS latest, uniqExactState(order_id) AS orders FROM {table} GROUP BY sku
  - name: lines_large
    engine: MergeTree
    order_by: [event]
    columns: {event: String, n: Int64}
    select: SELECT event, n FROM {table} WHERE n > 2
  - name: lines_seen
    engine: ReplacingMergeTree(at)
    order_by: [sku]
    columns: {sku: String, at: "DateTime64(6, 'UTC')"}
    select: SELECT sku, at FROM {table}
`

// examples puts the definitions of the tests.
func (k *kitchen) examples() []string {
	k.defs.put("timeline", strings.Replace(timelineYAML, "scope: {tenant: what}\n", "", 1))
	k.defs.put("orders", ordersYAML)
	k.defs.put("revenue", revenueYAML)
	k.defs.put("items", itemsYAML)
	k.defs.put("lines", linesYAML)
	return []string{"timeline", "orders", "revenue", "items", "lines"}
}

// Whichever way events come, the table is the same.
func TestEveryWayGivesTheSameTable(t *testing.T) {
	k := newKitchen(t, true)
	names := k.examples()
	for _, stream := range []string{"shop:orders", "shop:payments"} {
		k.must(k.publish(t.Context(), stream, 3000))
	}
	k.archiveAll(700)
	k.must(k.publish(t.Context(), "shop:orders", 500)) // live only
	want := map[string]string{}
	for _, spec := range []rebuild.Spec{{Way: rebuild.WayPushdown}, {Way: rebuild.WayGo}, {Way: rebuild.WayGo, Format: "jsonl"}} {
		for _, name := range names {
			spec.Projection = name
			job := k.build(spec)
			got := k.contents(name)
			if want[name] == "" {
				want[name] = got
				if strings.Count(got, "\n") < 10 {
					t.Fatalf("%s has only %q", name, got)
				}
			}
			if got != want[name] {
				t.Errorf("%s by %s from %q differs from the first way: %d bytes, want %d", name, spec.Way, spec.Format, len(got), len(want[name]))
			}
			v, err := k.svc.Verification(t.Context(), job.ID)
			k.must(err)
			if d := v.Difference; d != nil && !d.Equal() {
				t.Errorf("%s by %s: difference %+v", name, spec.Way, d)
			}
			for _, dep := range v.Dependents {
				if dep.Rows == 0 || dep.Difference != nil && !dep.Difference.Equal() {
					t.Errorf("%s by %s: %+v", name, spec.Way, dep)
				}
			}
		}
	}
}

func TestErrors(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	if _, err := k.svc.Create(t.Context(), rebuild.Spec{Projection: "ordres"}, rebuild.CreateOptions{}); !errors.Is(err, projection.ErrUnknown) {
		t.Errorf("an unknown projection: %v", err)
	}
	if _, err := k.svc.Create(t.Context(), rebuild.Spec{Projection: "orders"}, rebuild.CreateOptions{}); !errors.Is(err, rebuild.ErrInvalid) {
		t.Errorf("no streams: %v", err)
	}
}

// The repeat of a request gives the job that there is, whatever has changed since.
func TestCreateAgain(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 10))
	k.archiveAll(100)
	spec, opts := rebuild.Spec{Projection: "orders"}, rebuild.CreateOptions{IdempotencyKey: "once"}
	first, err := k.svc.Create(t.Context(), spec, opts)
	k.must(err)
	k.defs.put("orders", "") // it is gone
	again, err := k.svc.Create(t.Context(), spec, opts)
	k.must(err)
	if again.ID != first.ID {
		t.Errorf("the repeat gave %s, want %s", again.ID, first.ID)
	}
	spec.Rate = 1
	if _, err := k.svc.Create(t.Context(), spec, opts); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("another request: %v", err)
	}
}
