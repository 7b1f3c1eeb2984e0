package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection/examples"
	"github.com/reservoirhq/reservoir/rebuild"
)

// The mistake that is planted in a definition, and what is right.
const (
	Mended       = "revenue" // the projection
	MistakeTypes = `types: ["Order*"]`
	RightTypes   = "types: [OrderPaid]"
)

// When the tables are built, and the mistake is noticed, as a share of the events.
const (
	buildAt  = 0.10
	noticeAt = 0.60
)

// lookForJobsEvery is how often jobs are looked at that are waited for.
const lookForJobsEvery = 100 * time.Millisecond

// Tables is what became of the projections.
type Tables struct {
	Orders, Steps, Spans uint64 // orders, their events, and spans of traces: as many as the shop wrote down
	Paid                 Sales  // of all tenants
	Asked                int    // how often an analyst was answered meanwhile
	Rebuild              string // the job that mended the table
	Query                string // URL of ClickHouse
}

// tables is the part of the demo that is about projections.
type tables struct {
	*Demo
	books   *books
	analyst *analyst
	share   func() float64 // of the events that are published

	worker, projector *stack.Program
	rebuild           string // the job that mends
}

// startTables prepares the projections; nil where they are not shown.
func (d *Demo) startTables(share func() float64) *tables {
	if d.servers.clickhouse == nil {
		return nil
	}
	return &tables{Demo: d, books: d.books, analyst: &analyst{engine: d.servers.clickhouse}, share: share}
}

// projections are those of the examples that are shown.
func projections() []string { return []string{"orders", "order_timeline", Mended, "traces"} }

// writeDefinitions writes the example projections into the demo's directory, one of
// them with a mistake.
func (d *Demo) writeDefinitions() error {
	if err := os.MkdirAll(d.definitionsDir(), 0o700); err != nil {
		return err
	}
	files := examples.Files()
	names := []string{"events.jsonl"} // and what the tables must make of them, for `projections test`
	for _, p := range projections() {
		names = append(names, p+".yaml", p+".rows.jsonl")
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(d.definitionsDir(), name), text, 0o600); err != nil {
			return err
		}
	}
	return d.edit(RightTypes, MistakeTypes)
}

func (d *Demo) definitionsDir() string { return filepath.Join(d.dir, "projections") }

// edit replaces a line of the definition that is mended.
func (d *Demo) edit(from, to string) error {
	file := filepath.Join(d.definitionsDir(), Mended+".yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if strings.Count(string(text), from) != 1 {
		return fmt.Errorf("%s does not have %q once", file, from)
	}
	return os.WriteFile(file, []byte(strings.Replace(string(text), from, to, 1)), 0o600)
}

// tell builds the tables, and mends the one that is wrong, while events are published.
func (t *tables) tell(ctx context.Context) error {
	if err := t.until(ctx, "all streams are archived", t.archived); err != nil {
		return err
	}
	if err := t.build(ctx); err != nil {
		return fmt.Errorf("build the projections: %w", err)
	}
	t.analyst.begin(ctx)
	if err := t.until(ctx, "most events are published", func(context.Context) (bool, error) { return t.share() >= noticeAt, nil }); err != nil {
		return err
	}
	if err := t.mend(ctx); err != nil {
		return fmt.Errorf("mend %s: %w", Mended, err)
	}
	return nil
}

