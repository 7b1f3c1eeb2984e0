package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

// newRebuildChangeCmds makes the commands by which people change a rebuild.
func newRebuildChangeCmds(app *app) []*cobra.Command {
	type change = func(s *jobs.Store, ctx context.Context, id string, c jobs.Change) (*jobs.Job, error)
	command := func(use, short, done string, do change) *cobra.Command {
		var reason string
		var asJSON bool
		cmd := &cobra.Command{
			Use:     use + " ID",
			Short:   short,
			Example: "  reservoir rebuild " + use + " 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
			Args:    oneRebuild,
			RunE: func(cmd *cobra.Command, args []string) error {
				store, _, err := app.openJobs(cmd.Context())
				if err != nil {
					return err
				}
				job, err := do(store, cmd.Context(), args[0], jobs.Change{By: app.user(), Reason: reason})
				if err != nil {
					return withRebuildList(err)
				}
				if asJSON {
					return app.printJSON(job)
				}
				return app.printf("%s %s: %s\n", job.ID, job.State, done)
			},
		}
		cmd.Flags().StringVar(&reason, "reason", "", "`why`, for the history")
		cmd.Flags().BoolVar(&asJSON, "json", false, "print the rebuild as JSON")
		return cmd
	}
	return []*cobra.Command{
		command("pause", "Pause a rebuild: it keeps its place", "its worker stops within seconds; `reservoir rebuild resume` goes on where it was", (*jobs.Store).Pause),
		command("resume", "Go on with a paused rebuild", "it goes on as soon as a `reservoir worker` is free", (*jobs.Store).Resume),
		command("cancel", "End a rebuild for good, and drop its new table", "a `reservoir worker` drops its tables", (*jobs.Store).Cancel),
		command("retry", "Go on with a failed rebuild, where it was", "it goes on as soon as a `reservoir worker` is free", (*jobs.Store).Retry),
	}
}

func newRebuildApproveCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "approve ID",
		Short:   "Let the new table take the place of the live one",
		Long:    `Let the new table take the place of the live one. "reservoir rebuild diff" shows how they differ. A rebuild that is not so far yet will not wait.`,
		Example: "  reservoir rebuild approve 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
		Args:    oneRebuild,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, _, err := app.openJobs(cmd.Context())
			if err != nil {
				return err
			}
			job, err := rebuild.Approve(cmd.Context(), store, args[0], app.user())
			if err != nil {
				return refusedRebuild(withRebuildList(err))
			}
			if asJSON {
				return app.printJSON(job)
			}
			return app.printf("%s %s: approved; it goes on as soon as a `reservoir worker` is free\n", job.ID, job.State)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the rebuild as JSON")
	return cmd
}

func newRebuildRollbackCmd(app *app) *cobra.Command {
	var asJSON bool
	var opts rebuild.RollbackOptions
	cmd := &cobra.Command{
		Use:   "rollback PROJECTION",
		Short: "Make the table live again that was live before",
		Long: `Make the table live again that was live before, in an instant. It is fed from where it was left, by the definition that it was built by, so it soon is where the other
one is. That one is kept in turn.

Called twice it does not go back and forth: to make the newer generation live again, or an older one that is kept, name it with --to.`,
		Example: `  reservoir rebuild rollback orders
  reservoir rebuild rollback orders --to 7`,
		Args: oneProjection,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r, err := app.openRebuilds(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, r.close()) }()
			opts.By = app.user()
			doc, err := r.rebuilds.RollbackTo(cmd.Context(), args[0], opts)
			if err != nil {
				return refusedRebuild(err)
			}
			if asJSON {
				return app.printJSON(doc)
			}
			return app.printf("generation %d of %s is live\n", doc.Live.Generation, doc.Name)
		},
	}
	cmd.Flags().Uint64Var(&opts.To, "to", 0, "the `generation` to make live; 0: the one before")
	cmd.Flags().BoolVar(&opts.Damaged, "damaged", false, "also one that is known to be damaged")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newRebuildWatchCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "watch ID",
		Short:   "Show a rebuild's progress until it ends or waits for a person",
		Example: "  reservoir rebuild watch 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
		Args:    oneRebuild,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, _, err := app.openJobs(cmd.Context())
			if err != nil {
				return err
			}
			return app.watchRebuild(cmd.Context(), store, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the rebuild as JSON when it has ended")
	return cmd
}

// watchRebuild shows a rebuild until it ends or waits for a person.
func (a *app) watchRebuild(ctx context.Context, store *jobs.Store, id string, asJSON bool) error {
	display := a.newReplayDisplay()
	defer display.close()
	for job, err := range store.Watch(ctx, id, watchEvery) {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return withRebuildList(err)
		}
		display.show(job)
		if job.State.Ended() || job.State == jobs.Paused {
			display.close()
			return a.rebuildEnded(job, asJSON)
		}
	}
	return nil
}

// rebuildEnded says how a rebuild ended, and gives what the command then ends with.
func (a *app) rebuildEnded(job *jobs.Job, asJSON bool) error {
	if asJSON {
		if err := a.printJSON(job); err != nil {
			return err
		}
	} else if err := a.printf("%s\n", stateText(job)); err != nil {
		return err
	}
	switch job.State {
	case jobs.Succeeded:
		return nil
	case jobs.Failed:
		err := fmt.Errorf("rebuild %s failed", job.ID)
		what := "`reservoir rebuild show " + job.ID + "` shows what happened; `reservoir rebuild retry " + job.ID + "` goes on where it was"
		if f := job.LastError; f != nil {
			err = fmt.Errorf("rebuild %s failed: %s", job.ID, f.Message)
			if f.Remedy != "" {
				what = f.Remedy + "\n" + what
			}
		}
		return remedy.Wrap(err, what)
	default:
		return errProblems
	}
}
