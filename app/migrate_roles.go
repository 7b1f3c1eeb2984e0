package app

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/migrations"
)

const migrateRolesHelp = `Make a role that may read the database of the projections and that of the archive and change nothing; and for each --tenant a role that reads
only tables and views with a column of tenants, and there only its own rows. Roles are granted to users by an administrator:
GRANT reservoir_analyst TO ann.

The connected user must be allowed to make roles, policies and profiles, and to grant what is granted. Run it again with all tenants
when there are new tables or views. --dry-run prints the statements, for whoever may issue them.`

func newMigrateRolesCmd(app *app) *cobra.Command {
	var (
		spec   migrations.RolesSpec
		dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "roles",
		Short: "Make the roles of analysts, or print the statements",
		Long:  migrateRolesHelp,
		Example: `  reservoir migrate roles --dry-run
  reservoir migrate roles --tenant acme --tenant globex`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			m, err := app.openMigrator()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, m.Close()) }()
			statements, err := m.Roles(cmd.Context(), spec)
			if err != nil {
				return err
			}
			if dryRun {
				return app.printf("%s;\n", strings.Join(statements, ";\n"))
			}
			if err := m.Apply(cmd.Context(), statements); err != nil {
				return err
			}
			return app.printf("%d statements issued\n", len(statements))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&spec.Role, "role", migrations.DefaultRole, "`name` of the role; those of tenants begin with it")
	flags.StringSliceVar(&spec.Tenants, "tenant", nil, "`tenant` that gets a role of its own; may be repeated")
	flags.StringVar(&spec.Column, "column", "tenant", "`name` of the column of tenants")
	flags.BoolVar(&dryRun, "dry-run", false, "print the statements, and issue none")
	return cmd
}