// until waits until something is so.
func (t *tables) until(ctx context.Context, what string, so func(context.Context) (bool, error)) error {
	tick := time.NewTicker(lookForJobsEvery)
	defer tick.Stop()
	began, last := time.Now(), t.share()
	for {
		if ok, err := so(ctx); err != nil || ok {
			return err
		}
		if share := t.share(); share != last {
			began, last = time.Now(), share
		}
		if time.Since(began) > patience {
			return fmt.Errorf("waited %s until %s%s", patience, what, t.lastOutput())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *tables) lastOutput() string {
	text := ""
	for _, p := range []*stack.Program{t.worker, t.projector} {
		if p != nil {
			text += p.LastOutput()
		}
	}
	return text
}

func (t *tables) archived(ctx context.Context) (bool, error) {
	if t.share() < buildAt {
		return false, nil
	}
	n := 0
	for st, err := range archiver.Statuses(ctx, nil, t.archive, archiver.StatusSpec{Streams: shop.Streams}) {
		if err != nil {
			return false, err
		}
		if st.Archived {
			n++
		}
	}
	return n == len(shop.Streams), nil
}

// build starts a worker, and a projector that has it build the tables and keeps them
// live. What the tables cannot use is set aside, and a person would look at that first:
// here it is approved beforehand.
func (t *tables) build(ctx context.Context) (err error) {
	if t.worker, err = t.startProgram(ctx, "worker"); err != nil {
		return err
	}
	if t.projector, err = t.startProgram(ctx, "projector", "--build"); err != nil {
		return err
	}
	set, err := examples.Load()
	if err != nil {
		return err
	}
	built := Built{}
	for _, name := range projections() {
		d, err := set.Get(name)
		if err != nil {
			return err
		}
		built.Tables = append(built.Tables, d.Table.Name)
	}
	t.opts.Show(Building{t.worker.Pid(), t.projector.Pid(), built.Tables})
	store := jobs.NewStore(t.store, jobs.StoreOptions{})
	approved, ended := map[string]bool{}, map[string]bool{}
	err = t.until(ctx, "the tables are built", func(ctx context.Context) (bool, error) {
		for job, err := range store.List(ctx, jobs.Query{Kinds: []string{rebuild.Kind}}) {
			if err == nil && !approved[job.ID] {
				_, err = rebuild.Approve(ctx, store, job.ID, "demo")
				approved[job.ID] = err == nil
			}
			if err == nil && job.State.Ended() {
				ended[job.ID], err = true, mustSucceed(job)
			}
			if err != nil {
				return false, err
			}
		}
		return len(ended) == len(built.Tables), nil
	})
	if err != nil {
		return err
	}
	for id := range ended {
		found, err := rebuild.ReadVerification(ctx, store.Files(id))
		if err != nil {
			return err
		}
		built.Events += found.Events
		built.Rows += found.Rows
		built.DeadLetters += found.Letters
	}
	t.opts.Show(built)
	return nil
}

func (t *tables) startProgram(ctx context.Context, name string, args ...string) (*stack.Program, error) {
	p, err := stack.StartProgram(ctx, "the "+name, stack.ProgramOptions{
		Path: t.opts.Program,
		Args: append([]string{name, "--config", t.ConfigFile()}, args...),
		Env:  cleanEnvironment(),
		Dir:  filepath.Join(t.dir, name),
	})
	if err == nil {
		t.programs = append(t.programs, p)
	}
	return p, err
}

func mustSucceed(job *jobs.Job) error {
	if job.State == jobs.Succeeded {
		return nil
	}
	return fmt.Errorf("rebuild %s of %s %s: %s", job.ID, job.Target, job.State, job.StateReason)
}

// mend shows that a table is wrong, corrects its definition, and has it rebuilt.
func (t *tables) mend(ctx context.Context) error {
	if err := t.ask(ctx, func(a Answer) Notice { return Noticed{a} }); err != nil {
		return err
	}
	if err := t.edit(MistakeTypes, RightTypes); err != nil {
		return err
	}
	t.opts.Show(Corrected{})
	text, err := t.command(ctx, "rebuild", "create", Mended, "--reason", "orders were counted three times", "--json")
	if err != nil {
		return err
	}
	var job jobs.Job
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return fmt.Errorf("read the rebuild: %w", err)
	}
	t.rebuild = job.ID
	store := jobs.NewStore(t.store, jobs.StoreOptions{})
	if err := t.rebuilt(ctx, store, jobs.Paused); err != nil { // for approval
		return err
	}
	found, err := rebuild.ReadVerification(ctx, store.Files(job.ID))
	if err != nil {
		return err
	}
	t.opts.Show(Compared{job.ID, *found})
	if _, err := t.command(ctx, "rebuild", "approve", job.ID); err != nil {
		return err
	}
	if err := t.rebuilt(ctx, store, jobs.Succeeded); err != nil {
		return err
	}
	return t.ask(ctx, func(a Answer) Notice { return Swapped{a} })
}

// rebuilt waits until the rebuild is in a state.
func (t *tables) rebuilt(ctx context.Context, store *jobs.Store, want jobs.State) error {
	return t.until(ctx, "the rebuild "+string(want), func(ctx context.Context) (bool, error) {
		job, err := store.Get(ctx, t.rebuild)
		if err != nil || job.State == want {
			return err == nil, err
		}
		if job.State.Ended() {
			return false, mustSucceed(job)
		}
		return false, nil
	})
}

// ask shows what the table and the shop's own books say of the largest tenant.
func (t *tables) ask(ctx context.Context, notice func(Answer) Notice) error {
	books := t.books.sales()[shop.Tenants[0]]
	table, err := t.analyst.sales(ctx)
	if err != nil {
		return err
	}
	t.opts.Show(notice(Answer{shop.Tenants[0], table[shop.Tenants[0]], books}))
	return nil
}

// settle waits until the tables have everything, rolls back and forth, and says what is
// wrong, if anything is.
func (t *tables) settle(ctx context.Context) (_ *Tables, problems []string, err error) {
	defer func() {
		problems = append(problems, t.analyst.end()...)
		err = errors.Join(err, t.projector.Stop(), t.worker.Stop())
	}()
	if problems, err = t.compare(ctx); err != nil || len(problems) > 0 {
		return nil, problems, err
	}
	for _, roll := range []struct {
		to     string
		notice func(Answer) Notice
	}{
		{firstGeneration, func(a Answer) Notice { return RolledBack{a} }},
		{mendedGeneration, func(a Answer) Notice { return RolledForth{a} }},
	} {
		if _, err := t.command(ctx, "rebuild", "rollback", Mended, "--to", roll.to); err != nil {
			return nil, nil, err
		}
		if err := t.ask(ctx, roll.notice); err != nil {
			return nil, nil, err
		}
	}
	if problems, err = t.compare(ctx); err != nil || len(problems) > 0 {
		return nil, problems, err
	}
	result := &Tables{Asked: t.analyst.answered(), Rebuild: t.rebuild, Query: t.servers.clickhouse.HTTPURL()}
	result.Orders, result.Steps, result.Spans = t.books.totals()
	for _, s := range t.books.sales() {
		result.Paid.Orders += s.Orders
		result.Paid.Cents += s.Cents
	}
	return result, nil, nil
}

// The generations of the table that is mended.
const firstGeneration, mendedGeneration = "1", "2"

// tablesPatience is how long the tables may be behind once all is published.
const tablesPatience = 20 * time.Second

// compare waits until the tables are what the books say, and otherwise says how they
// differ.
func (t *tables) compare(ctx context.Context) (problems []string, err error) {
	began := time.Now()
	err = t.until(ctx, "the tables are what was published", func(ctx context.Context) (bool, error) {
		problems, err = t.analyst.differences(ctx, t.books)
		return len(problems) == 0 || time.Since(began) > tablesPatience, err
	})
	return problems, err
}
