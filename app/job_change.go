package app

import (
	"github.com/spf13/cobra"
)

// newChangeCmds makes the commands by which people change jobs of a kind.
func newChangeCmds(app *app, k *jobKind) []*cobra.Command {
	const goesOn = "it goes on as soon as a `reservoir worker` is free"
	return []*cobra.Command{
		newChangeCmd(app, k, pauseJob, "Pause a "+k.name+": it keeps its place", "its worker stops within seconds; `"+k.command("resume", "")+"` goes on where it was"),
		newChangeCmd(app, k, resumeJob, "Go on with a paused "+k.name, goesOn),
		newChangeCmd(app, k, cancelJob, k.cancels, k.cancelled),
		newChangeCmd(app, k, retryJob, "Go on with a failed "+k.name+", where it was", goesOn),
	}
}

// newChangeCmd makes a command that changes a job; done is said of it then.
func newChangeCmd(app *app, k *jobKind, how verb, short, done string) *cobra.Command {
	var reason string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     string(how) + " ID",
		Short:   short,
		Example: "  " + k.command(string(how), anID),
		Args:    k.one,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), servicesSpec{jobsOnly: true}, func(b backend) error {
				job, err := b.change(cmd.Context(), how, args[0], reason)
				if err != nil {
					return refused(k.listed(err))
				}
				if asJSON {
					return app.printJob(job)
				}
				return app.printf("%s %s: %s\n", job.ID, job.State, done)
			})
		},
	}
	if how != approveJob {
		cmd.Flags().StringVar(&reason, "reason", "", "`why`, for the history")
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the "+k.name+" as JSON")
	return remotely(cmd)
}

// newApproveCmd makes the command that lets a rebuild take effect.
func newApproveCmd(app *app) *cobra.Command {
	cmd := newChangeCmd(app, rebuildKind(), approveJob, "Let the new table take the place of the live one", "approved; it goes on as soon as a `reservoir worker` is free")
	cmd.Long = `Let the new table take the place of the live one. "reservoir rebuild diff" shows how they differ. A rebuild that is not so far yet will not wait.`
	return cmd
}
