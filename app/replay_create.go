package app

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

const replayCreateHelp = `Create a replay: a job that the next free "reservoir worker" runs.

Everything is checked first: the range, the filter, the target. What is wrong is refused before anything is written. The range is fixed now:
an open end is where the archive of each stream ends at this moment, unless --follow.

--dry-run prints what "reservoir replay estimate" does, and creates nothing.`

const replayCreateExample = `  reservoir replay create --stream shop:payments --tenant acme --from 2026-11-20 --to 2026-11-20 --into 'redis:{stream}:replay' --rate 500
  reservoir replay create --stream 'shop:*' --type 'Order*' --into https://staging.example.com/events --speed 60x --max-silence 5s --watch
  reservoir replay create --file replay.yaml --dry-run`

// creation is what a person says about a replay, beside what it does.
type creation struct {
	replayFlags
	name, reason, key string
	dryRun, asJSON    bool
}

func (c *creation) register(flags *pflag.FlagSet) {
	c.replayFlags.register(flags)
	flags.StringVar(&c.name, "name", "", "`name` for people")
	flags.StringVar(&c.reason, "reason", "", "`why` it is done, for the history")
	flags.StringVar(&c.key, "idempotency-key", "", "`text` of your own: creating again with it gives the same replay")
	flags.BoolVar(&c.dryRun, "dry-run", false, "print the estimate, and create nothing")
	flags.BoolVar(&c.asJSON, "json", false, "print JSON")
}

func (c *creation) options(paused bool) replay.CreateOptions {
	return replay.CreateOptions{Name: c.name, Reason: c.reason, IdempotencyKey: c.key, Paused: paused}
}

// needs is what a replay needs of the bucket. here says that it runs in this process.
func (c *creation) needs(spec *replay.Spec, here bool) servicesSpec {
	return servicesSpec{redis: c.redisTarget() || needsRedis(spec), askRedis: c.intoRedis() || asksRedis(spec), probe: !c.dryRun, here: here}
}

// with reads the flags, opens what they need, and works with both.
func (c *creation) with(ctx context.Context, a *app, cmd *cobra.Command, here bool, work func(b backend, spec replay.Spec) error) error {
	spec, err := c.read(a, cmd)
	if err != nil {
		return err
	}
	return a.with(ctx, c.needs(&spec, here), func(b backend) error {
		if err := c.target(b, &spec); err != nil {
			return err
		}
		return work(b, spec)
	})
}

func newReplayCreateCmd(app *app) *cobra.Command {
	var c creation
	var watch, paused bool
	cmd := &cobra.Command{
		Use:     "create",
		Short:   "Create a replay for the workers to run",
		Long:    replayCreateHelp,
		Example: replayCreateExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return c.with(ctx, app, cmd, false, func(b backend, spec replay.Spec) error {
				if c.dryRun {
					return app.estimate(ctx, b, spec, replay.EstimateOptions{Sample: true}, c.asJSON)
				}
				job, err := b.createReplay(ctx, spec, c.options(paused))
				if err != nil {
					return refused(err)
				}
				app.warnOfPlan(ctx, b, job.ID)
				if watch {
					fmt.Fprintf(app.stderr, "replay %s\n", job.ID)
					return app.watchJob(ctx, b, replayKind(), job.ID, c.asJSON)
				}
				if c.asJSON {
					return app.printJob(job)
				}
				return app.printCreated(replayKind(), job)
			})
		},
	}
	c.register(cmd.Flags())
	cmd.Flags().BoolVar(&watch, "watch", false, "show its progress until it ends")
	cmd.Flags().BoolVar(&paused, "paused", false, "create it paused: it waits for `reservoir replay resume`")
	return remotely(cmd)
}

// warnOfPlan says what the one who asked may not expect.
func (a *app) warnOfPlan(ctx context.Context, b replayBackend, id string) {
	plan, err := b.plan(ctx, id)
	if err != nil {
		a.logger.Warn("the plan of the replay could not be read", "error", err)
		return
	}
	a.warnAll(plan.Warnings)
}

func (a *app) warnAll(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", cellText.Replace(w))
	}
}

func (a *app) printCreated(k *jobKind, job *jobs.Job) error {
	next := "it runs as soon as a `reservoir worker` is free"
	if job.State == jobs.Paused {
		next = "it is paused: `" + k.command("resume", job.ID) + "` starts it"
	}
	return a.printf("%s\n  %s\n  see it run: %s\n", job.ID, next, k.command("watch", job.ID))
}
