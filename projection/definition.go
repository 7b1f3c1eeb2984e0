package projection

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
)

// Kind says what makes rows of events.
type Kind string

// The kinds.
const (
	SQL  Kind = "sql"  // a SELECT, inside of ClickHouse
	Map  Kind = "map"  // a function in Go, of one event
	Fold Kind = "fold" // a function in Go, of an aggregate's events in order
)

// Definition is what a projection is. Load makes it, complete and checked; it is
// not changed after that. Its JSON holds all of it but where it was read.
type Definition struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Kind        Kind   `json:"kind"`
	// Version is raised by people when a function in Go changes what it makes:
	// the text of a definition does not show that.
	Version string `json:"version,omitempty"`
	Source  Source `json:"source"`
	Table   Table  `json:"table"`
	// Select makes the rows, FROM events. Of a SQL projection only.
	Select string `json:"select,omitempty"`
	// Function is the name in the Registry; default Name. Not of a SQL projection.
	Function string `json:"function,omitempty"`
	// Require are conditions that an event must meet to be used.
	Require []Requirement `json:"require,omitempty"`
	// Failures says what becomes of events that cannot be used.
	Failures Failures `json:"failures"`
	// Upcast brings old events into today's shape first.
	Upcast bool    `json:"upcast,omitempty"`
	Checks []Check `json:"checks,omitempty"`
	Scope  Scope   `json:"scope"`
	// Keys are the columns that tell a row from all others, for the difference
	// between two generations; default those of the table's OrderBy. Empty where
	// these are no plain columns: then the difference is one of counts.
	Keys []string `json:"keys,omitempty"`
	// Ignore are columns that the difference does not compare.
	Ignore     []string    `json:"ignore,omitempty"`
	Dependents []Dependent `json:"dependents,omitempty"`
	Retention  Retention   `json:"retention"`
	Approval   Approval    `json:"approval"`

	file   string
	line   int
	lines  map[string]int // of the fields
	offset map[string]int // of the texts of fields that are blocks
}

// Source says which events a projection is made of.
type Source struct {
	// Streams are patterns of names of streams, as in Redis's KEYS.
	Streams []string `json:"streams"`
	// Types are event types, with * for any run of characters; empty: all events,
	// those without a type too.
	Types []string `json:"types,omitempty"`
}

// Table is a table in ClickHouse, as people describe it. Reservoir adds a
// column of lineage of its own.
type Table struct {
	Name        string    `json:"name"`
	Columns     []Column  `json:"columns"`
	Engine      string    `json:"engine"` // MergeTree, ReplacingMergeTree(version), …
	OrderBy     []string  `json:"order_by"`
	PrimaryKey  []string  `json:"primary_key,omitempty"`
	PartitionBy string    `json:"partition_by,omitempty"`
	TTL         string    `json:"ttl,omitempty"`
	Settings    []Setting `json:"settings,omitempty"` // in the order of their names
}

// Column is a column of a table.
type Column struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Default string `json:"default,omitempty"` // an expression
	Codec   string `json:"codec,omitempty"`   // ZSTD(1), or a list of codecs
	Comment string `json:"comment,omitempty"`
}

// Setting is a setting of a table, with its value as a text.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Requirement is a condition that an event must meet to be used.
type Requirement struct {
	// SQL is an expression over the columns of the relation events. An event for
	// which it is false or NULL cannot be used.
	SQL string `json:"sql"`
	// Reason is said of such an event; default "not " and the expression.
	Reason string `json:"reason,omitempty"`
}

// Failures says what becomes of events that cannot be used.
type Failures struct {
	// DeadLetters lets up to so many of them be put aside, with their reason; 0
	// stops at the first one, which is the default.
	DeadLetters uint64 `json:"dead_letters"`
}

// Check is a query about a whole table, and what it must give.
type Check struct {
	Name string `json:"name"`
	// SQL has {table} in place of the table.
	SQL string `json:"sql"`
	// Expect is what its one value is compared with.
	Expect Expectation `json:"expect"`
}

// Scope names the columns by which a part of a table can be rebuilt: all rows
// with a value there are made of events of that tenant, aggregate or time, and of
// no other. Empty: not by that.
type Scope struct {
	Tenant    string `json:"tenant,omitempty"`    // holds the envelope's tenant
	Aggregate string `json:"aggregate,omitempty"` // holds the envelope's aggregate ID
	Time      string `json:"time,omitempty"`      // is made of the envelope's occurred-at
}

// Dependent is a table that is made of the rows of the projection's, as a
// materialised view would make it: chunk by chunk and batch by batch, exactly once,
// and is built, swapped, rolled back and dropped together with it.
type Dependent struct {
	Table Table `json:"table"`
	// Select makes its rows, FROM {table}.
	Select string `json:"select"`
}

// Over gives the SELECT over the rows of the projection's table that meet a condition;
// "" is all of them. It sees the columns of the definition, and no lineage.
func (dep *Dependent) Over(d *Definition, table chstore.Table, where string) string {
	return strings.ReplaceAll(dep.Select, TablePlaceholder, table.Relation(d.columns(), where))
}

// Retention says what becomes of a generation that was replaced.
type Retention struct {
	// Keep is for how long it can be rolled back to; default 7 days.
	Keep time.Duration `json:"keep"`
	// Feed keeps it as fresh as the live one for so long; else it stays as it was.
	Feed bool `json:"feed,omitempty"`
}

// DefaultKeep is the default of Retention.Keep.
const DefaultKeep = 7 * 24 * time.Hour

// Approval says who lets a new generation take the place of the live one.
type Approval string

// The kinds of approval.
const (
	Automatic Approval = "automatic" // it does when every check passed
	Required  Approval = "required"  // a person
)

// File returns the path of the file that the definition is in.
func (d *Definition) File() string { return d.file }

// Where returns the file and line of the definition, "file:line".
func (d *Definition) Where() string { return position(d.file, d.line) }

// Column returns the column of that name.
func (t *Table) Column(name string) (Column, bool) {
	for _, c := range t.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return Column{}, false
}

// EngineName returns the engine without its arguments.
func (t *Table) EngineName() string {
	name, _, _ := strings.Cut(t.Engine, "(")
	return strings.TrimSpace(name)
}

// Kind says what the table's engine does with rows of the same key; "" for an
// engine that cannot be used.
func (t *Table) Kind() chstore.Kind {
	if !slices.Contains(engines(), t.EngineName()) {
		return ""
	}
	kind, err := chstore.EngineKind(t.Engine)
	if err != nil {
		return ""
	}
	return kind
}

func engines() []string {
	return []string{"AggregatingMergeTree", "MergeTree", "ReplacingMergeTree", "SummingMergeTree"}
}

// Spec gives the table as chstore makes it.
func (t *Table) Spec() chstore.TableSpec {
	spec := chstore.TableSpec{
		Engine: t.Engine, OrderBy: strings.Join(t.OrderBy, ", "), PrimaryKey: strings.Join(t.PrimaryKey, ", "),
		PartitionBy: t.PartitionBy, TTL: t.TTL,
	}
	for _, c := range t.Columns {
		spec.Columns = append(spec.Columns, chstore.Column{Name: c.Name, Type: c.Type, Default: c.Default, Codec: c.Codec, Comment: c.Comment})
	}
	for _, s := range t.Settings {
		if spec.Settings == nil {
			spec.Settings = make(map[string]string)
		}
		spec.Settings[s.Name] = s.Value
	}
	return spec
}

// plainName is what projections, tables and columns may be called: it needs no
// quotes anywhere.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxName bounds names, so that what Reservoir appends to them fits.
const maxName = 128
