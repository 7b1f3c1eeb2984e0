package app

import (
	"github.com/spf13/cobra"

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
	k := rebuildKind()
	cmd.AddCommand(
		newRebuildCreateCmd(app),
		newRebuildRunCmd(app),
		newListCmd(app, k, "projection", "only those of this `projection`", rebuild.Target),
		newRebuildShowCmd(app),
		newWatchCmd(app, k),
		newRebuildDiffCmd(app),
		newApproveCmd(app),
		newRebuildRollbackCmd(app),
		newRebuildDryRunCmd(app),
	)
	cmd.AddCommand(newChangeCmds(app, k)...)
	return cmd
}

// forRebuilds is what rebuilds need of the bucket.
func forRebuilds() servicesSpec { return servicesSpec{redis: true, probe: true, rebuilds: true} }

// oneProjection wants the name of a projection.
func oneProjection(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("which projection? Give its name; `reservoir projections list` shows them")
	}
	return nil
}
