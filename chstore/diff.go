package chstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// DiffSpec says how to compare two tables of one projection.
type DiffSpec struct {
	Old, New Table
	// Keys are the columns that tell rows apart. Without any, all compared columns do:
	// then a row is there or not, and none is changed.
	Keys []string
	// Columns are compared beside Keys; none: all that both tables have.
	Columns []string
	// Where is a condition in SQL that both tables' rows must meet, or "".
	Where string
	// Samples bounds the samples of each kind; default 10.
	Samples int
	// Memory bounds the memory of the comparison in bytes, beyond which it goes to the
	// server's disk; default 256 MiB.
	Memory uint64
	// Progress is called as the rows are read, as that of Load is.
	Progress func(Progress)
}

// Diff is the difference between two tables. Keys that several rows share are compared
// as multisets of rows.
type Diff struct {
	OldRows, NewRows uint64
	// Same, Added, Removed and Changed count keys: in both and equal, in the new table
	// only, in the old one only, in both and different.
	Same, Added, Removed, Changed uint64
	// OldColumns and NewColumns are those that only one of the tables has.
	OldColumns, NewColumns []string
	Samples                []Difference
}

// Equal reports whether no row differs.
func (d Diff) Equal() bool { return d.Added == 0 && d.Removed == 0 && d.Changed == 0 }

// Difference is one key that differs.
type Difference struct {
	Kind string // "added", "removed" or "changed"
	// Old and New are the rows of that key by column, at most three of each.
	Old, New []map[string]json.RawMessage
}

// Diff compares two tables, row by row as they read with FINAL where rows are replaced
// or added up. Values are compared by their hashes, so it needs memory for keys only,
// and bounded memory at that. Lineage is not compared.
func (s *Store) Diff(ctx context.Context, spec DiffSpec) (Diff, error) {
	before, err := s.Inspect(ctx, spec.Old)
	if err != nil {
		return Diff{}, fmt.Errorf("compare tables: %w", err)
	}
	after, err := s.Inspect(ctx, spec.New)
	if err != nil {
		return Diff{}, fmt.Errorf("compare tables: %w", err)
	}
	c := comparison{spec: spec, old: before, new: after}
	if err := c.choose(); err != nil {
		return Diff{}, fmt.Errorf("compare %s with %s: %w", spec.Old.Name, spec.New.Name, err)
	}
	diff := Diff{OldColumns: missing(before, after), NewColumns: missing(after, before)}
	hashes, err := c.count(ctx, s, &diff)
	if err != nil {
		return Diff{}, err
	}
	diff.Samples, err = c.sample(ctx, s, hashes)
	return diff, err
}

// missing returns the columns of a that b has not.
func missing(a, b Info) []string {
	var list []string
	for _, c := range a.shownColumns(nil) {
		if _, ok := b.column(c.Name); !ok {
			list = append(list, c.Name)
		}
	}
	return list
}

// comparison is a Diff at work.
type comparison struct {
	spec     DiffSpec
	old, new Info
	keys     []string
	compared []string // beside keys
}

func (c *comparison) choose() error {
	if c.spec.Samples <= 0 {
		c.spec.Samples = 10
	}
	if c.spec.Memory == 0 {
		c.spec.Memory = 256 << 20
	}
	has := func(i Info, name string) bool {
		_, ok := i.column(name)
		return ok
	}
	for _, name := range append(slices.Clone(c.spec.Keys), c.spec.Columns...) {
		if !has(c.old, name) || !has(c.new, name) {
			return fmt.Errorf("column %s is not in both", name)
		}
	}
	c.keys, c.compared = c.spec.Keys, c.spec.Columns
	if len(c.compared) == 0 {
		for _, column := range c.old.shownColumns(nil) {
			if has(c.new, column.Name) {
				c.compared = append(c.compared, column.Name)
			}
		}
	}
	if len(c.keys) == 0 {
		c.keys, c.compared = c.compared, nil
	}
	if len(c.keys) == 0 {
		return errors.New("they have no column in common")
	}
	return nil
}

// bitwise matches types whose values are equal when their bytes are, and else not: that is
// so of no fraction, of which zero has two.
var bitwise = regexp.MustCompile(`^(String|FixedString\(\d+\)|LowCardinality\(String\)|U?Int\d+|Bool|UUID|IPv[46]|Date|Date32|DateTime(\('[^']*'\))?|DateTime64\([^()]*\)|Decimal\([^()]*\)|Enum(8|16)\(.*\))$`)

// hash writes the hash of columns of one of the tables.
func (c *comparison) hash(function string, info Info, list []string) string {
	values := make([]string, len(list))
	for i, name := range list {
		column, _ := info.column(name)
		before, _ := c.old.column(name)
		after, _ := c.new.column(name)
		values[i] = Identifier(name)
		if before.Type != after.Type || !bitwise.MatchString(column.Type) {
			// Texts, so that columns whose types changed compare by what they hold.
			values[i] = asJSON(column)
		}
	}
	if len(values) == 0 {
		return "toUInt64(0)"
	}
	return function + "(" + strings.Join(values, ", ") + ")"
}

