package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// archivePrefix is where newS3World has the archive in its bucket.
const archivePrefix = "archive"

// The lanes are the streams. Each event that the projections want has a number: 1,
// 2, 3 and so on in its lane. So one look at a table says whether it is made of the
// events up to some position, of each once, and of no other.
var laneNames = [...]string{"lane:a", "lane:b"}

// orderCount is how many orders a lane has: number n is about order n modulo that.
const orderCount = 40

// kitchenTables are a table of every kind of engine.
var kitchenTables = map[string]string{
	"timeline": `
name: timeline
kind: sql
source: {streams: ["lane:*"], types: [Sold, Paid]}
scope: {tenant: tenant}
table:
  engine: MergeTree
  order_by: [lane, n]
  columns: {lane: String, n: UInt64, tenant: String, type: String, position: String}
select: |
  SELECT stream AS lane, JSONExtractUInt(payload, 'n') AS n, tenant, type, concat(toString(incarnation), '/', toString(id_ms), '-', toString(id_seq)) AS position FROM events
`,
	"orders": `
name: orders
kind: sql
source: {streams: ["lane:*"], types: [Sold, Paid]}
scope: {tenant: tenant}
table:
  engine: ReplacingMergeTree(n)
  order_by: [lane, order_id]
  columns: {lane: String, order_id: String, n: UInt64, tenant: String, state: String}
select: |
  SELECT stream AS lane, aggregate_id AS order_id, JSONExtractUInt(payload, 'n') AS n, tenant, type AS state FROM events
`,
	"revenue": `
name: revenue
kind: sql
source: {streams: ["lane:*"], types: [Sold, Paid]}
scope: {tenant: tenant}
table:
  engine: SummingMergeTree
  order_by: [lane, tenant, type]
  columns: {lane: String, tenant: String, type: String, events: UInt64, total: UInt64}
select: |
  SELECT stream AS lane, tenant, type, toUInt64(1) AS events, JSONExtractUInt(payload, 'n') AS total FROM events
`,
	"totals": `
name: totals
kind: sql
source: {streams: ["lane:*"], types: [Sold, Paid]}
scope: {tenant: tenant}
table:
  engine: AggregatingMergeTree
  order_by: [lane, tenant]
  columns: {lane: String, tenant: String, events: "SimpleAggregateFunction(sum, UInt64)", total: "SimpleAggregateFunction(sum, UInt64)", last: "SimpleAggregateFunction(max, UInt64)"}
select: |
  SELECT stream AS lane, tenant, toUInt64(1) AS events, JSONExtractUInt(payload, 'n') AS total, JSONExtractUInt(payload, 'n') AS last FROM events
`,
	"folded": `
name: folded
kind: fold
source: {streams: ["lane:*"], types: [Sold, Paid]}
scope: {tenant: tenant}
table:
  engine: ReplacingMergeTree(version)
  order_by: [order_id]
  columns: {order_id: String, tenant: String, version: UInt64, events_a: UInt64, total_a: UInt64, last_a: UInt64, events_b: UInt64, total_b: UInt64, last_b: UInt64}
`,
}

// folded is the state of an order in the fold of that name: how many events each lane has
// of it, the sum of their numbers, and the last one.
type folded struct {
	Order, Tenant string
	Lanes         [len(laneNames)][3]uint64
}

// kitchenFunctions are the functions of kitchenTables.
func kitchenFunctions() (*projection.Registry, error) {
	return projection.NewRegistry(projection.NewFold("folded", projection.Folds[folded]{
		Apply: func(s folded, e *projection.Event) (folded, error) {
			var p struct{ N uint64 }
			if err := json.Unmarshal([]byte(e.Payload), &p); err != nil {
				return s, err
			}
			s.Order, s.Tenant = e.AggregateID, e.Tenant
			lane := &s.Lanes[slices.Index(laneNames[:], e.Stream)]
			lane[0], lane[1], lane[2] = lane[0]+1, lane[1]+p.N, p.N // in order, or last is not the highest
			return s, nil
		},
		Rows: func(_ string, s folded) ([]projection.Row, error) {
			row := projection.Row{"order_id": s.Order, "tenant": s.Tenant, "version": s.Lanes[0][0] + s.Lanes[1][0]}
			for i, lane := range []string{"a", "b"} {
				row["events_"+lane], row["total_"+lane], row["last_"+lane] = s.Lanes[i][0], s.Lanes[i][1], s.Lanes[i][2]
			}
			return []projection.Row{row}, nil
		},
	}))
}

