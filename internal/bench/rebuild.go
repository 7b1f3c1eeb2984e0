package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
	server time.Duration // CPU of ClickHouse
	hand   byHand        // one statement, on average just before and just after
}

// byHand is what a statement by hand took.
type byHand struct{ took, cpu time.Duration }

// ratio is how fast something was that took so long, as one statement by hand is 1.
func (r *rebuilt) ratio(took time.Duration) float64 { return r.hand.took.Seconds() / took.Seconds() }

// load is how long the chunks took, with their journal and their proofs.
func (r *rebuilt) load() time.Duration { return r.phases[rebuild.PhaseLoad] }

// rebuildRound are the rebuilds of one round, by the names of their steps.
type rebuildRound map[string]*rebuilt

// rebuildStep is one rebuild of a round.
type rebuildStep struct {
	name, part string // the part is as in -only
	table      string // that of steps with the same name is rebuilt
	kind       projection.Kind
	way        rebuild.Way
}

const pushedStep, againStep, sentStep, mappedStep = "load, pushed down", "again, beside the live table", "load, SELECT over batches", "load, map in Go"

func rebuildSteps() []rebuildStep {
	return []rebuildStep{
		{pushedStep, "push", "pushed", projection.SQL, rebuild.WayPushdown},
		{sentStep, "send", "sent", projection.SQL, rebuild.WayGo},
		{mappedStep, "map", "mapped", projection.Map, rebuild.WayGo},
		{againStep, "compare", "pushed", projection.SQL, rebuild.WayPushdown},
	}
}

// wants says whether a part is to be measured.
func (o *options) wants(parts ...string) bool {
	return o.only == "" || slices.ContainsFunc(parts, func(part string) bool { return slices.Contains(strings.Split(o.only, ","), part) })
}

// benchRebuild compares rebuilds with one INSERT SELECT by hand, and looks at what
// folds hold and what a scope saves.
func benchRebuild(ctx context.Context, opts options) error {
	setDefault(&opts.events, 5_000_000)
	within := withServers
	if opts.dir != "" {
		within = func(ctx context.Context, f func(*servers) error) error { return withServersIn(ctx, opts.dir, f) }
	}
	return within(ctx, func(s *servers) (err error) {
		b, err := newRebuildBench(ctx, s, opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.engine.Close()) }()
		if err := b.archiveAll(ctx); err != nil {
			return err
		}
		fmt.Fprintf(opts.out, "%d events archived, %d clustered by tenant, and %d of %d aggregates; %d rounds\n\n",
			opts.events, clusteredShare*opts.events, 2*(opts.events/aggregatesShare), opts.events/aggregatesShare, opts.rounds)
		t := newTable(opts.out)
		if opts.wants("push", "send", "map") {
			if err := b.loads(ctx, t); err != nil {
				return err
			}
		}
		if opts.wants("scope") {
			if err := b.scoped(ctx, t); err != nil {
				return err
			}
		}
		if opts.wants("fold") {
			return b.fold(ctx, t)
		}
		return nil
	})
}

