package app

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// replayShown is the output of show with --json.
type replayShown struct {
	shownJob
	Plan *replay.Frozen `json:"plan"`
}

func newReplayShowCmd(app *app) *cobra.Command {
	var asJSON bool
	k := replayKind()
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show all about one replay: what it does, how far it is, what happened",
		Example: "  " + k.command("show", anID),
		Args:    k.one,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), servicesSpec{}, func(b backend) error {
				job, _, err := getReplay(cmd.Context(), b, args[0])
				if err != nil {
					return err
				}
				plan, err := b.plan(cmd.Context(), job.ID)
				if err != nil {
					return err
				}
				if asJSON {
					return app.printJSON(replayShown{showJob(job), plan})
				}
				return app.printReplay(k, job, plan)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return remotely(cmd)
}

// getReplay gets a replay and its spec.
func getReplay(ctx context.Context, b jobBackend, id string) (*jobs.Job, *replay.Spec, error) {
	job, err := b.get(ctx, id)
	if err != nil {
		return nil, nil, replayKind().listed(err)
	}
	spec, err := specOf(job)
	return job, spec, err
}

func (a *app) printReplay(k *jobKind, job *jobs.Job, plan *replay.Frozen) error {
	if err := a.printHead(k, job, func(func(name, value string)) {}); err != nil {
		return err
	}
	if err := a.printReplayStreams(&job.Progress, plan); err != nil {
		return err
	}
	return a.printLog(job)
}

func (a *app) printReplayStreams(p *jobs.Progress, plan *replay.Frozen) error {
	if err := a.printf("\n"); err != nil {
		return err
	}
	t := a.table("STREAM", "RANGE", "UP TO", "DONE", "SELECTED")
	for i, s := range plan.Streams {
		if i == shownStreams {
			t.row(fmt.Sprintf("and %d more", len(plan.Streams)-i))
			break
		}
		done, selected := "0", "0"
		if i < len(p.Streams) {
			done, selected = humanCount(p.Streams[i].Done), humanCount(p.Streams[i].Selected)
		}
		t.row(s.Stream, s.Range.String(), s.Head.String(), done, selected)
	}
	return t.flush()
}

// specOf reads the spec of a replay.
func specOf(job *jobs.Job) (*replay.Spec, error) {
	spec := &replay.Spec{}
	if job.Kind != replay.Kind {
		return nil, usagef("job %s is a %s, not a replay", job.ID, job.Kind)
	}
	if err := json.Unmarshal(job.Spec, spec); err != nil {
		return nil, fmt.Errorf("read the spec of replay %s: %w", job.ID, err)
	}
	return spec, nil
}
