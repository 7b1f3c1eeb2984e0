package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// rebuildFlags are what a person says about a rebuild.
type rebuildFlags struct {
	spec               rebuild.Spec
	name, reason, key  string
	from, to, approval string
	way, format        string
	asJSON             bool
}

func (f *rebuildFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.spec.Scope.Tenants, "tenant", nil, "only the rows of this `tenant`; the rest is carried over")
	flags.StringSliceVar(&f.spec.Scope.Aggregates, "aggregate", nil, "only the rows of this `aggregate` ID; the rest is carried over")
	flags.StringVar(&f.from, "from", "", "only what occurred since this `time`; the rest is carried over")
	flags.StringVar(&f.to, "to", "", "only what occurred before this `time`; the rest is carried over")
	flags.StringVar(&f.approval, "approval", "", "automatic or required; default: as the definition says")
	flags.IntVar(&f.spec.Concurrency, "concurrency", rebuild.DefaultConcurrency, "chunks that are loaded at once")
	flags.Float64Var(&f.spec.Rate, "rate", 0, "load at most so many `events` a second; 0: no limit")
	flags.StringVar(&f.way, "way", "auto", "how events come to ClickHouse: pushdown (it reads the archive itself), go (through this program) or auto")
	flags.StringVar(&f.format, "format", "parquet", "which `format` of the archive is read: parquet or jsonl")
	flags.StringVar(&f.name, "name", "", "`name` for people")
	flags.StringVar(&f.reason, "reason", "", "`why` it is done, for the history")
	flags.StringVar(&f.key, "idempotency-key", "", "`text` of your own: creating again with it gives the same rebuild")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
}

func (f *rebuildFlags) read(projectionName string) (rebuild.Spec, error) {
	s := f.spec
	s.Projection, s.Approval, s.Way, s.Format = projectionName, projection.Approval(f.approval), rebuild.Way(f.way), archive.Format(f.format)
	for _, bound := range []struct {
		flag, text string
		to         *time.Time
	}{{"from", f.from, &s.Scope.From}, {"to", f.to, &s.Scope.To}} {
		if bound.text == "" {
			continue
		}
		parsed, err := event.ParseBound(bound.text, time.Now())
		if err != nil {
			return s, usageError{fmt.Errorf("--%s: %w", bound.flag, err)}
		}
		*bound.to = time.UnixMilli(int64(min(parsed.From.Ms, 1<<62))).UTC()
	}
	return s, nil
}

func (f *rebuildFlags) create(ctx context.Context, b backend, name string, paused bool) (*jobs.Job, error) {
	spec, err := f.read(name)
	if err != nil {
		return nil, err
	}
	job, err := b.createRebuild(ctx, spec, rebuild.CreateOptions{Name: f.name, Reason: f.reason, IdempotencyKey: f.key, Paused: paused})
	return job, refused(err)
}

func newRebuildCreateCmd(app *app) *cobra.Command {
	var f rebuildFlags
	var watch, paused bool
	cmd := &cobra.Command{
		Use:   "create PROJECTION",
		Short: "Create a rebuild for the workers to run",
		Long: `Create a rebuild: a job that the next free "reservoir worker" runs. The definition is tried on ClickHouse first, and what is wrong is refused.
What is archived now is planned; what comes later is caught up with.`,
		Example: `  reservoir rebuild create orders --watch
  reservoir rebuild create orders --tenant acme --approval automatic
  reservoir rebuild create order_timeline --from 2026-11-01 --to 2026-11-08`,
		Args: oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), forRebuilds(), func(b backend) error {
				job, err := f.create(cmd.Context(), b, args[0], paused)
				switch {
				case err != nil:
					return err
				case watch:
					fmt.Fprintf(app.stderr, "rebuild %s\n", job.ID)
					return app.watchJob(cmd.Context(), b, rebuildKind(), job.ID, f.asJSON)
				case f.asJSON:
					return app.printJob(job)
				}
				return app.printCreated(rebuildKind(), job)
			})
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&watch, "watch", false, "show its progress until it ends or waits for a person")
	cmd.Flags().BoolVar(&paused, "paused", false, "create it paused: it waits for `reservoir rebuild resume`")
	return remotely(cmd)
}

