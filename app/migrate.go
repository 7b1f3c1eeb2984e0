package app

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/migrations"
)

const migrateHelp = `Keep what analysts find at ClickHouse beside the tables of projections: the history of rebuilds and replays, and a view over the archive
for each stream, which reads the Parquet files where they lie.

"up" makes the tables, "sync" fills them and makes the views; "roles" prints or makes the roles of analysts. All of it may be run again,
by several processes at once, and after a crash.`

func newMigrateCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:         "migrate",
		Short:       "Make tables and views for analysts at ClickHouse, and keep them",
		Long:        migrateHelp,
		Args:        subcommandOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations: withoutConfig,
	}
	cmd.AddCommand(newMigrateUpCmd(app), newMigrateStatusCmd(app), newMigrateDownCmd(app), newMigrateSyncCmd(app), newMigrateRolesCmd(app))
	return cmd
}

func newMigrateUpCmd(app *app) *cobra.Command {
	var (
		to     int64
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make the databases and tables",
		Example: `  reservoir migrate up
  reservoir migrate up && reservoir migrate sync`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.migrate(asJSON, func(m *migrations.Migrator) ([]migrations.Migration, error) {
				return m.Up(cmd.Context(), to)
			})
		},
	}
	cmd.Flags().Int64Var(&to, "to", 0, "`version` to go up to (default the last one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newMigrateDownCmd(app *app) *cobra.Command {
	var (
		to          int64
		yes, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Drop the tables and views again",
		Long: `Drop what "up" and "sync" made, down to a version, which itself stays. The tables of projections stay, and so do the databases where anything
is left in them. The history of jobs whose documents are gone is lost. It asks before it begins, unless --yes is given.`,
		Example: `  reservoir migrate down --to 1 --yes
  reservoir migrate down`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := app.wantClickHouse(); err != nil {
				return err
			}
			if !yes {
				if err := app.confirm(fmt.Sprintf("Drop the history of jobs and the views of the archive, down to version %d, from %s?", to, app.cfg.ClickHouse.URL)); err != nil {
					return err
				}
			}
			return app.migrate(asJSON, func(m *migrations.Migrator) ([]migrations.Migration, error) {
				return m.Down(cmd.Context(), to)
			})
		},
	}
	cmd.Flags().Int64Var(&to, "to", 0, "`version` to go down to; 0: all")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newMigrateStatusCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show which migrations are applied",
		Long:    `Show which migrations are applied. It changes nothing. Exit status 1 when some are not.`,
		Example: `  reservoir migrate status`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return app.migrateStatus(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// migrationList is the JSON of up, down and status.
type migrationList struct {
	Migrations []migrations.Migration `json:"migrations"`
}

// openMigrator opens what is configured; its caller closes it.
func (a *app) openMigrator() (*migrations.Migrator, error) {
	if err := a.wantClickHouse(); err != nil {
		return nil, err
	}
	cfg, err := clickhouseConfig(a.cfg)
	if err != nil {
		return nil, usageError{err}
	}
	m, err := migrations.Open(migrations.Options{ClickHouse: cfg, Archive: a.cfg.ClickHouse.ArchiveDB, Logger: a.logger})
	if err != nil {
		return nil, usageError{err}
	}
	return m, nil
}

// migrate goes up or down, and prints what was done, also where something failed then.
func (a *app) migrate(asJSON bool, do func(*migrations.Migrator) ([]migrations.Migration, error)) (err error) {
	m, err := a.openMigrator()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	done, failed := do(m)
	if errors.Is(failed, migrations.ErrUnknown) {
		return usageError{failed}
	}
	if asJSON {
		return errors.Join(failed, a.printJSON(migrationList{append([]migrations.Migration{}, done...)}))
	}
	for _, migration := range done {
		what := "applied"
		if !migration.Applied {
			what = "taken back"
		}
		if err := a.printf("%s %d, %s\n", what, migration.Version, migration.Name); err != nil {
			return errors.Join(failed, err)
		}
	}
	if len(done) == 0 && failed == nil {
		return a.printf("nothing to do\n")
	}
	return failed
}

func (a *app) migrateStatus(ctx context.Context, asJSON bool) (err error) {
	m, err := a.openMigrator()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	list, err := m.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		err = a.printJSON(migrationList{list})
	} else {
		err = a.printMigrations(list)
	}
	for _, migration := range list {
		if err == nil && !migration.Applied {
			return errProblems
		}
	}
	return err
}

func (a *app) printMigrations(list []migrations.Migration) error {
	t := a.table("VERSION", "NAME", "APPLIED")
	for _, migration := range list {
		applied := "-"
		if migration.Applied {
			applied = migration.AppliedAt.UTC().Format(time.RFC3339)
		}
		t.row(strconv.FormatInt(migration.Version, 10), migration.Name, applied)
	}
	return t.flush()
}
