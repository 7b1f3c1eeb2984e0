package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

// rebuildShown is the output of show with --json.
type rebuildShown struct {
	shownJob
	Verification *rebuild.Verification `json:"verification,omitempty"`
}

func newRebuildShowCmd(app *app) *cobra.Command {
	var asJSON bool
	k := rebuildKind()
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show all about one rebuild: what it does, how far it is, what happened",
		Example: "  " + k.command("show", anID),
		Args:    k.one,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), servicesSpec{jobsOnly: true}, func(b backend) error {
				job, v, err := readRebuild(cmd.Context(), b, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return app.printJSON(rebuildShown{showJob(job), v})
				}
				return app.printRebuild(k, job, v)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return remotely(cmd)
}

// readRebuild reads a rebuild, and what was found of its table, nil as long as there is
// nothing.
func readRebuild(ctx context.Context, b backend, id string) (*jobs.Job, *rebuild.Verification, error) {
	job, err := b.get(ctx, id)
	if err != nil {
		return nil, nil, rebuildKind().listed(err)
	}
	if _, err := rebuild.ReadSpec(job); err != nil {
		return nil, nil, refused(err)
	}
	v, err := b.verification(ctx, id)
	return job, v, err
}

func (a *app) printRebuild(k *jobKind, job *jobs.Job, v *rebuild.Verification) error {
	err := a.printHead(k, job, func(row func(name, value string)) {
		if v == nil {
			return
		}
		row("chunks", fmt.Sprintf("%d, of %d events, gave %d rows", v.Chunks, v.Events, v.Rows))
		row("checks", fmt.Sprintf("%d of %d passed", len(v.Checks)-v.Failed(), len(v.Checks)))
		row("difference", differenceText(v.Difference))
		for i := range v.Dependents {
			row("dependent", dependentText(&v.Dependents[i]))
		}
		for _, w := range v.Warnings {
			row("warning", w)
		}
	})
	if err != nil {
		return err
	}
	return a.printLog(job)
}

// differenceText sums up a difference.
func differenceText(d *chstore.Diff) string {
	if d == nil {
		return "there was no live table to compare with"
	}
	return fmt.Sprintf("%d added, %d removed, %d changed, %d the same", d.Added, d.Removed, d.Changed, d.Same)
}

// dependentText sums up what was found of a dependent table.
func dependentText(d *rebuild.DependentVerification) string {
	return fmt.Sprintf("%s: %d rows; %s", d.Table, d.Rows, differenceText(d.Difference))
}

// differs says whether a table that is live would have other rows.
func differs(v *rebuild.Verification) bool {
	return v.Difference != nil && !v.Difference.Equal() ||
		slices.ContainsFunc(v.Dependents, func(d rebuild.DependentVerification) bool { return d.Difference != nil && !d.Difference.Equal() })
}

func newRebuildDiffCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff ID",
		Short: "Show how the new table differs from the live one, and what the checks gave",
		Long: `Show how the new table differs from the live one, and what the checks of the definition gave, as it was before the swap.
Exit status: 0 they are equal and all checks passed; 1 they differ, or a check failed.`,
		Example: "  reservoir rebuild diff " + anID,
		Args:    rebuildKind().one,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.with(cmd.Context(), servicesSpec{jobsOnly: true}, func(b backend) error {
				_, v, err := readRebuild(cmd.Context(), b, args[0])
				if err != nil {
					return err
				}
				if v == nil {
					return remedy.Wrapf(errors.New("the rebuild has not come to that yet"), "`reservoir rebuild watch %s` shows how far it is", args[0])
				}
				if asJSON {
					err = app.printJSON(v)
				} else {
					err = app.printTableDifference(v)
				}
				if err == nil && (v.Failed() > 0 || differs(v)) {
					return errProblems
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return remotely(cmd)
}

func (a *app) printTableDifference(v *rebuild.Verification) error {
	for _, c := range v.Checks {
		passed := "passed"
		if !c.Passed {
			passed = "FAILED: it gives " + c.Got + ", and must give " + c.Expect
		}
		if err := a.printf("check %s: %s\n", cellText.Replace(c.Name), cellText.Replace(passed)); err != nil {
			return err
		}
	}
	if err := a.printRowDifference(differenceText(v.Difference), v.Difference); err != nil {
		return err
	}
	for i := range v.Dependents {
		if err := a.printRowDifference("dependent table "+dependentText(&v.Dependents[i]), v.Dependents[i].Difference); err != nil {
			return err
		}
	}
	return nil
}

// printRowDifference shows a difference, with its samples.
func (a *app) printRowDifference(text string, diff *chstore.Diff) error {
	if err := a.printf("%s\n", text); err != nil || diff == nil {
		return err
	}
	for _, only := range []struct {
		which   string
		columns []string
	}{{"live", diff.OldColumns}, {"new", diff.NewColumns}} {
		if len(only.columns) == 0 {
			continue
		}
		if err := a.printf("only the %s table has the columns: %s\n", only.which, cellText.Replace(strings.Join(only.columns, ", "))); err != nil {
			return err
		}
	}
	for _, d := range diff.Samples {
		if err := a.printf("%s\n", d.Kind); err != nil {
			return err
		}
		for _, side := range []struct {
			sign string
			rows []map[string]json.RawMessage
		}{{"-", d.Old}, {"+", d.New}} {
			for _, row := range side.rows {
				if err := a.printf("  %s %s\n", side.sign, cellText.Replace(rowText(row))); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// rowText gives a row on one line, its columns by name.
func rowText(row map[string]json.RawMessage) string {
	names := make([]string, 0, len(row))
	for name := range row {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = name + "=" + string(row[name])
	}
	return strings.Join(names, " ")
}
