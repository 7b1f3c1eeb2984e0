package web_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/audit"
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
)

// hostile is what nobody should be able to make a browser run.
const hostile = `<script>alert("x")</script><img src=x onerror=alert(1)>"'>`

// world is a page with everything behind it.
type world struct {
	t     testing.TB
	store objectstore.Store
	arch  *archive.Archive
	jobs  *jobs.Store
	raw   *redis.Client
	redis *redisstream.Client
	trail *audit.Trail
	gate  *testGate
	opts  web.Options
	url   string
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// newWorld starts a Redis, an archive in a directory and a page.
func newWorld(t testing.TB, changes ...func(*world)) *world {
	t.Helper()
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{})
	w := &world{t: t, store: store}
	w.must(err)
	w.arch, err = archive.Open(t.Context(), store, archive.Options{Writer: "test"})
	w.must(err)
	server := stacktest.Redis(t, stack.RedisOptions{})
	w.raw = redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { w.raw.Close() })
	w.redis, err = redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
	w.must(err)
	t.Cleanup(func() { w.redis.Close() })
	w.jobs = jobs.NewStore(store, jobs.StoreOptions{})
	w.trail = audit.New(store, time.Now)
	w.gate = &testGate{callers: map[string]*testCaller{
		"ada": {name: "ada", role: token.Admin}, "olga": {name: "olga", role: token.Operator}, "vic": {name: "vic", role: token.Viewer},
		"acme": {name: "acme's", role: token.Operator, tenants: []string{"acme"}}, "orders": {name: "orders' own", role: token.Viewer, streams: []string{shop.Orders}},
	}}
	replays, err := replay.New(replay.Options{
		Archive: w.arch, Jobs: w.jobs, Redis: w.redis,
		Sinks: []replay.SinkKind{sink.NewRedis(sink.RedisOptions{Default: w.redis}), sink.NewHTTP(sink.Config{AllowHosts: sink.Hosts{"127.0.0.1"}})},
	})
	w.must(err)
	w.opts = web.Options{
		Gate: w.gate, Archive: w.arch, Redis: w.redis, Jobs: w.jobs, Replays: replays, Audit: w.trail, Version: "test",
		Settings: []web.Setting{{Key: "redis.url", Value: "redis://localhost", Origin: "file"}, {Key: "store.url", Value: "file:///archive", Origin: "flag"}},
		Logger:   slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for _, change := range changes {
		change(w)
	}
	page, err := web.New(w.opts)
	w.must(err)
	srv := httptest.NewServer(page)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

// logWriter writes to a test's log.
type logWriter struct{ t testing.TB }

func (l logWriter) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

// sell publishes events of the shop in Redis, one every step since begin.
func (w *world) sell(n int, begin time.Time, step time.Duration) {
	w.t.Helper()
	s := shop.New(shop.Options{Seed: 7, Start: begin, Every: step})
	pipe := w.raw.Pipeline()
	for i := range n {
		stream, e := s.Next()
		w.add(pipe, stream, event.ID{Ms: uint64(begin.Add(time.Duration(i) * step).UnixMilli()), Seq: uint64(i)}, e.Fields...)
	}
	_, err := pipe.Exec(w.t.Context())
	w.must(err)
}

func (w *world) add(to redis.Cmdable, stream string, id event.ID, fields ...event.Field) {
	var values []any
	for _, f := range fields {
		values = append(values, f.Name, f.Value)
	}
	to.XAdd(w.t.Context(), &redis.XAddArgs{Stream: stream, ID: id.String(), Values: values})
}

func field(name, value string) event.Field {
	return event.Field{Name: []byte(name), Value: []byte(value)}
}

// archive archives everything that is in Redis.
func (w *world) archive() {
	w.t.Helper()
	a, err := archiver.New(w.redis, w.arch, archiver.Options{Include: []string{"*"}}, slog.New(slog.DiscardHandler), nil)
	w.must(err)
	_, err = a.Once(w.t.Context())
	w.must(err)
}

// hurt makes a stream with a hostile name, events and a gap.
func (w *world) hurt() {
	w.t.Helper()
	now := time.Now()
	for i := range 20 {
		w.add(w.raw, hostile, event.ID{Ms: uint64(now.Add(time.Duration(i-600) * time.Second).UnixMilli())},
			field("type", hostile), field("tenant", hostile), field("aggregate_type", "x"), field("aggregate_id", hostile), field(hostile, hostile),
			field("payload", `{"a":"</script>`+`<script>alert(1)</script>"}`))
	}
	w.archive()
	for i := range 20 {
		w.add(w.raw, hostile, event.ID{Ms: uint64(now.Add(time.Duration(i-300) * time.Second).UnixMilli())}, field("type", "Late"), field("payload", "{}"))
	}
	w.must(w.raw.XTrimMaxLen(w.t.Context(), hostile, 5).Err())
	w.archive()
}

// definitionsYAML are the projections of a world.
const definitionsYAML = `
name: orders
description: Every order as it is now
kind: sql
source: {streams: ["shop:orders"], types: ["Order*"]}
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
name: payments
kind: sql
source: {streams: ["shop:payments"]}
table:
  engine: MergeTree
  order_by: [id]
  columns: {id: String, tenant: String}
select: SELECT toString(id_ms) AS id, tenant FROM events
`

// withClickHouse adds projections. change may change the definitions' text.
func withClickHouse(change func(string) string) func(*world) {
	return func(w *world) {
		w.t.Helper()
		ch := stacktest.ClickHouse(w.t, stack.ClickHouseOptions{})
		db, err := chstore.Connect(w.t.Context(), chstore.Config{URL: ch.URL()})
		w.must(err)
		w.t.Cleanup(func() { db.Close() })
		w.opts.ClickHouse = db
		w.opts.Definitions = func() (*projection.Set, error) {
			return projection.Parse("test.yaml", strings.NewReader(change(definitionsYAML)), nil)
		}
		w.opts.Rebuilds, err = rebuild.New(rebuild.Options{
			Archive: w.arch, Objects: w.store, Jobs: w.jobs, ClickHouse: db, Definitions: w.opts.Definitions, Redis: w.redis, TTL: 2 * time.Second, StateDir: w.t.TempDir(),
		})
		w.must(err)
	}
}

// run runs a job here and now.
func (w *world) run(id string) *jobs.Job {
	w.t.Helper()
	engines := map[string]jobs.Engine{replay.Kind: w.opts.Replays.Engine()}
	if w.opts.Rebuilds != nil {
		engines[rebuild.Kind] = w.opts.Rebuilds.Engine()
	}
	runner, err := jobs.NewRunner(w.jobs, jobs.RunnerOptions{Engines: engines, Poll: 20 * time.Millisecond, LeaseTTL: 2 * time.Second})
	w.must(err)
	job, err := runner.RunOne(w.t.Context(), id)
	w.must(err)
	return job
}

// answer is what the page answered.
type answer struct {
	status   int
	location string
	header   http.Header
	body     string
}

// as sends a request as one of the callers; with a form it is posted.
func (w *world) as(who, path string, form url.Values, headers ...string) answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, body)
	w.must(err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", w.url)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if who != "" {
		req.AddCookie(&http.Cookie{Name: "who", Value: who})
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	w.must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	w.must(err)
	return answer{res.StatusCode, res.Header.Get("Location"), res.Header, string(text)}
}

// page gets a page, which must be there and in order.
func (w *world) page(who, path string, wants ...string) string {
	w.t.Helper()
	a := w.as(who, path, nil)
	if a.status != http.StatusOK {
		w.t.Fatalf("%s: status %d: %s", path, a.status, excerpt(a.body))
	}
	wellFormed(w.t, path, a.body)
	for _, want := range wants {
		if !strings.Contains(a.body, want) {
			w.t.Errorf("%s does not say %q: %s", path, want, excerpt(a.body))
		}
	}
	return a.body
}

func excerpt(text string) string {
	_, main, _ := strings.Cut(text, "<main")
	return main[:min(len(main), 700)]
}

// hour is long enough ago for a whole hour of events.
func ago(d time.Duration) time.Time { return time.Now().Add(-d) }

func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}
