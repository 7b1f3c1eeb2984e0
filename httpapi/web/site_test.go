package web_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/httpapi/web"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
	"github.com/reservoirhq/reservoir/telemetry"
)

// site is the whole server, as "reservoir serve --archive --project" runs it, with
// Redis, S3 and ClickHouse behind it.
type site struct {
	*world
	srv    *httpapi.Server
	tokens map[string]string // by role

	mu          sync.Mutex
	definitions string
}

// siteDefinitions are its projections: orders is in shards, so that a rebuild has steps.
const siteDefinitions = `
name: orders
description: Every order as it is now
kind: sql
source: {streams: ["shop:orders:*"], types: ["Order*"]}
table:
  engine: ReplacingMergeTree(version)
  order_by: [order_id]
  columns: {order_id: String, tenant: String, state: String, at: DateTime64(3), version: UInt64}
select: |
  SELECT aggregate_id AS order_id, tenant, type AS state,
    fromUnixTimestamp64Milli(toInt64(id_ms)) AS at, id_ms * 1000 + id_seq AS version FROM events
checks:
  - {name: has orders, sql: "SELECT count() FROM {table}", expect: "> 0"}
scope: {tenant: tenant, aggregate: order_id}
approval: required
---
name: steps
description: Every step of every order, and how many there were by tenant
kind: sql
source: {streams: ["shop:orders:*"], types: ["Order*"]}
table:
  engine: MergeTree
  order_by: [order_id, step, id]
  columns: {order_id: String, tenant: String, step: String, id: String}
select: SELECT aggregate_id AS order_id, tenant, type AS step, event_id AS id FROM events
dependents:
  - name: steps_by_tenant
    engine: SummingMergeTree
    order_by: [tenant, step]
    columns: {tenant: String, step: String, steps: UInt64}
    select: SELECT tenant, step, count() AS steps FROM {table} GROUP BY tenant, step
approval: required
---
name: never_built
description: Nobody has built this one yet, and its name is as long as what it says of itself is, which nobody should have to read in a table of projections
kind: sql
source: {streams: ["shop:payments"]}
table:
  engine: MergeTree
  order_by: [id]
  columns: {id: String, tenant: String}
select: SELECT toString(id_ms) AS id, tenant FROM events
`

// shards is in how many streams the orders of the site are.
const shards = 8

