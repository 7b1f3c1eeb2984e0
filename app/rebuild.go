package app

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

const rebuildHelp = `Build a projection's table anew from the archive, beside the live one and without pausing it, and swap it in at an exact position.

A rebuild is a job in the bucket. "create" makes one, which "reservoir worker" runs; "run" makes one and runs it here. Either survives kill -9: another worker, or
"run" with its ID, goes on where it was. Before the swap it compares the new table with the live one ("diff") and, unless the definition says otherwise, waits for
"approve". The replaced table is kept: "rollback" makes it live again in an instant.

docs/rebuilds.md is the guide.`

const rebuildExample = `  reservoir rebuild create orders --watch
  reservoir rebuild diff 01KAJ4M5N6P7Q8R9S0T1V2W3X4
  reservoir rebuild approve 01KAJ4M5N6P7Q8R9S0T1V2W3X4
  reservoir rebuild rollback orders`

func newRebuildCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rebuild",
		Short:   "Rebuild projections from the archive, and swap them in",
		Long:    rebuildHelp,
		Example: rebuildExample,
		Args:    subcommandOnly,
		RunE: func(*cobra.Command, []string) error {
			return usagef("want create, run, list, show, watch, diff, approve, pause, resume, cancel, retry, rollback or dry-run")
		},
	}
	bindKey(cmd.PersistentFlags(), "dir", "projections.dir")
	bindKey(cmd.PersistentFlags(), "clickhouse-url", "clickhouse.url")
	cmd.AddCommand(
		newRebuildCreateCmd(app),
		newRebuildRunCmd(app),
		newRebuildListCmd(app),
		newRebuildShowCmd(app),
		newRebuildWatchCmd(app),
		newRebuildDiffCmd(app),
		newRebuildApproveCmd(app),
		newRebuildRollbackCmd(app),
		newRebuildDryRunCmd(app),
	)
	cmd.AddCommand(newRebuildChangeCmds(app)...)
	return cmd
}

// openRebuilds opens what rebuilds need; its caller closes it.
func (a *app) openRebuilds(ctx context.Context) (*services, error) {
	return a.openServices(ctx, servicesSpec{redis: true, probe: true, rebuilds: true})
}

// refusedRebuild makes the mistakes of a request those of the command line.
func refusedRebuild(err error) error {
	if errors.Is(err, rebuild.ErrInvalid) || errors.Is(err, projection.ErrUnknown) {
		return usageError{err}
	}
	return err
}

// oneRebuild wants the ID of a rebuild.
func oneRebuild(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("which rebuild? Give its ID; `reservoir rebuild list` shows them")
	}
	if err := jobs.CheckID(args[0]); err != nil {
		return usageError{withRebuildList(err)}
	}
	return nil
}

// oneProjection wants the name of a projection.
func oneProjection(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("which projection? Give its name; `reservoir projections list` shows them")
	}
	return nil
}

// withRebuildList says where the IDs are when there is no such job.
func withRebuildList(err error) error {
	if errors.Is(err, jobs.ErrNotFound) && remedy.Of(err) == "" {
		return remedy.Wrap(err, "`reservoir rebuild list --all` shows the rebuilds that there are")
	}
	return err
}
