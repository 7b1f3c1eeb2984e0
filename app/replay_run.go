package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

const replayRunHelp = `Create a replay and run it in this process, with a progress bar; or, with an ID, run one that is paused, waits or was left by a process that died.

The first SIGINT or SIGTERM pauses it: what is in hand is finished, and the command to go on is printed. The second aborts; the replay then is as after a
crash, and goes on all the same. Exit status: 0 succeeded; 1 succeeded with dead letters, paused or cancelled; 3 failed; 130 interrupted.

Here files may be anywhere, and --into - writes JSON lines to standard output.`

const replayRunExample = `  reservoir replay run --stream shop:payments --tenant acme --into 'redis:{stream}:replay' --rate 500/s
  reservoir replay run --stream shop:orders --from 2026-11-21 --into file:orders.jsonl
  reservoir replay run --stream orders --into redis:orders-restored --set ids=keep     restore a stream exactly
  reservoir replay run --stream 'shop:*' --speed 10x --into - | jq .
  reservoir replay run 01KAJ4M5N6P7Q8R9S0T1V2W3X4`

// runPoll is how often a replay that runs here is looked at for what others
// asked of it.
const runPoll = 500 * time.Millisecond

func newReplayRunCmd(app *app) *cobra.Command {
	var c creation
	cmd := &cobra.Command{
		Use:     "run [ID]",
		Short:   "Create a replay and run it here, or go on with one",
		Long:    replayRunHelp,
		Example: replayRunExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return replayKind().one(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if err := onlyFlags(cmd, "json"); err != nil {
					return err
				}
				return app.continueReplay(cmd.Context(), args[0], c.asJSON)
			}
			return app.createAndRun(cmd.Context(), cmd, &c)
		},
	}
	c.register(cmd.Flags())
	return cmd
}

// onlyFlags refuses flags of the command that would have no effect on a replay
// that is there already.
func onlyFlags(cmd *cobra.Command, allowed ...string) error {
	var others []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if cmd.InheritedFlags().Lookup(f.Name) == nil && !slices.Contains(allowed, f.Name) {
			others = append(others, "--"+f.Name)
		}
	})
	if len(others) > 0 {
		return usagef("a replay that is there already goes on as it was created: leave out %s, or leave out the ID to create another one", strings.Join(others, ", "))
	}
	return nil
}

func (a *app) createAndRun(ctx context.Context, cmd *cobra.Command, c *creation) (err error) {
	spec, err := c.read(a, cmd)
	if err != nil {
		return err
	}
	b, err := a.openBucket(ctx, c.needs(&spec, true))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := c.target(b, &spec); err != nil {
		return err
	}
	if c.dryRun {
		return a.estimate(ctx, b, spec, replay.EstimateOptions{Sample: true}, c.asJSON)
	}
	if spec.Sink.Type == "stdout" && c.asJSON {
		return usagef("--json prints the replay on standard output, where the events go: choose another target, or leave it out")
	}
	job, err := b.createReplay(ctx, spec, c.options(true))
	if err != nil {
		return refused(err)
	}
	a.warnOfPlan(ctx, b, job.ID)
	return a.runReplay(ctx, b.services, job, &spec, c.asJSON)
}

// continueReplay runs a replay that is there already.
func (a *app) continueReplay(ctx context.Context, id string, asJSON bool) (err error) {
	job, spec, err := a.findReplay(ctx, id)
	if err != nil {
		return err
	}
	b, err := a.openBucket(ctx, servicesSpec{redis: needsRedis(spec), askRedis: asksRedis(spec), probe: true, here: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	return a.runReplay(ctx, b.services, job, spec, asJSON)
}

// findReplay gets a replay and its spec, which says what else is to be opened.
func (a *app) findReplay(ctx context.Context, id string) (job *jobs.Job, spec *replay.Spec, err error) {
	err = a.with(ctx, servicesSpec{jobsOnly: true}, func(b backend) error {
		job, spec, err = getReplay(ctx, b, id)
		return err
	})
	return job, spec, err
}

// runReplay runs a replay in this process until it ends. When ctx ends the
// replay is paused.
func (a *app) runReplay(ctx context.Context, r *services, job *jobs.Job, spec *replay.Spec, asJSON bool) error {
	fmt.Fprintf(a.stderr, "replay %s\n", job.ID)
	display := a.newJobDisplay()
	defer display.close()
	runner, err := jobs.NewRunner(r.jobs, jobs.RunnerOptions{
		Engines:  map[string]jobs.Engine{replay.Kind: r.replays.Engine()},
		LeaseTTL: a.cfg.Jobs.LeaseTTL.D(), Poll: min(a.cfg.Jobs.Poll.D(), runPoll), PerTarget: a.cfg.Jobs.PerTarget,
		Reported: func(j jobs.Job) { display.show(&j) }, Logger: display.logger,
	})
	if err != nil {
		return err
	}
	runCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	stopWatching := context.AfterFunc(ctx, func() {
		change := jobs.Change{By: a.user(), Reason: "interrupted where it ran"}
		if _, err := r.jobs.Pause(runCtx, job.ID, change); err != nil {
			stop(context.Cause(ctx)) // it is given back instead, or has ended
		}
	})
	defer stopWatching()
	ran, err := runner.RunOne(runCtx, job.ID)
	display.close()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	out := a.stdout
	if spec.Sink.Type == "stdout" {
		out = a.stderr
	}
	return a.ran(ctx, out, ran, asJSON)
}

// ran says how a run ended.
func (a *app) ran(ctx context.Context, out io.Writer, job *jobs.Job, asJSON bool) error {
	if err := a.ended(out, replayKind(), job, asJSON); err != nil && !errors.Is(err, errProblems) || job.State.Ended() {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errProblems
}
