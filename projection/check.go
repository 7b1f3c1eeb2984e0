package projection

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
)

// CheckEngine asks ClickHouse whether it takes a definition: the tables, the
// SELECT, whose columns must be those of the table, the conditions, the checks and
// the dependents. For as long as that takes, an empty table of a name of its own is
// there. The error is an *Error with everything that is wrong, or says why
// ClickHouse could not be asked.
func CheckEngine(ctx context.Context, db *chstore.Store, d *Definition) (err error) {
	c := &engineCheck{db: db, d: d}
	table := db.Table("_reservoir_check_" + strings.ToLower(rand.Text()[:10]))
	mark := chstore.Mark{Projection: d.Name, Role: "check"}
	switch err := db.CreateTable(ctx, table, d.Table.Spec(), mark); {
	case errors.Is(err, chstore.ErrDefinition):
		c.bad("table", err)
		return c.found.err() // the rest would only say that there is no table
	case err != nil:
		return fmt.Errorf("check projection %s: %w", d.Name, err)
	}
	defer func() { err = errors.Join(err, db.DropTable(context.WithoutCancel(ctx), table)) }()
	for _, look := range []func(context.Context, chstore.Table) error{c.selection, c.requirements, c.checks, c.dependents} {
		if err := look(ctx, table); err != nil {
			return fmt.Errorf("check projection %s: %w", d.Name, err)
		}
	}
	return c.found.err()
}

// engineCheck collects what ClickHouse does not like about a definition.
type engineCheck struct {
	db    *chstore.Store
	d     *Definition
	found problems
}

func (c *engineCheck) badf(field, remedy, format string, args ...any) {
	c.found = append(c.found, Problem{
		File: c.d.file, Line: lineOf(c.d.lines, c.d.line, field), Field: field, What: fmt.Sprintf(format, args...), Remedy: remedy,
	})
}

// bad notes what ClickHouse said.
func (c *engineCheck) bad(field string, err error) {
	text := err.Error()
	var said *chstore.Error
	if errors.As(err, &said) {
		text = said.Error()
	}
	c.badf(field, "", "%s", text)
}

// try notes an error that is about the statement, and returns any other.
func (c *engineCheck) try(field string, err error) error {
	if errors.Is(err, chstore.ErrDefinition) || errors.Is(err, chstore.ErrData) || errors.Is(err, chstore.ErrNoTable) {
		c.bad(field, err)
		return nil
	}
	return err
}

func (c *engineCheck) selection(ctx context.Context, _ chstore.Table) error {
	if c.d.Kind != SQL {
		return nil
	}
	columns, err := c.db.Describe(ctx, c.d.Select)
	if err != nil {
		return c.try("select", err)
	}
	c.columns("select", columns, &c.d.Table, "table.columns.")
	// What gives a row without any event is an aggregate function.
	block, err := chstore.NewBlock()
	if err != nil {
		return err
	}
	rows, err := c.db.Preview(ctx, block, c.d.Select, 1)
	if err != nil {
		return c.try("select", err)
	}
	if len(rows.Rows) > 0 {
		c.badf("select", eventAlone, "it gives a row where there are no events: it has an aggregate function")
	}
	return nil
}

// columns compares what a SELECT gives with a table's columns.
func (c *engineCheck) columns(field string, given []chstore.Column, table *Table, prefix string) {
	seen := make(map[string]bool)
	for _, column := range given {
		want, ok := table.Column(column.Name)
		switch {
		case seen[column.Name]:
			c.badf(field, "give one of them another name with AS", "it gives column %q twice", column.Name)
		case !ok:
			c.badf(field, didYouMean(column.Name, columnNames(table.Columns)), "it gives column %q, which the table has not", column.Name)
		case !fits(column.Type, want.Type):
			c.badf(field, fmt.Sprintf("cast it: CAST(… AS %s) AS %s", want.Type, want.Name),
				"column %q is a %s, and of the table a %s, which may not hold every value of that", column.Name, column.Type, want.Type)
		}
		seen[column.Name] = true
	}
	for _, want := range table.Columns {
		if !seen[want.Name] && want.Default == "" {
			c.badf(prefix+want.Name, "add it to the SELECT, or give it a default", "the SELECT does not give it")
		}
	}
}

