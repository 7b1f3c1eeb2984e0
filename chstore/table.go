package chstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// TableSpec says how a projection's table is made. The texts of expressions are SQL.
type TableSpec struct {
	Columns []Column `json:"columns"` // without the lineage column
	// Engine is the plain engine with its arguments: "ReplacingMergeTree(version)".
	// Config.Replicated makes it a replicated one.
	Engine      string            `json:"engine"`
	OrderBy     string            `json:"order_by"` // "tenant, order_id"; "tuple()" for none
	PartitionBy string            `json:"partition_by,omitempty"`
	PrimaryKey  string            `json:"primary_key,omitempty"`
	TTL         string            `json:"ttl,omitempty"`
	Settings    map[string]string `json:"settings,omitempty"`
}

// Kind returns what the engine does with rows of the same key.
func (t TableSpec) Kind() (Kind, error) { return EngineKind(t.Engine) }

// Validate returns an error that names the field, its value and what would be right.
// Only the engine itself knows whether expressions are right: see Store.CheckTable.
func (t TableSpec) Validate() error {
	if _, err := t.Kind(); err != nil {
		return err
	}
	if len(t.Columns) == 0 {
		return errors.New("columns: there are none")
	}
	seen := map[string]bool{}
	for _, c := range t.Columns {
		switch {
		case c.Name == "" || c.Type == "":
			return fmt.Errorf("columns: %q of type %q: both must be given", c.Name, c.Type)
		case c.Name == ChunkColumn || c.Name == EventsColumn:
			return remedy.Wrapf(fmt.Errorf("columns: %q is a name that Reservoir needs for itself", c.Name), "Name the column otherwise.")
		case seen[c.Name]:
			return fmt.Errorf("columns: %q is there twice", c.Name)
		}
		seen[c.Name] = true
	}
	if strings.TrimSpace(t.OrderBy) == "" {
		return errors.New(`order_by: is empty; write tuple() for a table without an order`)
	}
	return nil
}

// Names returns the names of the columns, without the lineage column.
func (t TableSpec) Names() []string { return names(t.Columns) }

func (c Column) definition() string {
	def := Identifier(c.Name) + " " + c.Type
	if c.Default != "" {
		def += " DEFAULT " + c.Default
	}
	if c.Comment != "" {
		def += " COMMENT " + Literal(c.Comment)
	}
	if c.Codec != "" {
		def += " CODEC(" + c.Codec + ")"
	}
	return def
}

// dedupWindow is how many blocks' tokens a table remembers.
const dedupWindow = "1000"

// ddl returns the statement that makes the table.
func (s *Store) ddl(table Table, spec TableSpec, mark Mark) (string, error) {
	if err := spec.Validate(); err != nil {
		return "", fmt.Errorf("table %s: %w", table.Name, err)
	}
	e, err := parseEngine(spec.Engine)
	if err != nil {
		return "", fmt.Errorf("table %s: %w", table.Name, err)
	}
	comment, err := mark.Comment()
	if err != nil {
		return "", err
	}
	var defs []string
	for _, c := range spec.Columns {
		defs = append(defs, "  "+c.definition())
	}
	defs = append(defs, lineageDefinition(e)...)
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s%s\n(\n%s\n)\nENGINE = %s\n", table, s.onCluster(), strings.Join(defs, ",\n"), e.text(s.config.Replicated))
	clause(&b, "PARTITION BY", spec.PartitionBy)
	clause(&b, "PRIMARY KEY", keyList(spec.PrimaryKey))
	clause(&b, "ORDER BY", keyList(spec.OrderBy))
	clause(&b, "TTL", spec.TTL)
	settings := map[string]string{}
	if s.config.Replicated {
		settings["replicated_deduplication_window"] = dedupWindow
	} else {
		settings["non_replicated_deduplication_window"] = dedupWindow
	}
	maps.Copy(settings, spec.Settings)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		list = append(list, Identifier(name)+" = "+settingValue(settings[name]))
	}
	fmt.Fprintf(&b, "SETTINGS %s\nCOMMENT %s", strings.Join(list, ", "), Literal(comment))
	return b.String(), nil
}

func lineageDefinition(e engine) []string {
	switch {
	case e.name == "AggregatingMergeTree":
		return []string{"  " + Identifier(EventsColumn) + " SimpleAggregateFunction(sum, UInt64)"}
	case e.kind == Adding:
		return []string{"  " + Identifier(EventsColumn) + " UInt64"}
	}
	return []string{
		"  " + Identifier(ChunkColumn) + " UInt64 CODEC(T64, ZSTD(1))",
		"  INDEX _chunk_range " + Identifier(ChunkColumn) + " TYPE minmax GRANULARITY 16",
	}
}

func clause(b *strings.Builder, keyword, text string) {
	if strings.TrimSpace(text) != "" {
		fmt.Fprintf(b, "%s %s\n", keyword, text)
	}
}

// keyList puts a list of keys into parentheses, where it is not one already.
func keyList(text string) string {
	text = strings.TrimSpace(text)
	if text == "" || text == "tuple()" {
		return text
	}
	return "(" + text + ")"
}

// settingValue writes a number as it is and everything else as a text.
func settingValue(value string) string {
	if value != "" && strings.Trim(value, "0123456789.") == "" {
		return value
	}
	return Literal(value)
}

// CreateTable makes a table with a lineage column as its last and the mark as its
// comment. A table of that name and with that mark is taken for this one's; one with
// another mark is an error that is ErrExists.
func (s *Store) CreateTable(ctx context.Context, table Table, spec TableSpec, mark Mark) error {
	ddl, err := s.ddl(table, spec, mark)
	if err != nil {
		return err
	}
	err = s.exec(ctx, &statement{what: "create", doing: "create table " + table.Name, text: ddl})
	if !errors.Is(err, ErrExists) {
		return err
	}
	info, inspectErr := s.Inspect(ctx, table)
	if inspectErr == nil && info.Mark == mark {
		return nil
	}
	return errors.Join(err, inspectErr)
}

// Staging returns the spec of a table that keeps every row of what is to be poured
// into one of spec: the same columns, no order, no merging.
func (t TableSpec) Staging() TableSpec {
	return TableSpec{Columns: t.Columns, Engine: "MergeTree", OrderBy: "tuple()"}
}

// DropTable drops a table, if it is there, and returns when its data is gone.
func (s *Store) DropTable(ctx context.Context, table Table) error {
	return s.drop(ctx, table, "IF EXISTS ")
}

func (s *Store) drop(ctx context.Context, table Table, condition string) error {
	return s.exec(ctx, &statement{
		what: "drop", doing: "drop table " + table.Name,
		text:     "DROP TABLE " + condition + table.String() + s.onCluster() + " SYNC",
		settings: map[string]any{"max_table_size_to_drop": 0, "max_partition_size_to_drop": 0},
	})
}

// CheckTable asks the engine whether it takes the table's definition, without making it
// for longer than that takes.
func (s *Store) CheckTable(ctx context.Context, spec TableSpec) error {
	table := s.Table("_reservoir_check_" + strings.ToLower(s.queryID("")[len(s.prefix("")):]))
	ddl, err := s.ddl(table, spec, Mark{Role: "check"})
	if err != nil {
		return err
	}
	if err := s.exec(ctx, &statement{what: "check", doing: "try the definition of the table", text: ddl}); err != nil {
		return err
	}
	return s.DropTable(context.WithoutCancel(ctx), table)
}

func (s *Store) onCluster() string {
	if s.config.Cluster == "" {
		return ""
	}
	return " ON CLUSTER " + Identifier(s.config.Cluster)
}
