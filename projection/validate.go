package projection

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
)

// validate checks a definition that was read, as far as that goes without an
// engine. Where reading found problems, the same ones are not found again.
func (r *reader) validate(d *Definition) {
	if len(r.found) > 0 {
		return // a field that could not be read would be missed here
	}
	r.validateNames(d)
	r.validateSource(d)
	r.validateTable(&d.Table, "table")
	r.validateKind(d)
	r.validateColumns(d)
	for i, c := range d.Checks {
		field := fmt.Sprintf("checks[%d]", i)
		if !strings.Contains(c.SQL, TablePlaceholder) {
			r.bad(field+".sql", "write "+TablePlaceholder+" where the table's name belongs", "it does not look at the table")
		}
		if slices.ContainsFunc(d.Checks[:i], func(other Check) bool { return other.Name == c.Name }) {
			r.bad(field, "give it another name", "there are two checks named %q", c.Name)
		}
	}
	for i := range d.Dependents {
		r.validateDependent(d, i)
	}
	if d.Approval != Automatic && d.Approval != Required {
		r.bad("approval", "", "want automatic or required, not %q", d.Approval)
	}
}

// bad notes a problem with a field, at its line or at that of what holds it.
func (r *reader) bad(field, remedy, format string, args ...any) {
	r.found = append(r.found, Problem{
		File: r.file, Line: lineOf(r.lines, r.first, field), Field: field, What: fmt.Sprintf(format, args...), Remedy: remedy,
	})
}

// lineOf gives the line of a field, or of what holds it.
func lineOf(lines map[string]int, first int, field string) int {
	for field != "" {
		if line := lines[field]; line > 0 {
			return line
		}
		cut := strings.LastIndexAny(field, ".[")
		if cut < 0 {
			break
		}
		field = field[:cut]
	}
	return first
}

func (r *reader) validateNames(d *Definition) {
	switch {
	case d.Name == "":
		r.bad("name", "give the projection a name", "it is missing")
	case !goodName(d.Name):
		r.bad("name", wantName, "%q cannot be a name", d.Name)
	}
}

const wantName = "use letters, digits and single underscores, at most 128, none of them a digit at the start"

func goodName(name string) bool {
	return plainName.MatchString(name) && len(name) <= maxName && !strings.Contains(name, "__")
}

