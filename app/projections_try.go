package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

const projectionsTestHelp = `Run projections on recorded events, on the configured ClickHouse, in tables that are dropped again, and compare the rows with those that are expected.

Beside the definition of NAME lie NAME.events.jsonl (else events.jsonl), one event a line as "reservoir events -o jsonl" prints them,
and NAME.rows.jsonl, the rows of the table in any order; a row may leave out columns. --update writes the rows.
Exit status 1 when a row differs, or a check of the definition fails.`

// testedProjection is one projection in the JSON of the command.
type testedProjection struct {
	Name        string                     `json:"name"`
	Passed      bool                       `json:"passed"`
	Events      int                        `json:"events"`
	Used        int                        `json:"used"`
	Rows        int                        `json:"rows"`
	Unusable    []projection.Unusable      `json:"unusable"`
	Differences []projection.RowDifference `json:"differences"`
	Checks      []projection.CheckResult   `json:"checks"`
	Skipped     string                     `json:"skipped,omitempty"` // why
}

func newProjectionsTestCmd(app *app) *cobra.Command {
	var update, asJSON bool
	cmd := &cobra.Command{
		Use:   "test [NAME...]",
		Short: "Run projections on recorded events and compare the rows",
		Long:  projectionsTestHelp + "\n\n" + projectionsHelp,
		Example: `  reservoir projections test --dir projections/
  reservoir projections test orders --update`,
		RunE: func(cmd *cobra.Command, args []string) error {
			results, err := app.testProjections(cmd.Context(), args, update)
			if err != nil {
				return err
			}
			if asJSON {
				err = app.printJSON(struct {
					Projections []testedProjection `json:"projections"`
				}{results})
			} else {
				err = app.printTested(results)
			}
			for _, r := range results {
				if err == nil && !r.Passed && r.Skipped == "" {
					return errProblems
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&update, "update", false, "write the rows that came out as those that are expected")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) testProjections(ctx context.Context, names []string, update bool) (_ []testedProjection, err error) {
	set, err := a.loadProjections()
	if err != nil {
		return nil, err
	}
	list, err := chosen(set, names)
	if err != nil {
		return nil, err
	}
	db, err := a.connectClickHouse(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	results := []testedProjection{}
	for _, d := range list {
		result, err := testProjection(ctx, db.As("test"), set, d, update)
		if errors.Is(err, errNoFixture) && len(names) == 0 {
			result, err = testedProjection{Name: d.Name, Skipped: err.Error()}, nil
		}
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

// errNoFixture is wrapped for a projection that has no recorded events or no rows.
var errNoFixture = errors.New("there is no fixture")

func testProjection(ctx context.Context, db *chstore.Store, set *projection.Set, d *projection.Definition, update bool) (testedProjection, error) {
	result := testedProjection{Name: d.Name, Unusable: []projection.Unusable{}, Differences: []projection.RowDifference{}}
	dir := filepath.Dir(d.File())
	name, text, err := readFixture(filepath.Join(dir, d.Name+".events.jsonl"), filepath.Join(dir, "events.jsonl"))
	if err != nil {
		return result, err
	}
	events, err := projection.ReadEvents(name, bytes.NewReader(text))
	if err != nil {
		return result, usageError{err}
	}
	trial, err := set.Try(ctx, db, d, events)
	if err != nil {
		return result, err
	}
	result.Events, result.Used, result.Rows, result.Checks = len(events), trial.Used, len(trial.Rows.Rows), trial.Checks
	result.Unusable = append(result.Unusable, trial.Unusable...)
	rowsFile := filepath.Join(dir, d.Name+".rows.jsonl")
	if update {
		if err := os.WriteFile(rowsFile, rowLines(trial.Rows), 0o644); err != nil { //nolint:gosec // a file of the project
			return result, fmt.Errorf("write the rows: %w", err)
		}
	}
	name, text, err = readFixture(rowsFile)
	if err != nil {
		return result, err
	}
	want, err := projection.ReadRows(name, bytes.NewReader(text))
	if err != nil {
		return result, usageError{err}
	}
	result.Differences = append(result.Differences, d.Compare(trial.Rows, want)...)
	result.Passed = len(result.Differences) == 0
	for _, c := range result.Checks {
		result.Passed = result.Passed && c.Passed
	}
	return result, nil
}

// readFixture reads the first of some files that is there.
func readFixture(files ...string) (name string, text []byte, err error) {
	for _, name := range files {
		text, err := os.ReadFile(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, text, err
		}
	}
	return "", nil, remedy.Wrap(fmt.Errorf("%w: no %s", errNoFixture, strings.Join(files, " and no ")),
		"record events with `reservoir events -o jsonl`, and write the rows with --update")
}

// rowLines writes rows as a fixture has them.
func rowLines(rows chstore.Rows) []byte {
	var b bytes.Buffer
	for _, row := range rows.Rows {
		for i, c := range rows.Columns {
			b.WriteByte("{,"[min(i, 1)])
			name, _ := json.Marshal(c.Name) //nolint:errcheck // a text is always JSON
			b.Write(name)
			b.WriteByte(':')
			b.Write(row[i])
		}
		b.WriteString("}\n")
	}
	return b.Bytes()
}

func (a *app) printTested(results []testedProjection) error {
	failed := 0
	for i := range results {
		r := &results[i]
		switch {
		case r.Skipped != "":
			if err := a.printLine("skipped: %s: %s", r.Name, r.Skipped); err != nil {
				return err
			}
			continue
		case r.Passed:
			if err := a.printLine("passed: %s: %s", r.Name, r.counts()); err != nil {
				return err
			}
			continue
		}
		failed++
		if err := a.printFailed(r); err != nil {
			return err
		}
	}
	return a.printf("%d projections, %d failed\n", len(results), failed)
}

func (r *testedProjection) counts() string {
	text := fmt.Sprintf("%d of %d events, %d rows", r.Used, r.Events, r.Rows)
	if len(r.Unusable) > 0 {
		text += fmt.Sprintf(", %d events that cannot be used", len(r.Unusable))
	}
	return text
}

// printFailed shows every row that differs, with both sides below each other.
func (a *app) printFailed(r *testedProjection) error {
	out := []string{fmt.Sprintf("failed: %s: %s", r.Name, r.counts())}
	for _, d := range r.Differences {
		switch {
		case d.Missing:
			out = append(out, "  - "+d.Key+": expected, and not there")
		case d.Extra:
			out = append(out, "  + "+d.Key+": there, and not expected")
		default:
			out = append(out, "  ~ "+d.Key)
			for _, c := range d.Columns {
				got := c.Got
				if got == "" {
					got = "nothing: there is no such column"
				}
				out = append(out, "      "+c.Column, "        want "+c.Want, "        got  "+got)
			}
		}
	}
	for _, c := range r.Checks {
		if !c.Passed {
			out = append(out, fmt.Sprintf("  check %q: expected %s, got %s", c.Name, c.Expect, c.Got))
		}
	}
	for _, u := range r.Unusable {
		out = append(out, fmt.Sprintf("  cannot be used: %s %s: %s", u.Stream, u.ID, u.Reason))
	}
	for _, line := range out {
		if err := a.printLine("%s", line); err != nil {
			return err
		}
	}
	return nil
}
