package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/httpapi"
	"github.com/reservoirhq/reservoir/httpapi/token"
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

// The events of a world: two streams of a shop, with two tenants, and another one.
const (
	ordersPerTenant = 20
	firstMs         = 1_760_000_000_000
)

const definitionsYAML = `
name: orders
kind: sql
source: {streams: ["shop:orders"], types: ["Order*"]}
table:
  engine: ReplacingMergeTree(version)
  order_by: [order_id]
  columns: {order_id: String, tenant: String, state: String, total: Float64, at: DateTime64(3), version: UInt64}
select: |
  SELECT aggregate_id AS order_id, tenant, type AS state, JSONExtractFloat(payload, 'total') AS total,
    fromUnixTimestamp64Milli(toInt64(id_ms)) AS at, id_ms * 1000 + id_seq AS version FROM events
scope: {tenant: tenant, aggregate: order_id}
approval: required
---
name: logs
kind: sql
source: {streams: ["other:*"]}
table:
  engine: MergeTree
  order_by: [id]
  columns: {id: String, line: String}
select: SELECT toString(id_ms) AS id, payload AS line FROM events
`

// world is a server with everything that it needs.
type world struct {
	t     testing.TB
	store objectstore.Store
	arch  *archive.Archive
	jobs  *jobs.Store
	raw   *redis.Client
	redis *redisstream.Client
	opts  httpapi.Options
	srv   *httpapi.Server
	url   string
	doc   *openapi3.T
	ops   []*routers.Route // of the document

	// defs reads the definitions.
	defs func() (*projection.Set, error)
	gone atomic.Bool // orders has no definition any more

	tokens   map[string]string // texts by name
	logs     *lockedBuffer
	answered answers
}

// lockedBuffer is a log.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// with changes the options of a server before it is made.
type with func(*world)

// newWorld starts the servers and serves the API. The archive is on S3.
func newWorld(t testing.TB, changes ...with) *world {
	t.Helper()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	s3 := stacktest.S3(t, stack.S3Options{})
	store, err := objectstore.NewS3(t.Context(), objectstore.S3Options{
		Bucket: s3.Bucket(), Endpoint: s3.Endpoint(), Region: stack.S3Region, AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
	})
	w := &world{t: t, store: store, tokens: map[string]string{}, logs: &lockedBuffer{}}
	w.must(err)
	t.Cleanup(func() { store.Close() })
	server := stacktest.Redis(t, stack.RedisOptions{})
	w.raw = redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { w.raw.Close() })
	w.redis, err = redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
	w.must(err)
	t.Cleanup(func() { w.redis.Close() })
	w.arch, err = archive.Open(t.Context(), w.store, archive.Options{})
	w.must(err)
	w.publish()
	w.archive()
	w.serve(changes...)
	return w
}

// publish adds the events of the world to Redis.
func (w *world) publish() {
	w.t.Helper()
	for i := range ordersPerTenant {
		for j, tenant := range []string{"acme", "globex"} {
			ms := firstMs + i*1000 + j*10
			order := fmt.Sprintf("%s-%d", tenant, i)
			w.add("shop:orders", ms, "OrderPlaced", tenant, order, fmt.Sprintf(`{"total":%d.5}`, i))
			w.add("shop:payments", ms+1, "OrderPaid", tenant, order, fmt.Sprintf(`{"amount":%d}`, i))
		}
	}
	w.add("other:logs", firstMs, "Line", "", "", `"<script>alert(1)</script>"`)
}

func (w *world) add(stream string, ms int, kind, tenant, order, payload string) {
	w.t.Helper()
	values := []string{"event_id", fmt.Sprintf("e-%s-%d", stream, ms), "type", kind, "payload", payload}
	if tenant != "" {
		values = append(values, "tenant", tenant, "aggregate_type", "order", "aggregate_id", order)
	}
	w.must(w.raw.XAdd(w.t.Context(), &redis.XAddArgs{Stream: stream, ID: fmt.Sprintf("%d-0", ms), Values: values}).Err())
}

// archive archives everything that is in Redis.
func (w *world) archive() {
	w.t.Helper()
	a, err := archiver.New(w.redis, w.arch, archiver.Options{Include: []string{"*"}, Roll: archiver.Roll{Count: 16}}, slog.New(slog.DiscardHandler), nil)
	w.must(err)
	summary, err := a.Once(w.t.Context())
	w.must(err)
	if len(summary.Left) > 0 {
		w.t.Fatalf("not archived: %+v", summary.Left)
	}
}

