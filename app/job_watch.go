package app

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
)

// watchEvery is how often a job of other processes is looked at in the bucket.
const watchEvery = time.Second

func newWatchCmd(app *app, k *jobKind) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "watch ID",
		Short:   k.watches,
		Long:    k.watches + ". " + k.exits + "\nInterrupting it leaves the " + k.name + " alone.",
		Example: "  " + k.command("watch", anID),
		Args:    k.one,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), servicesSpec{jobsOnly: true}, func(b backend) error {
				return app.watchJob(cmd.Context(), b, k, args[0], asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the "+k.name+" as JSON when it has ended")
	return remotely(cmd)
}

// watchJob shows a job until it ends or waits for a person, and fails unless it went well.
func (a *app) watchJob(ctx context.Context, b backend, k *jobKind, id string, asJSON bool) error {
	display := a.newJobDisplay()
	display.joined = true
	defer display.close()
	for job, err := range b.watch(ctx, id) {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return k.listed(err)
		}
		display.show(job)
		if job.State.Ended() || k.waits && job.State == jobs.Paused {
			display.close()
			return a.ended(a.stdout, k, job, asJSON)
		}
	}
	return nil
}

// ended says how a job ended, and gives what the command then ends with.
func (a *app) ended(out io.Writer, k *jobKind, job *jobs.Job, asJSON bool) error {
	if asJSON {
		if err := a.printJob(job); err != nil {
			return err
		}
	} else if err := k.ended(out, job); err != nil {
		return err
	}
	switch {
	case job.State == jobs.Failed:
		err := fmt.Errorf("%s %s failed", k.name, job.ID)
		what := "`" + k.command("show", job.ID) + "` shows what happened; `" + k.command("retry", job.ID) + "` goes on where it was"
		if f := job.LastError; f != nil {
			err = fmt.Errorf("%s %s failed: %s", k.name, job.ID, f.Message)
			if f.Remedy != "" {
				what = f.Remedy + "\n" + what
			}
		}
		return remedy.Wrap(err, what)
	case job.State == jobs.Succeeded && !k.unwell(job):
		return nil
	default:
		return errProblems
	}
}

// stood reports whether a job was paused, or had failed, for a part of its time: that
// tells nothing about its pace.
func stood(job *jobs.Job) bool {
	return job.LogDropped > 0 || slices.ContainsFunc(job.Log, func(l jobs.LogEntry) bool {
		return strings.HasPrefix(l.Message, "resume") || strings.HasPrefix(l.Message, "retry")
	})
}

// printEnded sums up a replay that runs no more.
func printEnded(out io.Writer, job *jobs.Job) error {
	p := &job.Progress
	took := ""
	if !job.StartedAt.IsZero() && !job.EndedAt.IsZero() {
		d := job.EndedAt.Sub(job.StartedAt)
		took = " in " + humanDuration(d)
		if !stood(job) {
			took += fmt.Sprintf(" (%s)", humanRate(p.Done, d))
		}
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