func (c *engineCheck) requirements(ctx context.Context, _ chstore.Table) error {
	for i, q := range c.d.Require {
		_, err := c.db.Describe(ctx, "SELECT "+q.condition()+" AS usable FROM "+chstore.EventsRelation)
		if err := c.try(fmt.Sprintf("require[%d]", i), err); err != nil {
			return err
		}
	}
	return nil
}

func (c *engineCheck) checks(ctx context.Context, table chstore.Table) error {
	for i := range c.d.Checks {
		_, err := c.d.Checks[i].Run(ctx, c.db, table)
		field := fmt.Sprintf("checks[%d].sql", i)
		if errors.Is(err, errNotOneValue) {
			c.badf(field, "select one value, or expect empty", "%v", err)
			continue
		}
		if err := c.try(field, err); err != nil {
			return err
		}
	}
	return nil
}

func (c *engineCheck) dependents(ctx context.Context, table chstore.Table) error {
	for i := range c.d.Dependents {
		dep, field := &c.d.Dependents[i], fmt.Sprintf("dependents[%d]", i)
		if err := c.try(field, c.db.CheckTable(ctx, dep.Table.Spec())); err != nil {
			return err
		}
		columns, err := c.db.DescribeSelect(ctx, dep.Over(c.d, table, ""))
		if err != nil {
			if err := c.try(field+".select", err); err != nil {
				return err
			}
			continue
		}
		c.columns(field+".select", columns, &dep.Table, field+".columns.")
		switch rows, err := c.db.CountSelect(ctx, dep.Over(c.d, table, "")); {
		case err != nil:
			if err := c.try(field+".select", err); err != nil {
				return err
			}
		case rows > 0:
			c.badf(field+".select", "add GROUP BY", "it gives a row where there are none: it has an aggregate function")
		}
	}
	return nil
}

// Statement gives the query of a check over a table.
func (c *Check) Statement(table chstore.Table) string {
	return strings.ReplaceAll(c.SQL, TablePlaceholder, table.String())
}

// CheckResult is what became of a check.
type CheckResult struct {
	Name   string `json:"name"`
	Expect string `json:"expect"`
	// Got is the value that was not as expected or was; of a check that expects no
	// rows the first ones, as JSON.
	Got    string `json:"got"`
	Passed bool   `json:"passed"`
}

// shownRows is how many rows are shown of a check that expects none.
const shownRows = 5

// Run runs a check on a table.
func (c *Check) Run(ctx context.Context, db *chstore.Store, table chstore.Table) (CheckResult, error) {
	result := CheckResult{Name: c.Name, Expect: c.Expect.String()}
	rows, err := db.Query(ctx, c.Statement(table), shownRows)
	if err != nil {
		return result, fmt.Errorf("check %q: %w", c.Name, err)
	}
	if c.Expect.Empty() {
		result.Passed = len(rows.Rows) == 0
		for i, row := range rows.Rows {
			text, err := json.Marshal(row)
			if err != nil {
				return result, fmt.Errorf("check %q: %w", c.Name, err)
			}
			if i > 0 {
				result.Got += " "
			}
			result.Got += string(text)
		}
		return result, nil
	}
	if len(rows.Rows) != 1 || len(rows.Columns) != 1 {
		return result, fmt.Errorf("check %q: %w: it gives %d rows with %d columns", c.Name, errNotOneValue, len(rows.Rows), len(rows.Columns))
	}
	result.Got = plain(rows.Rows[0][0])
	result.Passed, err = c.Expect.Holds(result.Got)
	if err != nil { // a value without order is not what was expected
		result.Got += " (" + err.Error() + ")"
	}
	return result, nil
}

// plain gives a JSON value as text: a string without its quotes.
func plain(value json.RawMessage) string {
	var text string
	if err := json.Unmarshal(value, &text); err == nil && string(value) != "null" {
		return text
	}
	return string(value)
}