// kitchen is a world with ClickHouse and projections.
type kitchen struct {
	*world
	ch     *stack.ClickHouse
	defs   string // the directory of the definitions
	states string // that of the hands' states of folds
	raw    *redis.Client
	svc    *rebuild.Service // of this process
	jobs   *jobs.Store
	db     *chstore.Store
	ttl    time.Duration
	made   int // hands

	mu    sync.Mutex
	times map[string][]time.Time // when the numbers of each lane were written
	rest  map[string]int         // events of each lane that nobody wants
}

// newKitchen starts the servers.
func newKitchen(t *testing.T, ttl time.Duration, opts stack.ClickHouseOptions, tables ...string) *kitchen {
	t.Helper()
	k := &kitchen{
		world: newS3World(t, stack.RedisOptions{}), ch: stacktest.ClickHouse(t, opts), defs: t.TempDir(), states: t.TempDir(), ttl: ttl,
		times: map[string][]time.Time{}, rest: map[string]int{},
	}
	redisOpts, err := redis.ParseURL(k.redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	k.raw = redis.NewClient(redisOpts)
	t.Cleanup(func() { k.raw.Close() })
	for _, name := range tables {
		k.define(t, name, kitchenTables[name])
	}
	k.svc, k.jobs, k.db = k.service(t, k.ch.URL())
	return k
}

// define puts a definition, as people do.
func (k *kitchen) define(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(k.defs, name+".yaml")
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// service makes a service in this process, by way of a user of ClickHouse.
func (k *kitchen) service(t *testing.T, url string) (*rebuild.Service, *jobs.Store, *chstore.Store) {
	t.Helper()
	h := k.hand()
	h.ClickHouse = url
	svc, js, err := h.parts(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	db, err := chstore.Connect(t.Context(), chstore.Config{URL: k.ch.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return svc, js, db
}

// hand says how a process reaches this world.
func (k *kitchen) hand() hand {
	k.made++
	s3 := k.store.S3
	return hand{
		Redis: k.redis.URL(), Store: k.store, ClickHouse: k.ch.URL(), Definitions: k.defs, Worker: fmt.Sprintf("hand-%d", k.made),
		Rebuilds: true, Projector: true, Batch: 50 * time.Millisecond, TTL: k.ttl, States: filepath.Join(k.states, strconv.Itoa(k.made)),
		Pushdown: &chstore.S3{Endpoint: s3.Endpoint, Region: s3.Region, Bucket: k.s3.Bucket(), AccessKey: s3.AccessKey, SecretKey: s3.SecretKey},
	}
}

// start begins a life of a hand.
func (k *kitchen) start(t *testing.T, h hand) *daemon {
	t.Helper()
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, program, []string{handVariable + "=" + string(text), "AWS_EC2_METADATA_DISABLED=true"})
}

// archiving archives all the while.
func (k *kitchen) archiving(t *testing.T) *daemon {
	t.Helper()
	return k.archivingEvery(t, 2*time.Second)
}

// archivingEvery makes a segment of each stream every so often.
func (k *kitchen) archivingEvery(t *testing.T, age time.Duration) *daemon {
	t.Helper()
	return start(t, k.with(busyEnv, []string{"RESERVOIR_ARCHIVE_ROLL_AGE=" + age.String(), "RESERVOIR_ARCHIVE_ROLL_COUNT=2000"}), "archive")
}

// publish adds events to a lane: every fourth is not wanted.
func (k *kitchen) publish(ctx context.Context, lane string, n int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	pipe := k.raw.Pipeline()
	times, rest := k.times[lane], k.rest[lane]
	now := time.Now()
	for range n {
		if (len(times)+rest)%4 == 3 {
			rest++
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: lane, Values: []string{"type", "Noise", "payload", "{"}})
			continue
		}
		times = append(times, now)
		number := len(times)
		order := number % orderCount
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: lane, Values: []string{
			"event_id", fmt.Sprintf("%s-%d", lane, number), "type", []string{"Sold", "Paid"}[number%2], "tenant", fmt.Sprintf("t%d", order%7),
			"aggregate_type", "order", "aggregate_id", fmt.Sprintf("o%d", order), "payload", fmt.Sprintf(`{"n":%d}`, number),
		}})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	k.times[lane], k.rest[lane] = times, rest
	return nil
}

// writing adds n events to the lanes in turn every so often, until stop is called.
func (k *kitchen) writing(t *testing.T, n int, every time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		began, sent := time.Now(), 0
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
			for due := int(time.Since(began)/every) + 1; sent < due; sent++ { // ticks may be dropped
				if err := k.publish(context.Background(), laneNames[sent%len(laneNames)], n); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("publish: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// written is how many numbers a lane has.
func (k *kitchen) written(lane string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.times[lane])
}

// age is how long ago the number after n was written; 0 if it was not by then.
func (k *kitchen) age(lane string, n int, at time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n >= len(k.times[lane]) {
		return 0
	}
	return max(0, at.Sub(k.times[lane][n]))
}

// looks are the queries that give, for each lane, how many events a table is made
// of, and two sums that only those events have.
var looks = map[string]string{
	"timeline": "SELECT lane, max(n), count(), sum(n), uniqExact(n) FROM %s GROUP BY lane ORDER BY lane",
	"orders":   "SELECT lane, max(n), count(), sum(n), uniqExact(n) FROM %s FINAL GROUP BY lane ORDER BY lane",
	"revenue":  "SELECT lane, sum(events), sum(events), sum(total), sum(events) FROM %s GROUP BY lane ORDER BY lane",
	"totals":   "SELECT lane, max(last), sum(events), sum(total), max(last) FROM %s GROUP BY lane ORDER BY lane",
	"folded": "SELECT l.1, l.2, l.3, l.4, l.2 FROM (SELECT arrayJoin([('lane:a', max(last_a), sum(events_a), sum(total_a))," +
		" ('lane:b', max(last_b), sum(events_b), sum(total_b))]) AS l FROM %s FINAL) ORDER BY l.1",
}

// exact looks at a table and gives how many events of each lane it is made of. The
// error says that it is not made of these, each once.
func (k *kitchen) exact(ctx context.Context, name, table string) (map[string]int, error) {
	text, err := k.ch.Query(ctx, fmt.Sprintf(looks[name], table))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLook, err)
	}
	out := map[string]int{}
	for line := range strings.Lines(text) {
		lane, rest, _ := strings.Cut(strings.TrimSpace(line), "\t")
		var v [4]int
		for i, s := range strings.Split(rest, "\t") {
			if v[i], err = strconv.Atoi(s); err != nil {
				return nil, err
			}
		}
		n, count, sum, other := v[0], v[1], v[2], v[3]
		wantCount, wantSum, wantOther := n, n*(n+1)/2, n
		if name == "orders" && n > orderCount {
			wantCount, wantOther = orderCount, orderCount
			wantSum = orderCount*n - orderCount*(orderCount-1)/2
		}
		if count != wantCount || sum != wantSum || other != wantOther {
			return nil, fmt.Errorf("%s of %s is at %d and has %d events that sum up to %d (%d), want %d, %d (%d)",
				table, lane, n, count, sum, other, wantCount, wantSum, wantOther)
		}
		out[lane] = n
	}
	return out, nil
}

// errLook is that a table could not be read at all.
var errLook = errors.New("a reader got an error")

// reference computes what a table must hold, from what Redis has of the streams up
// to the positions that the projection's document says, and from nothing else.
func (k *kitchen) reference(t *testing.T, name string, positions map[string]projection.Position) string {
	t.Helper()
	var lines []string
	sums := map[string][3]int{}
	latest := map[string]string{}
	for _, lane := range laneNames {
		at := positions[lane]
		readStream(t, k.raw, lane, func(e *event.Event) {
			if at.Incarnation != 1 || e.ID.Compare(at.ID) > 0 || field(e, "type") == "Noise" {
				return
			}
			var p struct{ N int }
			if err := json.Unmarshal([]byte(field(e, "payload")), &p); err != nil {
				t.Fatal(err)
			}
			tenant, kind := field(e, "tenant"), field(e, "type")
			var key string
			switch name {
			case "timeline":
				lines = append(lines, fmt.Sprintf("%s\t%d\t%s\t%s\t%d/%s", lane, p.N, tenant, kind, at.Incarnation, e.ID))
				return
			case "orders":
				key = lane + "\t" + field(e, "aggregate_id")
				latest[key] = fmt.Sprintf("%s\t%d\t%s\t%s", key, p.N, tenant, kind)
				return
			case "revenue":
				key = lane + "\t" + tenant + "\t" + kind
			case "folded":
				key = lane + "\t" + field(e, "aggregate_id") + "\t" + tenant
			default:
				key = lane + "\t" + tenant
			}
			s := sums[key]
			sums[key] = [3]int{s[0] + 1, s[1] + p.N, max(s[2], p.N)}
		})
	}
	for key, s := range sums {
		line := fmt.Sprintf("%s\t%d\t%d", key, s[0], s[1])
		if name == "totals" || name == "folded" {
			line += fmt.Sprintf("\t%d", s[2])
		}
		lines = append(lines, line)
	}
	lines = slices.AppendSeq(lines, maps.Values(latest))
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// contents are the queries that give a table as reference does.
var contents = map[string]string{
	"timeline": "SELECT lane, n, tenant, type, position FROM timeline",
	"orders":   "SELECT lane, order_id, n, tenant, state FROM orders FINAL",
	"revenue":  "SELECT lane, tenant, type, sum(events), sum(total) FROM revenue GROUP BY lane, tenant, type",
	"totals":   "SELECT lane, tenant, sum(events), sum(total), max(last) FROM totals GROUP BY lane, tenant",
	"folded": "SELECT l.1, order_id, tenant, l.2, l.3, l.4 FROM (SELECT order_id, tenant, arrayJoin([('lane:a', events_a, total_a, last_a)," +
		" ('lane:b', events_b, total_b, last_b)]) AS l FROM folded FINAL) WHERE l.2 > 0",
}

// settled waits until a table is made of everything that was written, and then holds
// it against the reference.
func (k *kitchen) settled(t *testing.T, name string) {
	t.Helper()
	k.awaitAll(t, name)
	doc, err := k.svc.Documents().Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if doc.Damaged != "" {
		t.Errorf("%s is damaged: %s", name, doc.Damaged)
	}
	positions := maps.Clone(doc.Live.Positions)
	if doc.Pending != nil { // the table has it; only that it has is not written yet
		maps.Copy(positions, doc.Pending.Positions)
	}
	want := k.reference(t, name, positions)
	text, err := k.ch.Query(t.Context(), contents[name])
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(text), "\n")
	sort.Strings(got)
	if rows := strings.Split(want, "\n"); !slices.Equal(got, rows) {
		t.Errorf("%s has %d rows, want %d", name, len(got), len(rows))
		for i := range min(len(got), len(rows)) {
			if got[i] != rows[i] {
				t.Errorf("the first row that differs is %q, want %q", got[i], rows[i])
				break
			}
		}
	}
}

// awaitAll waits until a table is made of everything that was written. On the way it
// must be exact.
func (k *kitchen) awaitAll(t *testing.T, name string) {
	t.Helper()
	waits := patient(time.Minute)
	for {
		at, err := k.exact(t.Context(), name, name)
		if errors.Is(err, errLook) && !waits.over() {
			pause(t, 50*time.Millisecond, nil) // ClickHouse may be starting again; readers know better
			continue
		}
		if err != nil {
			k.explain(t, name)
			t.Fatal(err)
		}
		all := true
		for _, lane := range laneNames {
			all = all && at[lane] == k.written(lane)
		}
		if all {
			return
		}
		if waits.over() {
			k.explain(t, name)
			t.Fatalf("%s has %v, and %d and %d were written", name, at, k.written(laneNames[0]), k.written(laneNames[1]))
		}
		pause(t, 50*time.Millisecond, nil)
	}
}

// explain shows what is known of a projection.
func (k *kitchen) explain(t *testing.T, name string) {
	t.Helper()
	doc, err := k.svc.Documents().Get(context.Background(), name)
	if err != nil {
		t.Logf("the document of %s: %v", name, err)
		return
	}
	text, err := json.MarshalIndent(doc, "", " ")
	t.Logf("the document of %s: %s, %v", name, text, err)
	tables, err := k.db.Marked(context.Background(), "", name)
	t.Logf("its tables: %+v, %v", tables, err)
}

// order creates a rebuild, also while ClickHouse is down now and then.
func (k *kitchen) order(t *testing.T, spec rebuild.Spec, key string) string {
	t.Helper()
	if spec.Approval == "" {
		spec.Approval = projection.Automatic
	}
	waits := patient(time.Minute)
	for {
		job, err := k.svc.Create(t.Context(), spec, rebuild.CreateOptions{By: "test", IdempotencyKey: key})
		if err == nil {
			return job.ID
		}
		if !chstore.Retryable(err) || waits.over() {
			t.Fatalf("create a rebuild: %v", err)
		}
		pause(t, 50*time.Millisecond, nil)
	}
}

// patience is how long a test waits, not counting the time in which its machine stood
// still, or was too busy to let it look.
type patience struct {
	left time.Duration
	last time.Time
}

func patient(limit time.Duration) *patience { return &patience{limit, time.Now()} }

// over is asked each time that the test has looked, every 50 ms or so.
func (p *patience) over() bool {
	now := time.Now()
	p.left -= min(now.Sub(p.last), 250*time.Millisecond)
	p.last = now
	return p.left <= 0
}

// await is that of world, with patience.
func (k *kitchen) await(t *testing.T, id string, limit time.Duration, what string, is func(*jobs.Job) bool) *jobs.Job {
	t.Helper()
	for waits := patient(limit); ; {
		job, err := k.jobs.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if is(job) {
			return job
		}
		if waits.over() {
			t.Fatalf("after %v the rebuild was not %s:\n%s", limit, what, describe(job))
		}
		pause(t, 20*time.Millisecond, nil)
	}
}

// built waits until a rebuild has succeeded. It must not stand still for so long, nor take
// ten times as long for one phase: a machine that is busy takes long for what is much.
func (k *kitchen) built(t *testing.T, id string, limit time.Duration) *jobs.Job {
	t.Helper()
	phase, done, waits, phaseWaits := "", uint64(0), patient(limit), patient(10*limit)
	for {
		job, err := k.jobs.Get(t.Context(), id)
		switch {
		case err != nil:
			t.Fatal(err)
		case job.State == jobs.Succeeded:
			return job
		case job.State.Ended() || job.State == jobs.Paused:
			t.Fatalf("the rebuild did not succeed:\n%s", describe(job))
		case waits.over(), phaseWaits.over():
			t.Fatalf("after %v without progress, or ten times that, the rebuild is still in phase %s:\n%s", limit, phase, describe(job))
		}
		if job.Progress.Phase != phase {
			phase, phaseWaits, done = job.Progress.Phase, patient(10*limit), 0
		}
		if at := job.Progress.Done + 1; at != done {
			done, waits = at, patient(limit)
		}
		pause(t, 20*time.Millisecond, nil)
	}
}

// first builds projections for the first time.
func (k *kitchen) first(t *testing.T, names ...string) {
	t.Helper()
	var ids []string
	for _, name := range names {
		ids = append(ids, k.order(t, rebuild.Spec{Projection: name}, ""))
	}
	for _, id := range ids {
		k.built(t, id, time.Minute)
	}
}
