package app

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/projection"
)

const projectionsValidateHelp = `Look for everything that is wrong with definitions, and say at which file, line and field.

With a ClickHouse (clickhouse.url), it is asked whether it takes the tables, the SELECTs and the checks; an empty table is made for a moment.
Exit status 1 when something is wrong.`

// validated is the JSON of the command.
type validated struct {
	Valid    bool                 `json:"valid"`
	Checked  int                  `json:"checked"`
	Engine   bool                 `json:"engine"` // ClickHouse was asked
	Problems []projection.Problem `json:"problems"`
}

func newProjectionsValidateCmd(app *app) *cobra.Command {
	var offline, asJSON bool
	cmd := &cobra.Command{
		Use:   "validate [NAME...]",
		Short: "Check definitions, also against ClickHouse",
		Long:  projectionsValidateHelp + "\n\n" + projectionsHelp,
		Example: `  reservoir projections validate --dir projections/
  reservoir projections validate orders --clickhouse-url clickhouse://localhost:9000/shop
  reservoir projections validate --offline --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := app.validateProjections(cmd.Context(), args, offline)
			if err != nil {
				return err
			}
			if asJSON {
				err = app.printJSON(out)
			} else {
				err = app.printValidated(out)
			}
			if err == nil && !out.Valid {
				return errProblems
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask ClickHouse")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) validateProjections(ctx context.Context, names []string, offline bool) (_ *validated, err error) {
	out := &validated{Problems: []projection.Problem{}}
	set, err := a.loadProjections()
	var wrong *projection.Error
	if errors.As(err, &wrong) {
		out.Problems = wrong.Problems
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := chosen(set, names)
	if err != nil {
		return nil, err
	}
	out.Checked, out.Valid = len(list), true
	if offline || a.cfg.ClickHouse.URL.IsZero() {
		return out, nil
	}
	db, err := a.connectClickHouse(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	out.Engine = true
	return out, askEngine(ctx, db.As("validate"), list, out)
}

func askEngine(ctx context.Context, db *chstore.Store, list []*projection.Definition, out *validated) error {
	for _, d := range list {
		err := projection.CheckEngine(ctx, db, d)
		var wrong *projection.Error
		if errors.As(err, &wrong) {
			out.Problems, out.Valid = append(out.Problems, wrong.Problems...), false
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printValidated(out *validated) error {
	for _, p := range out.Problems {
		if err := a.printLine("%s", p.String()); err != nil {
			return err
		}
	}
	if !out.Valid {
		return a.printf("%d problems\n", len(out.Problems))
	}
	how := "; ClickHouse was not asked"
	if out.Engine {
		how = ", and ClickHouse takes them"
	}
	return a.printf("%d projections are valid%s\n", out.Checked, how)
}