func (c *comparison) side(info Info, isNew int) string {
	// Their names are none that a column may have.
	text := fmt.Sprintf("SELECT %s AS `the key`, %s AS `the rest`, toUInt8(%d) AS `the side` FROM %s", c.hash("sipHash128", info, c.keys), c.hash("sipHash64", info, c.compared), isNew, info.source(true))
	if strings.TrimSpace(c.spec.Where) != "" {
		text += " WHERE (" + c.spec.Where + "\n)"
	}
	return text
}

// count fills in the counts and returns the hashes of keys to show, by kind.
func (c *comparison) count(ctx context.Context, s *Store, diff *Diff) (map[string][]string, error) {
	settings := spilling(c.spec.Memory)
	settings["group_by_two_level_threshold"] = 100_000
	hashes := map[string][]string{}
	err := s.query(ctx, &statement{
		what: "diff", doing: "compare " + c.spec.Old.Name + " with " + c.spec.New.Name, settings: settings, progress: c.spec.Progress,
		text: fmt.Sprintf(`SELECT kind, count(), sum(o), sum(n), arrayMap(x -> hex(x), groupArraySorted(%d)(k)) FROM (
SELECT "the key" AS k, countIf("the side" = 0) AS o, countIf("the side" = 1) AS n, sumIf("the rest", "the side" = 0) AS oh, sumIf("the rest", "the side" = 1) AS nh,
multiIf(o = 0, 'added', n = 0, 'removed', o != n OR oh != nh, 'changed', 'same') AS kind
FROM (%s UNION ALL %s) GROUP BY k) GROUP BY kind`, c.spec.Samples, c.side(c.old, 0), c.side(c.new, 1)),
	}, func(rows driver.Rows) error {
		var kind string
		var keys, before, after uint64
		var sample []string
		if err := rows.Scan(&kind, &keys, &before, &after, &sample); err != nil {
			return err
		}
		diff.OldRows, diff.NewRows = diff.OldRows+before, diff.NewRows+after
		*map[string]*uint64{"added": &diff.Added, "removed": &diff.Removed, "changed": &diff.Changed, "same": &diff.Same}[kind] = keys
		if kind != "same" {
			hashes[kind] = sample
		}
		return nil
	})
	return hashes, err
}

// perKey bounds the rows of one key that are shown of each table.
const perKey = 3

func (c *comparison) sample(ctx context.Context, s *Store, hashes map[string][]string) ([]Difference, error) {
	var all []string
	for _, kind := range []string{"removed", "added", "changed"} {
		all = append(all, hashes[kind]...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	before, err := c.rowsOf(ctx, s, c.old, all)
	if err != nil {
		return nil, err
	}
	after, err := c.rowsOf(ctx, s, c.new, all)
	if err != nil {
		return nil, err
	}
	var list []Difference
	for _, kind := range []string{"changed", "added", "removed"} {
		for _, k := range hashes[kind] {
			list = append(list, Difference{Kind: kind, Old: before[k], New: after[k]})
		}
	}
	return list, nil
}

// rowsOf returns the rows with the given hashes of keys, by hash.
func (c *comparison) rowsOf(ctx context.Context, s *Store, info Info, hashes []string) (map[string][]map[string]json.RawMessage, error) {
	columns := info.shownColumns(append(slices.Clone(c.keys), c.compared...))
	key := Column{Name: "the key", Type: "String"}
	text := "SELECT hex(" + c.hash("sipHash128", info, c.keys) + ") AS " + Identifier(key.Name) + ", " + listed(append([]Column{key}, columns...)) + " FROM " + info.source(true) +
		" WHERE " + Identifier(key.Name) + " IN (" + Literals(hashes) + ")"
	if strings.TrimSpace(c.spec.Where) != "" {
		text += " AND (" + c.spec.Where + "\n)"
	}
	text = "SELECT * EXCEPT " + Identifier(key.Name) + fmt.Sprintf(" FROM (%s LIMIT %d BY %s)", text, perKey, Identifier(key.Name))
	rows, err := s.rows(ctx, &statement{what: "diff", doing: "read rows that differ in " + info.Table.Name, text: text}, append([]Column{key}, columns...))
	if err != nil {
		return nil, err
	}
	found := map[string][]map[string]json.RawMessage{}
	for _, row := range rows.Rows {
		values := map[string]json.RawMessage{}
		for i, c := range columns {
			values[c.Name] = row[i+1]
		}
		k := strings.Trim(string(row[0]), `"`)
		found[k] = append(found[k], values)
	}
	return found, nil
}