func (w *world) serve(changes ...with) {
	w.t.Helper()
	w.jobs = jobs.NewStore(w.store, jobs.StoreOptions{})
	replays, err := replay.New(replay.Options{
		Archive: w.arch, Jobs: w.jobs, Redis: w.redis,
		Sinks: []replay.SinkKind{sink.NewRedis(sink.RedisOptions{Default: w.redis}), sink.NewHTTP(sink.Config{AllowHosts: sink.Hosts{"127.0.0.1"}})},
	})
	w.must(err)
	registry := prometheus.NewRegistry()
	w.opts = httpapi.Options{
		Objects: w.store, Archive: w.arch, Jobs: w.jobs, Replays: replays, Redis: w.redis, Rate: -1, Poll: 50 * time.Millisecond,
		Build: telemetry.ReadBuild("test"), Gatherer: registry, Registerer: registry,
		Logger: slog.New(slog.NewJSONHandler(w.logs, nil)),
	}
	for _, change := range changes {
		change(w)
	}
	w.srv, err = httpapi.New(w.opts)
	w.must(err)
	server := httptest.NewServer(w.srv.Handler())
	w.t.Cleanup(server.Close)
	w.url = server.URL
	w.doc, err = openapi3.NewLoader().LoadFromData(httpapi.Document())
	w.must(err)
	w.must(w.doc.Validate(w.t.Context(), openapi3.DisableExamplesValidation()))
	for path, item := range w.doc.Paths.Map() {
		for method, op := range item.Operations() {
			w.ops = append(w.ops, &routers.Route{Spec: w.doc, Path: path, PathItem: item, Method: method, Operation: op})
		}
	}
}

// withClickHouse adds projections.
func withClickHouse(w *world) {
	w.t.Helper()
	ch := stacktest.ClickHouse(w.t, stack.ClickHouseOptions{})
	db, err := chstore.Connect(w.t.Context(), chstore.Config{URL: ch.URL()})
	w.must(err)
	w.t.Cleanup(func() { db.Close() })
	w.opts.ClickHouse = db
	w.defs = func() (*projection.Set, error) {
		text := definitionsYAML
		if w.gone.Load() {
			_, text, _ = strings.Cut(text, "---")
		}
		return projection.Parse("test.yaml", strings.NewReader(text), nil)
	}
	w.opts.Definitions = func() (*projection.Set, error) { return w.defs() }
	w.opts.Rebuilds, err = rebuild.New(rebuild.Options{
		Archive: w.arch, Objects: w.store, Jobs: w.jobs, ClickHouse: db, Definitions: w.opts.Definitions, Redis: w.redis,
	})
	w.must(err)
}

// run runs a job here and now.
func (w *world) run(id string) *jobs.Job {
	w.t.Helper()
	engines := map[string]jobs.Engine{replay.Kind: w.opts.Replays.Engine()}
	if w.opts.Rebuilds != nil {
		engines[rebuild.Kind] = w.opts.Rebuilds.Engine()
	}
	runner, err := jobs.NewRunner(w.jobs, jobs.RunnerOptions{Engines: engines, LeaseTTL: time.Minute, Poll: 20 * time.Millisecond})
	w.must(err)
	j, err := runner.RunOne(w.t.Context(), id)
	w.must(err)
	return j
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// token returns the text of a token, which is made when it is first asked for.
func (w *world) token(n token.New) string {
	w.t.Helper()
	name := fmt.Sprint(n.Role, n.Streams, n.Tenants)
	if text, ok := w.tokens[name]; ok {
		return text
	}
	n.Name = name
	_, text, err := w.srv.Tokens().Create(w.t.Context(), n)
	w.must(err)
	w.tokens[name] = text
	return text
}

func (w *world) as(role token.Role) string { return w.token(token.New{Role: role}) }

// answer is what came back.
type answer struct {
	*http.Response
	body []byte
}

func (a *answer) decode(t testing.TB, into any) {
	t.Helper()
	reflect.ValueOf(into).Elem().SetZero()
	if err := json.Unmarshal(a.body, into); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// problem is the type of the problem that came back.
func (a *answer) problem(t testing.TB) string {
	t.Helper()
	var p struct{ Type string }
	a.decode(t, &p)
	return strings.TrimPrefix(p.Type, "urn:reservoir:problem:")
}

// call sends a request and checks that the answer is as the document says.
func (w *world) call(method, path, bearer, body string, headers ...string) *answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, w.url+path, strings.NewReader(body))
	w.must(err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	w.must(err)
	text, err := io.ReadAll(response.Body)
	w.must(err)
	w.must(response.Body.Close())
	a := &answer{response, text}
	w.documented(r, a)
	return a
}

// want is call, and the status must be that.
func (w *world) want(status int, method, path, bearer, body string, headers ...string) *answer {
	w.t.Helper()
	a := w.call(method, path, bearer, body, headers...)
	if a.StatusCode != status {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.StatusCode, status, a.body)
	}
	return a
}