// loads measures the rounds. The first statements of all find cold caches, whether by
// hand or not: they are not counted.
func (b *rebuildBench) loads(ctx context.Context, t table) error {
	if _, _, err := b.byHand(ctx); err != nil {
		return err
	}
	warm := *b
	warm.opts.only = "push"
	if _, err := warm.round(ctx, rebuildSteps()[:1]); err != nil {
		return err
	}
	b.made = warm.made
	var rounds []rebuildRound
	for i := range b.opts.rounds {
		r, err := b.round(ctx, rebuildSteps())
		if err != nil {
			return err
		}
		rounds = append(rounds, r)
		fmt.Fprintf(b.opts.out, "round %d%s:", i+1, machineLoad())
		for name, step := range r {
			fmt.Fprintf(b.opts.out, " %s %.2f s (all of it %.2f s, by hand %.2f s);", name, step.load().Seconds(), step.span.Seconds(), step.hand.took.Seconds())
		}
		fmt.Fprintln(b.opts.out)
	}
	b.printRounds(t, rounds)
	return nil
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

// newRebuildBench starts ClickHouse. This program is the worker, but in a test, where it is
// built. The caller closes the engine.
func newRebuildBench(ctx context.Context, s *servers, opts options) (*rebuildBench, error) {
	// Names are new ones also where the archive is not: it knows of those before.
	b := &rebuildBench{servers: s, opts: opts, self: filepath.Join(s.dir, "bench"), made: int(time.Now().Unix())}
	if err := b.worker(ctx); err != nil {
		return nil, err
	}
	var err error
	if b.like, err = exampleOrders(); err != nil {
		return nil, err
	}
	data := filepath.Join(s.dir, "clickhouse")
	if err := os.RemoveAll(data); err != nil {
		return nil, err
	}
	b.engine, err = stack.StartClickHouse(ctx, stack.ClickHouseOptions{Dir: data})
	return b, err
}

// worker finds or builds the program of workers.
func (b *rebuildBench) worker(ctx context.Context) (err error) {
	if !testing.Testing() {
		b.self, err = os.Executable()
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.self, "github.com/reservoirhq/reservoir/internal/bench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the worker: %w: %s", err, out)
	}
	return nil
}

// round measures every step that is wanted once, and before, after and between them
// the statement by hand.
func (b *rebuildBench) round(ctx context.Context, steps []rebuildStep) (rebuildRound, error) {
	r := rebuildRound{}
	before, sum, err := b.byHand(ctx)
	if err != nil {
		return r, err
	}
	b.made++
	for _, step := range steps {
		if !b.opts.wants(step.part) {
			continue
		}
		name := fmt.Sprintf("%s_%d", step.table, b.made)
		done, err := b.rebuild(ctx, ordersDefinition(b.like, name, source, step.kind), rebuild.Spec{Projection: name, Way: step.way})
		if err == nil {
			done.sum, err = b.fingerprint(ctx, name)
		}
		if err == nil && done.sum != sum {
			err = fmt.Errorf("the table %s is %s, and that by hand %s", name, done.sum, sum)
		}
		if err != nil {
			return r, err
		}
		after, _, err := b.byHand(ctx)
		if err != nil {
			return r, err
		}
		done.hand = byHand{(before.took + after.took) / 2, (before.cpu + after.cpu) / 2}
		before = after
		r[step.name] = &done
	}
	return r, b.dropTables(ctx)
}

