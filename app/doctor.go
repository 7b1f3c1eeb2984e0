package app

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/doctor"
	"github.com/reservoirhq/reservoir/migrations"
	"github.com/reservoirhq/reservoir/objectstore"
)

const doctorHelp = `Try everything that the configuration names, and say what is wrong and how to mend it.

On the store it writes, reads and deletes objects of its own below doctor/ and probe/, with conditional writes too. On Redis it
tries commands on a key that does not exist; nothing is changed there. On ClickHouse it makes small tables of its own, exchanges
and drops them, and has the definitions of projections tried. Exit status 1 when a check fails; a warning is not a failure.`

func newDoctorCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Try everything that is configured, and say how to mend what is wrong",
		Long:  doctorHelp,
		Example: `  reservoir doctor
  reservoir doctor --stream 'shop:*' --json | jq '.[] | select(.status != "ok")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.examine(cmd.Context(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	bindKey(cmd.Flags(), "stream", "streams.include")
	return cmd
}

// examine prints every check as it is done.
func (a *app) examine(ctx context.Context, asJSON bool) error {
	spec := doctor.Spec{
		Config: a.cfg,
		OpenStore: func(ctx context.Context) (objectstore.Store, error) {
			cfg := storeConfig(a.cfg)
			cfg.S3.MaxAttempts = min(cfg.S3.MaxAttempts, 2) // someone waits for the answer
			return openStore(ctx, cfg)
		},
		Probe:        objectstore.Probe,
		ConnectRedis: a.connectRedis,
		OpenArchive: func(ctx context.Context, store objectstore.Store) error {
			_, err := archive.Open(ctx, store, a.archiveOptions())
			return err
		},
		ConnectClickHouse: a.connectClickHouse,
		Migrations:        a.migrationStatus,
		Projections:       a.loadProjections,
		Remedy:            remedyOf,
	}
	if pushdown, err := a.pushdown(); err == nil { // else the store says what is wrong
		spec.ClickHouseNeeds = chstore.Needs{ReadS3: pushdown.S3 != nil, ReadFiles: pushdown.Dir != ""}
	}
	var checks []doctor.Check
	count := map[doctor.Status]int{}
	for c := range doctor.Run(ctx, spec) {
		count[c.Status]++
		checks = append(checks, c)
		if asJSON {
			continue
		}
		if err := a.printCheck(c); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if asJSON {
		if err := a.printJSON(checks); err != nil {
			return err
		}
	} else if err := a.printf("\n%d ok, %d warnings, %d failed\n", count[doctor.OK], count[doctor.Warn], count[doctor.Fail]); err != nil {
		return err
	}
	if count[doctor.Fail] > 0 {
		return errProblems
	}
	return nil
}

// migrationStatus says which migrations are applied.
func (a *app) migrationStatus(ctx context.Context) (list []migrations.Migration, err error) {
	m, err := a.openMigrator()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return m.Status(ctx)
}

func (a *app) printCheck(c doctor.Check) error {
	err := a.printf("%-4s  %s: %s: %s\n", c.Status, c.Area, cellText.Replace(c.Name), cellText.Replace(c.Detail))
	if err == nil && c.Status != doctor.OK && c.Remedy != "" {
		err = a.printf("      remedy: %s\n", c.Remedy)
	}
	return err
}