// newSite starts everything.
func newSite(t *testing.T) *site {
	t.Helper()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	logs := slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	s := &site{world: &world{t: t}, tokens: map[string]string{}, definitions: siteDefinitions}
	w := s.world
	s3 := stacktest.S3(t, stack.S3Options{})
	store, err := objectstore.NewS3(t.Context(), objectstore.S3Options{
		Bucket: s3.Bucket(), Endpoint: s3.Endpoint(), Region: stack.S3Region, AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
	})
	w.must(err)
	t.Cleanup(func() { store.Close() })
	w.store = store
	server := stacktest.Redis(t, stack.RedisOptions{})
	w.raw = redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { w.raw.Close() })
	w.redis, err = redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
	w.must(err)
	t.Cleanup(func() { w.redis.Close() })
	w.arch, err = archive.Open(t.Context(), w.store, archive.Options{Writer: "site"})
	w.must(err)
	w.jobs = jobs.NewStore(w.store, jobs.StoreOptions{})
	clickhouse := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	db, err := chstore.Connect(t.Context(), chstore.Config{URL: clickhouse.URL()})
	w.must(err)
	t.Cleanup(func() { db.Close() })
	replays, err := replay.New(replay.Options{
		Archive: w.arch, Jobs: w.jobs, Redis: w.redis,
		Sinks: []replay.SinkKind{sink.NewRedis(sink.RedisOptions{Default: w.redis}), sink.NewHTTP(sink.Config{AllowHosts: sink.Hosts{"127.0.0.1"}})},
	})
	w.must(err)
	rebuilds, err := rebuild.New(rebuild.Options{
		Archive: w.arch, Objects: w.store, Jobs: w.jobs, ClickHouse: db, Definitions: s.parse, Redis: w.redis, StateDir: t.TempDir(), TTL: 3 * time.Second, Logger: logs,
	})
	w.must(err)
	s.srv, err = httpapi.New(httpapi.Options{
		Objects: w.store, Archive: w.arch, Jobs: w.jobs, Replays: replays, Rebuilds: rebuilds, ClickHouse: db, Definitions: s.parse, Redis: w.redis,
		Poll: 200 * time.Millisecond, Build: telemetry.ReadBuild("test"), Logger: logs,
	})
	w.must(err)
	w.trail = s.srv.Trail()
	w.opts = web.Options{
		Gate: s.srv.Gate(), Archive: w.arch, Redis: w.redis, Jobs: w.jobs, Replays: replays, Rebuilds: rebuilds, Definitions: s.parse, ClickHouse: db,
		Audit: w.trail, Watch: s.srv.Watch, Version: "test", Logger: logs,
		Settings: []web.Setting{
			{Key: "redis.url", Value: "redis://:***@localhost", Origin: "file"}, {Key: "store.url", Value: hostile, Origin: "flag"},
			{Key: "streams.include", Value: strings.Repeat("a-very-long-pattern-of-streams-", 20), Origin: "file"},
		},
	}
	page, err := web.New(w.opts)
	w.must(err)
	s.srv.Mount(page)
	for _, role := range []token.Role{token.Admin, token.Operator, token.Viewer} {
		_, text, err := s.srv.Tokens().Create(t.Context(), token.New{Name: "the " + string(role), Role: role})
		w.must(err)
		s.tokens[string(role)] = text
	}
	listener, err := s.srv.Listen(t.Context(), "127.0.0.1:0", nil)
	w.must(err)
	w.url = "http://" + listener.Addr()
	runner, err := jobs.NewRunner(w.jobs, jobs.RunnerOptions{
		Engines: map[string]jobs.Engine{replay.Kind: replays.Engine(), rebuild.Kind: rebuilds.Engine()}, Poll: 300 * time.Millisecond, Concurrency: 8,
		LeaseTTL: 3 * time.Second, // a job says three times as often how far it is
		Logger:   logs,
	})
	w.must(err)
	s.work(listener.Run, runner.Run)
	return s
}

// work does what a server does, until the test ends.
func (s *site) work(parts ...func(context.Context) error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var wait sync.WaitGroup
	for _, part := range parts {
		wait.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				s.t.Error(err)
			}
		})
	}
	s.t.Cleanup(func() {
		stop()
		wait.Wait()
	})
}

// parse gives the definitions as they are now.
func (s *site) parse() (*projection.Set, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return projection.Parse("site.yaml", strings.NewReader(s.definitions), nil)
}

// change changes the text of the definitions.
func (s *site) change(from, to string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(s.definitions, from) {
		s.t.Fatalf("no definition has %q", from)
	}
	s.definitions = strings.Replace(s.definitions, from, to, 1)
}

// trade publishes events of the shop, its orders in shards, and archives them.
func (s *site) trade(n int, begin time.Time, step time.Duration) {
	s.t.Helper()
	from := shop.New(shop.Options{Seed: 11, Start: begin, Every: step})
	pipe := s.raw.Pipeline()
	for i := range n {
		stream, e := from.Next()
		if stream == shop.Orders {
			stream = shardOf(&e)
		}
		s.add(pipe, stream, event.ID{Ms: uint64(begin.Add(time.Duration(i) * step).UnixMilli()), Seq: uint64(i)}, e.Fields...)
	}
	_, err := pipe.Exec(s.t.Context())
	s.must(err)
	s.archive()
}

// shardOf gives the stream of an order.
func shardOf(e *event.Event) string {
	h := fnv.New32a()
	for _, f := range e.Fields {
		if string(f.Name) == "aggregate_id" {
			h.Write(f.Value)
		}
	}
	return fmt.Sprintf("%s:%d", shop.Orders, h.Sum32()%shards)
}

// keepArchiving archives what comes, and keeps projections live.
func (s *site) keepArchiving() {
	s.t.Helper()
	a, err := archiver.New(s.redis, s.arch, archiver.Options{Include: []string{"*"}, PollInterval: time.Second}, slog.New(slog.DiscardHandler), nil)
	s.must(err)
	projector, err := s.opts.Rebuilds.Projector(rebuild.ProjectorOptions{Worker: "site"})
	s.must(err)
	s.work(a.Run, projector.Run)
}