func newRebuildRunCmd(app *app) *cobra.Command {
	var f rebuildFlags
	cmd := &cobra.Command{
		Use:   "run PROJECTION|ID",
		Short: "Create a rebuild and run it here, or go on with one",
		Long: `Create a rebuild and run it in this process, with a progress bar; or, with an ID, go on with one that is paused, waits or was left by a process that died.
The first SIGINT or SIGTERM pauses it. Exit status: 0 succeeded; 1 paused (it may wait for approval) or cancelled; 3 failed; 130 interrupted.`,
		Example: `  reservoir rebuild run orders --approval automatic
  reservoir rebuild run 01KAJ4M5N6P7Q8R9S0T1V2W3X4`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			b, err := app.openBucket(cmd.Context(), forRebuilds())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, b.close()) }()
			id := args[0]
			if jobs.CheckID(id) != nil {
				job, err := f.create(cmd.Context(), b, id, true)
				if err != nil {
					return err
				}
				id = job.ID
			}
			return app.runRebuild(cmd.Context(), b.services, id, id == args[0], f.asJSON)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// runRebuild runs a rebuild in this process until it ends, one that was begun before or a
// new one. When ctx ends the rebuild is paused.
func (a *app) runRebuild(ctx context.Context, r *services, id string, begun, asJSON bool) error {
	fmt.Fprintf(a.stderr, "rebuild %s\n", id)
	display := a.newJobDisplay()
	display.joined = begun
	defer display.close()
	runner, err := jobs.NewRunner(r.jobs, jobs.RunnerOptions{
		Engines:  map[string]jobs.Engine{rebuild.Kind: r.rebuilds.Engine()},
		LeaseTTL: a.cfg.Jobs.LeaseTTL.D(), Poll: min(a.cfg.Jobs.Poll.D(), runPoll), PerTarget: a.cfg.Jobs.PerTarget,
		Reported: func(j jobs.Job) { display.show(&j) }, Logger: display.logger,
	})
	if err != nil {
		return err
	}
	runCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	stopWatching := context.AfterFunc(ctx, func() {
		if _, err := r.jobs.Pause(runCtx, id, jobs.Change{By: a.user(), Reason: "interrupted where it ran"}); err != nil {
			stop(context.Cause(ctx)) // it is given back instead, or has ended
		}
	})
	defer stopWatching()
	job, err := runner.RunOne(runCtx, id)
	display.close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return rebuildKind().listed(err)
	}
	return a.ended(a.stdout, rebuildKind(), job, asJSON)
}

func newRebuildDryRunCmd(app *app) *cobra.Command {
	var opts rebuild.DryRunOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dry-run PROJECTION",
		Short: "Show the rows that some events give, in a table that is dropped again",
		Example: `  reservoir rebuild dry-run orders --events 1000
  reservoir rebuild dry-run orders --aggregate 4711`,
		Args: oneProjection,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r, err := app.openServices(cmd.Context(), forRebuilds())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, r.close()) }()
			result, err := r.rebuilds.DryRun(cmd.Context(), args[0], opts)
			if err != nil {
				return refused(err)
			}
			if asJSON {
				return app.printJSON(result)
			}
			return app.printDryRun(result)
		},
	}
	cmd.Flags().IntVar(&opts.Events, "events", 1000, "take the first so `many` events of each stream")
	cmd.Flags().StringVar(&opts.Aggregate, "aggregate", "", "take the events of the aggregate with this `ID`, and look at all events for it")
	cmd.Flags().IntVar(&opts.Rows, "rows", 20, "show so `many` rows")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printDryRun(result *rebuild.DryRunResult) error {
	var header []string
	for _, c := range result.Rows.Columns {
		header = append(header, c.Name)
	}
	t := a.table(header...)
	for _, row := range result.Rows.Rows {
		var cells []string
		for _, v := range row {
			cells = append(cells, string(v))
		}
		t.row(cells...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for i := range result.DeadLetters {
		if err := a.printf("cannot be used: %s\n", cellText.Replace(result.DeadLetters[i].String())); err != nil {
			return err
		}
	}
	if more := result.Refused - uint64(len(result.DeadLetters)); more > 0 { //nolint:gosec // a length
		if err := a.printf("and %d more cannot be used\n", more); err != nil {
			return err
		}
	}
	return a.printf("%d events were read, %d selected\n", result.Read, result.Selected)
}
