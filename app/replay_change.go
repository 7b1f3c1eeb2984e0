package app

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/jobs"
)

// newReplayChangeCmds makes the commands by which people change a replay.
func newReplayChangeCmds(app *app) []*cobra.Command {
	type change = func(s *jobs.Store, ctx context.Context, id string, c jobs.Change) (*jobs.Job, error)
	command := func(use, short, done string, do change) *cobra.Command {
		var reason string
		var asJSON bool
		cmd := &cobra.Command{
			Use:     use + " ID",
			Short:   short,
			Example: "  reservoir replay " + use + " 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
			Args:    oneReplay,
			RunE: func(cmd *cobra.Command, args []string) error {
				store, _, err := app.openJobs(cmd.Context())
				if err != nil {
					return err
				}
				job, err := do(store, cmd.Context(), args[0], jobs.Change{By: app.user(), Reason: reason})
				if err != nil {
					return withListRemedy(err)
				}
				if asJSON {
					return app.printJSON(job)
				}
				return app.printf("%s %s: %s\n", job.ID, job.State, done)
			},
		}
		cmd.Flags().StringVar(&reason, "reason", "", "`why`, for the history")
		cmd.Flags().BoolVar(&asJSON, "json", false, "print the replay as JSON")
		return cmd
	}
	return []*cobra.Command{
		command("pause", "Pause a replay: it keeps its place", "its worker stops within seconds; `reservoir replay resume` goes on where it was", (*jobs.Store).Pause),
		command("resume", "Go on with a paused replay", "it goes on as soon as a `reservoir worker` is free", (*jobs.Store).Resume),
		command("cancel", "End a replay for good; what was sent stays sent", "a `reservoir worker` cleans up", (*jobs.Store).Cancel),
		command("retry", "Go on with a failed replay, where it was", "it goes on as soon as a `reservoir worker` is free", (*jobs.Store).Retry),
	}
}
