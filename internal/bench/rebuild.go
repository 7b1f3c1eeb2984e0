package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// counted is the stream that the fold is made of.
const counted = "counted"

// aggregatesShare is the part of the events that the fold has as aggregates, each
// with two events: a million of five million.
const aggregatesShare = 5

// rebuildBench is what its parts share.
type rebuildBench struct {
	*servers
	engine *stack.ClickHouse
	like   *projection.Definition // its columns and its SELECT are measured
	self   string                 // this program, for workers
	opts   options
	made   int
}

// rebuilt is what one rebuild did and took.
type rebuilt struct {
	childRun
	rebuildDone
	phases map[string]time.Duration
	span   time.Duration // from its first acquisition to its end
	sum    string        // of the table's contents
}

// rebuildRound are the loads of one round: by hand, and by rebuilds of the same.
type rebuildRound struct {
	hand                        time.Duration
	pushed, again, sent, mapped rebuilt
}

// benchRebuild compares rebuilds with one INSERT SELECT by hand, and looks at what
// folds hold and what a scope saves.
func benchRebuild(ctx context.Context, opts options) error {
	setDefault(&opts.events, 5_000_000)
	return withServers(ctx, func(s *servers) (err error) {
		b, err := newRebuildBench(ctx, s, opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.engine.Close()) }()
		if err := b.archiveAll(ctx); err != nil {
			return err
		}
		fmt.Fprintf(opts.out, "%d events archived, again clustered by tenant, and %d of %d aggregates; %d rounds\n\n",
			opts.events, 2*(opts.events/aggregatesShare), opts.events/aggregatesShare, opts.rounds)
		// The first statement of all finds cold caches: it is not measured.
		var cold time.Duration
		if _, err := b.byHand(ctx, &cold); err != nil {
			return err
		}
		if err := b.dropTables(ctx); err != nil {
			return err
		}
		var rounds []rebuildRound
		for i := range opts.rounds {
			r, err := b.round(ctx)
			if err != nil {
				return err
			}
			rounds = append(rounds, r)
			fmt.Fprintf(opts.out, "round %d: by hand %.1f s, loads: pushed down %.1f s, SELECT over batches %.1f s, map in Go %.1f s; the whole rebuild %.1f s%s\n", i+1,
				r.hand.Seconds(), r.pushed.phases[rebuild.PhaseLoad].Seconds(), r.sent.phases[rebuild.PhaseLoad].Seconds(), r.mapped.phases[rebuild.PhaseLoad].Seconds(), r.pushed.span.Seconds(), machineLoad())
		}
		t := newTable(opts.out)
		b.printRounds(t, rounds)
		if err := b.scoped(ctx, t); err != nil {
			return err
		}
		return b.fold(ctx, t)
	})
}

// machineLoad tells what else goes on, where the system says so.
func machineLoad() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	one, _, _ := strings.Cut(string(text), " ")
	return " (load " + one + ")"
}

// newRebuildBench starts ClickHouse and builds the worker. The caller closes the
// engine.
func newRebuildBench(ctx context.Context, s *servers, opts options) (*rebuildBench, error) {
	b := &rebuildBench{servers: s, opts: opts, self: filepath.Join(s.dir, "bench")}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.self, "github.com/reservoirhq/reservoir/internal/bench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the worker: %w: %s", err, out)
	}
	var err error
	if b.like, err = exampleOrders(); err != nil {
		return nil, err
	}
	b.engine, err = stack.StartClickHouse(ctx, stack.ClickHouseOptions{Dir: filepath.Join(s.dir, "clickhouse")})
	return b, err
}

// round measures everything once, in turns.
func (b *rebuildBench) round(ctx context.Context) (r rebuildRound, err error) {
	sum, err := b.byHand(ctx, &r.hand)
	if err != nil {
		return r, err
	}
	b.made++
	for _, step := range []struct {
		to   *rebuilt
		name string
		kind projection.Kind
		way  rebuild.Way
	}{
		{&r.pushed, "pushed", projection.SQL, rebuild.WayPushdown},
		{&r.sent, "sent", projection.SQL, rebuild.WayGo},
		{&r.mapped, "mapped", projection.Map, rebuild.WayGo},
		{&r.again, "pushed", projection.SQL, rebuild.WayPushdown},
	} {
		name := fmt.Sprintf("%s_%d", step.name, b.made)
		*step.to, err = b.rebuild(ctx, ordersDefinition(b.like, name, source, step.kind), rebuild.Spec{Projection: name, Way: step.way})
		if err == nil {
			step.to.sum, err = b.fingerprint(ctx, name)
		}
		if err == nil && step.to.sum != sum {
			err = fmt.Errorf("the table %s is %s, and that by hand %s", name, step.to.sum, sum)
		}
		if err != nil {
			return r, err
		}
	}
	return r, b.dropTables(ctx)
}

// byHand loads everything with one statement and all threads.
func (b *rebuildBench) byHand(ctx context.Context, took *time.Duration) (fingerprint string, err error) {
	const name = "by_hand"
	var columns, names []string
	for _, c := range b.like.Table.Columns {
		columns = append(columns, chstore.Identifier(c.Name)+" "+c.Type)
		names = append(names, c.Name)
	}
	if _, err := b.engine.Query(ctx, fmt.Sprintf("CREATE TABLE %s (%s) ENGINE = MergeTree ORDER BY (tenant, order_id)", name, strings.Join(columns, ", "))); err != nil {
		return "", err
	}
	statement := fmt.Sprintf(`INSERT INTO %s (%s)
WITH events AS (SELECT *, event_type AS type, aggregate_version AS version
  FROM s3('%s/%s/%s/**.parquet', '%s', '%s', 'Parquet'))
SELECT * FROM (%s) SETTINGS use_hive_partitioning = 0`,
		name, chstore.Identifiers(names), b.s3.Endpoint(), b.s3.Bucket(), source, stack.S3AccessKey, stack.S3SecretKey, strings.TrimSpace(b.like.Select))
	began := time.Now()
	if _, err := b.engine.Query(ctx, statement); err != nil {
		return "", fmt.Errorf("load by hand: %w", err)
	}
	*took = time.Since(began)
	return b.fingerprint(ctx, name)
}