// byHand loads everything with one statement and all threads, into a table that it
// drops again.
func (b *rebuildBench) byHand(ctx context.Context) (r byHand, fingerprint string, err error) {
	const name = "by_hand"
	var columns, names []string
	for _, c := range b.like.Table.Columns {
		columns = append(columns, chstore.Identifier(c.Name)+" "+c.Type)
		names = append(names, c.Name)
	}
	if _, err := b.engine.Query(ctx, fmt.Sprintf("CREATE TABLE %s (%s) ENGINE = MergeTree ORDER BY (tenant, order_id)", name, strings.Join(columns, ", "))); err != nil {
		return r, "", err
	}
	statement := fmt.Sprintf(`INSERT INTO %s (%s)
WITH events AS (SELECT *, event_type AS type, aggregate_version AS version
  FROM s3('%s/%s/%s/**.parquet', '%s', '%s', 'Parquet'))
SELECT * FROM (%s) SETTINGS use_hive_partitioning = 0`,
		name, chstore.Identifiers(names), b.s3.Endpoint(), b.s3.Bucket(), source, stack.S3AccessKey, stack.S3SecretKey, strings.TrimSpace(b.like.Select))
	cpu, err := processTime(b.engine.Pid())
	if err != nil {
		return r, "", err
	}
	began := time.Now()
	if _, err := b.engine.Query(ctx, statement); err != nil {
		return r, "", fmt.Errorf("load by hand: %w", err)
	}
	r.took = time.Since(began)
	if r.cpu, err = processTime(b.engine.Pid()); err != nil {
		return r, "", err
	}
	r.cpu -= cpu
	if fingerprint, err = b.fingerprint(ctx, name); err != nil {
		return r, "", err
	}
	_, err = b.engine.Query(ctx, "DROP TABLE "+name+" SYNC")
	return r, fingerprint, err
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
	profile := ""
	if b.opts.profiles != "" {
		profile = filepath.Join(b.opts.profiles, fmt.Sprintf("%s-%d.pprof", spec.Projection, time.Now().UnixMilli()))
	}
	task, err := json.Marshal(rebuildTask{
		ClickHouse: b.engine.URL(), Redis: b.redis.URL(), Endpoint: b.s3.Endpoint(), Bucket: b.s3.Bucket(), Prefix: prefix,
		StateDir: filepath.Join(b.dir, "states"), Definition: definition, Spec: spec, Profile: profile,
	})
	if err != nil {
		return r, err
	}
	var out []byte
	cpu, err := processTime(b.engine.Pid())
	if err != nil {
		return r, err
	}
	worker := &servers{redis: b.redis, s3: b.s3, dir: b.dir, program: b.self, env: []string{taskVariable + "=" + string(task)}}
	if r.childRun, out, err = worker.child(ctx, b.storeURL(false, prefix), "rebuild-worker"); err != nil {
		return r, fmt.Errorf("rebuild %s: %w", spec.Projection, err)
	}
	if r.server, err = processTime(b.engine.Pid()); err != nil {
		return r, err
	}
	r.server -= cpu
	if err := json.Unmarshal(out, &r.rebuildDone); err != nil {
		return r, fmt.Errorf("what the worker says of %s: %w", spec.Projection, err)
	}
	r.phases, r.span = phases(r.Job), r.Job.EndedAt.Sub(r.Job.StartedAt)
	return r, nil
}

func (b *rebuildBench) printRounds(t table, rounds []rebuildRound) {
	of := func(step string, f func(*rebuilt) float64) float64 {
		return medianOf(rounds, func(r rebuildRound) float64 { return f(r[step]) })
	}
	events := float64(b.opts.events)
	for _, c := range []struct{ step, target string }{{pushedStep, ">= 0.90"}, {sentStep, ""}, {mappedStep, ">= 0.60"}, {againStep, ""}} {
		if rounds[0][c.step] == nil {
			continue
		}
		t.row("one INSERT SELECT FROM s3() by hand", "events/s", of(c.step, func(r *rebuilt) float64 { return events / r.hand.took.Seconds() }), "")
		t.row(c.step, "events/s", of(c.step, func(r *rebuilt) float64 { return events / r.load().Seconds() }), "")
		t.row(c.step+" / by hand", "", of(c.step, func(r *rebuilt) float64 { return r.ratio(r.load()) }), c.target)
		t.row("all of the rebuild / by hand", "", of(c.step, func(r *rebuilt) float64 { return r.ratio(r.span) }), "")
		t.row("CPU of the worker", "µs/event", of(c.step, func(r *rebuilt) float64 { return micros(r.cpu) / events }), "")
		t.row("CPU of ClickHouse", "µs/event", of(c.step, func(r *rebuilt) float64 { return micros(r.server) / events }), "")
		t.row("CPU of ClickHouse by hand", "µs/event", of(c.step, func(r *rebuilt) float64 { return micros(r.hand.cpu) / events }), "")
		t.row("peak memory of the worker", "MiB", of(c.step, func(r *rebuilt) float64 { return float64(r.peak) / mebi }), "< 256")
		if c.step != pushedStep && c.step != againStep {
			continue
		}
		for _, phase := range []string{rebuild.PhaseCatchUp, rebuild.PhaseVerify, rebuild.PhaseHandOver} {
			t.row("of it: "+phase, "s", of(c.step, func(r *rebuilt) float64 { return r.phases[phase].Seconds() }), "")
		}
	}
}

const mebi = 1 << 20
