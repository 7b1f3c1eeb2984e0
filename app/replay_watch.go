package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
)

// watchEvery is how often a replay of other processes is looked at.
const watchEvery = time.Second

func newReplayWatchCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Show a replay's progress until it ends",
		Long: `Show a replay's progress until it ends. Exit status: 0 succeeded; 1 succeeded with dead letters, or cancelled; 3 failed.
Interrupting it leaves the replay alone.`,
		Example: "  reservoir replay watch 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
		Args:    oneReplay,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, _, err := app.openJobs(cmd.Context())
			if err != nil {
				return err
			}
			return app.watchReplay(cmd.Context(), store, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the replay as JSON when it has ended")
	return cmd
}

// watchReplay shows a replay until it ends, and fails unless it went well.
func (a *app) watchReplay(ctx context.Context, store *jobs.Store, id string, asJSON bool) error {
	display := a.newReplayDisplay()
	defer display.close()
	for job, err := range store.Watch(ctx, id, watchEvery) {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return withListRemedy(err)
		}
		display.show(job)
		if job.State.Ended() {
			display.close()
			return a.ended(a.stdout, job, asJSON)
		}
	}
	return nil
}

// ended says how a replay ended, and gives what the command then ends with.
func (a *app) ended(out io.Writer, job *jobs.Job, asJSON bool) error {
	if asJSON {
		if err := a.printJSON(job); err != nil {
			return err
		}
	} else if err := printEnded(out, job); err != nil {
		return err
	}
	switch {
	case job.State == jobs.Failed:
		err := fmt.Errorf("replay %s failed", job.ID)
		what := "`reservoir replay show " + job.ID + "` shows what happened; `reservoir replay retry " + job.ID + "` goes on where it was"
		if f := job.LastError; f != nil {
			err = fmt.Errorf("replay %s failed: %s", job.ID, f.Message)
			if f.Remedy != "" {
				what = f.Remedy + "\n" + what
			}
		}
		return remedy.Wrap(err, what)
	case job.State == jobs.Succeeded && job.Progress.DeadLetters == 0:
		return nil
	default:
		return errProblems
	}
}

// printEnded sums up a replay that runs no more.
func printEnded(out io.Writer, job *jobs.Job) error {
	p := &job.Progress
	took := ""
	if !job.StartedAt.IsZero() && !job.EndedAt.IsZero() {
		d := job.EndedAt.Sub(job.StartedAt)
		took = fmt.Sprintf(" in %s (%s)", humanDuration(d), humanRate(p.Done, d))
	}
	text := fmt.Sprintf("%s: %s of %s events replayed%s\n", job.State, humanCount(p.Selected-min(p.Selected, p.DeadLetters)), humanCount(p.Done), took)
	if job.State == jobs.Paused {
		text = fmt.Sprintf("%s\n  go on here: reservoir replay run %s\n  or by a worker: reservoir replay resume %s\n", stateText(job), job.ID, job.ID)
	}
	if p.DeadLetters > 0 {
		text += fmt.Sprintf("%d events were set aside: reservoir replay dead-letters list %s\n", p.DeadLetters, job.ID)
	}
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// withListRemedy says where the IDs are when there is no such job.
func withListRemedy(err error) error {
	if errors.Is(err, jobs.ErrNotFound) && remedy.Of(err) == "" {
		return remedy.Wrap(err, "`reservoir replay list --all` shows the replays that there are")
	}
	return err
}