// fingerprint tells how many rows a table has and what they hold.
func (b *rebuildBench) fingerprint(ctx context.Context, table string) (string, error) {
	var names []string
	for _, c := range b.like.Table.Columns {
		names = append(names, c.Name)
	}
	out, err := b.engine.Query(ctx, fmt.Sprintf("SELECT count(), sum(cityHash64(%s)) FROM %s", chstore.Identifiers(names), table))
	return strings.Join(strings.Fields(out), " rows, sum "), err
}

// dropTables drops every table.
func (b *rebuildBench) dropTables(ctx context.Context) error {
	out, err := b.engine.Query(ctx, "SELECT name FROM system.tables WHERE database = currentDatabase()")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(out) {
		if _, err := b.engine.Query(ctx, "DROP TABLE "+chstore.Identifier(name)+" SYNC"); err != nil {
			return err
		}
	}
	return nil
}

// rebuild runs a rebuild in a worker process.
func (b *rebuildBench) rebuild(ctx context.Context, definition string, spec rebuild.Spec) (r rebuilt, err error) {
	prefix := map[bool]string{true: source, false: "more"}[strings.Contains(definition, fmt.Sprintf("streams: [%q]", source))]
	task, err := json.Marshal(rebuildTask{
		ClickHouse: b.engine.URL(), Redis: b.redis.URL(), Endpoint: b.s3.Endpoint(), Bucket: b.s3.Bucket(), Prefix: prefix,
		StateDir: filepath.Join(b.dir, "states"), Definition: definition, Spec: spec,
	})
	if err != nil {
		return r, err
	}
	var out []byte
	worker := &servers{redis: b.redis, s3: b.s3, dir: b.dir, program: b.self, env: []string{taskVariable + "=" + string(task)}}
	if r.childRun, out, err = worker.child(ctx, b.storeURL(false, prefix), "rebuild-worker"); err != nil {
		return r, fmt.Errorf("rebuild %s: %w", spec.Projection, err)
	}
	if err := json.Unmarshal(out, &r.rebuildDone); err != nil {
		return r, fmt.Errorf("what the worker says of %s: %w", spec.Projection, err)
	}
	r.phases, r.span = phases(r.Job), r.Job.EndedAt.Sub(r.Job.StartedAt)
	return r, nil
}

func (b *rebuildBench) printRounds(t table, rounds []rebuildRound) {
	of := func(f func(*rebuildRound) float64) float64 {
		return medianOf(rounds, func(r rebuildRound) float64 { return f(&r) })
	}
	rate := func(d time.Duration) float64 { return float64(b.opts.events) / d.Seconds() }
	load := func(r *rebuilt) time.Duration { return r.phases[rebuild.PhaseLoad] }
	t.row("one INSERT SELECT FROM s3() by hand", "events/s", of(func(r *rebuildRound) float64 { return rate(r.hand) }), "")
	for _, c := range []struct {
		what, target string
		of           func(*rebuildRound) *rebuilt
	}{
		{"load, pushed down", ">= 0.90", func(r *rebuildRound) *rebuilt { return &r.pushed }},
		{"load, SELECT over batches", ">= 0.60", func(r *rebuildRound) *rebuilt { return &r.sent }},
		{"load, map in Go", ">= 0.60", func(r *rebuildRound) *rebuilt { return &r.mapped }},
	} {
		t.row(c.what, "events/s", of(func(r *rebuildRound) float64 { return rate(load(c.of(r))) }), "")
		t.row(c.what+" / by hand", "", of(func(r *rebuildRound) float64 { return r.hand.Seconds() / load(c.of(r)).Seconds() }), c.target)
		t.row(c.what+", CPU of the worker", "µs/event", of(func(r *rebuildRound) float64 { return micros(c.of(r).cpu) / float64(b.opts.events) }), "")
		t.row(c.what+", peak memory of the worker", "MiB", of(func(r *rebuildRound) float64 { return float64(c.of(r).peak) / mebi }), "")
	}
	t.row("whole rebuild, pushed down, the first", "events/s", of(func(r *rebuildRound) float64 { return rate(r.pushed.span) }), "")
	t.row("whole rebuild / by hand", "", of(func(r *rebuildRound) float64 { return r.hand.Seconds() / r.pushed.span.Seconds() }), ">= 0.90")
	t.row("whole rebuild beside a live table, compared", "events/s", of(func(r *rebuildRound) float64 { return rate(r.again.span) }), "")
	t.row("whole rebuild, compared / by hand", "", of(func(r *rebuildRound) float64 { return r.hand.Seconds() / r.again.span.Seconds() }), "")
	for _, phase := range []string{rebuild.PhaseCatchUp, rebuild.PhaseVerify, rebuild.PhaseHandOver} {
		t.row("of it: "+phase, "s", of(func(r *rebuildRound) float64 { return r.again.phases[phase].Seconds() }), "")
	}
}

const mebi = 1 << 20