func (r *reader) validateSource(d *Definition) {
	if len(d.Source.Streams) == 0 {
		r.bad("source.streams", `name the streams, or patterns of them: "orders:*"`, "it is missing")
	}
	for i, t := range d.Source.Types {
		if strings.ContainsAny(t, `?[\`) {
			r.bad(fmt.Sprintf("source.types[%d]", i), "use * for any run of characters", "%q: event types know no other wildcard than *", t)
		}
	}
}

// validateKind checks what the kind needs, and what it has no use for.
func (r *reader) validateKind(d *Definition) {
	switch d.Kind {
	case SQL:
		if d.Function != "" {
			r.bad("function", "remove it, or set kind to map or fold", "a SQL projection has no function")
		}
		if d.Select == "" {
			r.bad("select", "write SELECT … FROM "+chstore.EventsRelation, "it is missing")
			return
		}
		for _, f := range rowWise(d.Select) {
			r.bad("select", f.remedy, "%s", f.what)
			r.found[len(r.found)-1].Line += r.offset["select"] + f.line
		}
	case Map, Fold:
		if d.Select != "" {
			r.bad("select", "remove it, or set kind to sql", "a projection of kind %s has a function in Go", d.Kind)
		}
		for _, c := range d.Table.Columns {
			if strings.HasPrefix(c.Type, "AggregateFunction(") {
				r.bad("table.columns."+c.Name, "use SimpleAggregateFunction, or a dependent table", "there are no values of %s in Go", c.Type)
			}
			if c.Default != "" {
				r.bad("table.columns."+c.Name+".default", "remove it", "a function in Go gives all values; what it leaves out is zero")
			}
		}
		if d.Kind == Fold && d.Table.Kind() != chstore.Replacing && d.Table.Kind() != "" {
			r.bad("table.engine", "use ReplacingMergeTree", "a fold writes the rows of an aggregate again when it changed")
		}
	default:
		r.bad("kind", didYouMean(string(d.Kind), slices.Values([]string{"sql", "map", "fold"})), "want sql, map or fold, not %q", d.Kind)
	}
}

func (r *reader) validateTable(t *Table, field string) {
	if r.lines[field+".name"] > 0 && !goodName(t.Name) {
		r.bad(field+".name", wantName, "%q cannot be the name of a table", t.Name)
	}
	if len(t.Columns) == 0 {
		r.bad(field+".columns", "name the columns and their types", "it is missing")
	}
	for _, c := range t.Columns {
		switch at := field + ".columns." + c.Name; {
		case c.Name == chstore.ChunkColumn || c.Name == chstore.EventsColumn:
			r.bad(at, "give it another name", "Reservoir has a column of that name")
		case !plainName.MatchString(c.Name):
			r.bad(at, "use letters, digits and underscores", "%q cannot be the name of a column", c.Name)
		}
	}
	r.validateEngine(t, field)
}

func (r *reader) validateEngine(t *Table, field string) {
	name := t.EngineName()
	switch {
	case name == "":
		r.bad(field+".engine", "give one of "+strings.Join(engines(), ", "), "it is missing")
	case t.Kind() != "":
	case strings.HasPrefix(name, "Replicated"):
		r.bad(field+".engine", "write "+strings.TrimPrefix(name, "Replicated")+": clickhouse.replicated makes all tables replicated",
			"the text is the same for replicated and for plain tables")
	case strings.HasSuffix(name, "CollapsingMergeTree"):
		r.bad(field+".engine", "use ReplacingMergeTree", "%s needs to know what it wrote before, which an event does not tell", name)
	default:
		remedy := didYouMean(name, slices.Values(engines()))
		if remedy == "" {
			remedy = "want one of " + strings.Join(engines(), ", ")
		}
		r.bad(field+".engine", remedy, "%q cannot be used for projections", name)
	}
	switch {
	case len(t.OrderBy) == 0:
		r.bad(field+".order_by", "name the columns of the key; [tuple()] is none", "it is missing")
	case t.Kind() != chstore.Keeping && slices.Equal(t.OrderBy, []string{"tuple()"}):
		r.bad(field+".order_by", "name the columns of the key", "%s needs a key: all rows are one without", name)
	}
}

// validateColumns checks that what names columns names some.
func (r *reader) validateColumns(d *Definition) {
	for i, key := range d.Keys {
		r.wantColumn(d, key, fmt.Sprintf("keys[%d]", i))
	}
	for i, name := range d.Ignore {
		r.wantColumn(d, name, fmt.Sprintf("ignore[%d]", i))
	}
	for _, scope := range []struct{ field, column string }{
		{"scope.tenant", d.Scope.Tenant}, {"scope.aggregate", d.Scope.Aggregate}, {"scope.time", d.Scope.Time},
	} {
		if scope.column == "" {
			continue
		}
		if r.wantColumn(d, scope.column, scope.field) && d.Table.Kind() == chstore.Adding && !slices.Contains(d.Table.OrderBy, scope.column) {
			r.bad(scope.field, "add it to order_by", "%s adds up rows of different %s", d.Table.EngineName(), scope.column)
		}
	}
}

func (r *reader) wantColumn(d *Definition, name, field string) bool {
	if _, ok := d.Table.Column(name); ok || len(d.Table.Columns) == 0 {
		return ok
	}
	r.bad(field, didYouMean(name, columnNames(d.Table.Columns)), "the table has no column %q", name)
	return false
}

func columnNames(columns []Column) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, c := range columns {
			if !yield(c.Name) {
				return
			}
		}
	}
}

func (r *reader) validateDependent(d *Definition, i int) {
	dep, field := &d.Dependents[i], fmt.Sprintf("dependents[%d]", i)
	r.validateTable(&dep.Table, field)
	switch {
	case dep.Table.Name == "":
		r.bad(field+".name", "give the table a name", "it is missing")
	case dep.Table.Name == d.Table.Name:
		r.bad(field+".name", "give it another name", "it is the name of the projection's own table")
	case slices.ContainsFunc(d.Dependents[:i], func(other Dependent) bool { return other.Table.Name == dep.Table.Name }):
		r.bad(field+".name", "give it another name", "there are two dependents named %q", dep.Table.Name)
	}
	if dep.Select == "" {
		r.bad(field+".select", "write SELECT … FROM "+TablePlaceholder, "it is missing")
	} else {
		for _, f := range dependentFaults(dep.Select, dep.Table.Kind() == chstore.Adding) {
			r.bad(field+".select", f.remedy, "%s", f.what)
			r.found[len(r.found)-1].Line += r.offset[field+".select"] + f.line
		}
	}
	if d.Table.Kind() == chstore.Replacing || d.Table.Kind() == chstore.Adding {
		r.bad(field, "use MergeTree for the projection's table, or make another projection of the events",
			"a dependent table is made of every row, also of those that %s merges away", d.Table.EngineName())
	}
}
