package app

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/demo"
)

// demoSamples is how many rows that differ are shown.
const demoSamples = 3

// tables prints what happens to projections.
func (s *demoScreen) tables(n demo.Notice) {
	switch n := n.(type) {
	case demo.Building:
		s.say("`reservoir worker` (pid %d) and `reservoir projector` (pid %d) build %s from the archive.", n.Worker, n.Projector, sentence(n.Tables))
	case demo.Built:
		s.say("%s events gave %s rows, %d were spoiled and set aside. The tables are live, and fed on.",
			humanCount(n.Events), humanCount(n.Rows), n.DeadLetters)
	case demo.Noticed:
		s.say("An analyst asks revenue_by_day what %s sold: %s.", n.Tenant, salesText(n.Table))
		s.more("%s's own books say: %s.", n.Tenant, salesText(n.Books))
	case demo.Corrected:
		s.say("The mistake is in %s.yaml: an order counts when it is placed, paid, and completed.", demo.Mended)
		s.more("  - %s", demo.MistakeTypes)
		s.more("  + %s", demo.RightTypes)
		s.more("reservoir rebuild create %s", demo.Mended)
	case demo.Compared:
		s.compared(n)
	case demo.Swapped:
		s.say("Swapped. %s now: %s; the books: %s.", n.Tenant, salesText(n.Table), salesText(n.Books))
	case demo.RolledBack:
		s.say("And back, in an instant: reservoir rebuild rollback %s", demo.Mended)
		s.more("%s again: %s.", n.Tenant, salesText(n.Table))
	case demo.RolledForth:
		s.say("And forth, with --to 2: %s: %s; the books: %s.", n.Tenant, salesText(n.Table), salesText(n.Books))
	}
}

// more prints a line that belongs to the one before.
func (s *demoScreen) more(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.stdout, "         %s\n", cellText.Replace(fmt.Sprintf(format, args...)))
}

func (s *demoScreen) compared(n demo.Compared) {
	d := n.Found.Difference
	s.say("Built anew beside the live table, which is fed on: %s.", differenceText(d))
	if d != nil {
		for _, sample := range d.Samples[:min(demoSamples, len(d.Samples))] {
			s.more("  %s", changeText(sample))
		}
	}
	s.more("reservoir rebuild approve %s", n.Rebuild)
}

// changeText shows a row on one line: the columns that tell it, and what changed.
func changeText(d chstore.Difference) string {
	row := func(rows []map[string]json.RawMessage) map[string]json.RawMessage {
		if len(rows) == 0 {
			return nil
		}
		return rows[0]
	}
	was, is := row(d.Old), row(d.New)
	var same, changed []string
	for _, name := range columnsOf(was, is) {
		switch {
		case string(was[name]) != string(is[name]):
			changed = append(changed, fmt.Sprintf("%s %s -> %s", name, orNone(was[name]), orNone(is[name])))
		case strings.HasPrefix(string(is[name]), `"`): // what tells the row is text here
			same = append(same, strings.Trim(string(is[name]), `"`))
		}
	}
	return d.Kind + ": " + strings.Join(same, " ") + ": " + strings.Join(changed, ", ")
}

func columnsOf(rows ...map[string]json.RawMessage) []string {
	var names []string
	for _, row := range rows {
		for name := range row {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func orNone(value json.RawMessage) string {
	if value == nil {
		return "none"
	}
	return string(value)
}

func salesText(s demo.Sales) string {
	return fmt.Sprintf("%d orders, %d.%02d EUR", s.Orders, s.Cents/100, s.Cents%100)
}

// sentence joins names as a sentence does.
func sentence(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

func (a *app) printDemoTables(r demo.Result, line func(mark, format string, args ...any)) {
	if r.Tables == nil || len(r.Problems) > 0 {
		return
	}
	t := r.Tables
	line("ok", "the tables are what the shop wrote down: %d orders, %d events of them,", t.Orders, t.Steps)
	line("", "%d spans of traces, and what each tenant sold: together %s.", t.Spans, salesText(t.Paid))
	line("ok", "an analyst was answered %d times while they were fed, swapped and rolled back:", t.Asked)
	line("", "never an error, never an empty table.")
}

// demoTablesLines are the commands to look at projections with.
func demoTablesLines(t *demo.Tables, program string, running bool) []string {
	if t == nil {
		return nil
	}
	lines := []string{
		"  " + program + " projections list",
		"  " + program + " rebuild diff " + t.Rebuild,
	}
	if running {
		lines = append(lines,
			"  "+program+" rebuild dry-run orders --rows 5",
			"  curl "+shellWord(t.Query)+" --data 'SELECT * FROM orders FINAL LIMIT 2 FORMAT Vertical'")
	}
	return lines
}
