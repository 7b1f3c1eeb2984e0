package app

import (
	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/rebuild"
)

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
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), forRebuilds(), func(b backend) error {
				back, err := b.rollBack(cmd.Context(), args[0], opts)
				if err != nil {
					return refused(err)
				}
				if asJSON {
					return app.printJSON(back)
				}
				return app.printf("generation %d of %s is live\n", back.Live.Generation, back.Name)
			})
		},
	}
	cmd.Flags().Uint64Var(&opts.To, "to", 0, "the `generation` to make live; 0: the one before")
	cmd.Flags().BoolVar(&opts.Damaged, "damaged", false, "also one that is known to be damaged")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return remotely(cmd)
}
