package chstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Info is a table as it is.
type Info struct {
	Table   Table
	UUID    string
	Mark    Mark
	Comment string
	Engine  string // with its arguments, as the server writes them
	Kind    Kind   // "" for an engine that is none of ours
	Columns []Column
	OrderBy string // as the server writes it, as are the two below
	// PartitionBy is "" for none.
	PartitionBy string
	PrimaryKey  string
	// Policy says on which disks it lies.
	Policy string
	// Rows and Bytes (compressed) count what is active; Parts how many parts that is.
	Rows, Bytes, Parts uint64
}

// Lineage reports whether the table has the hidden column that its kind needs.
func (i Info) Lineage() bool {
	return i.Kind != "" && slices.ContainsFunc(i.Columns, func(c Column) bool { return c.Name == i.Kind.Lineage() })
}

func (i Info) column(name string) (Column, bool) {
	at := slices.IndexFunc(i.Columns, func(c Column) bool { return c.Name == name })
	if at < 0 {
		return Column{}, false
	}
	return i.Columns[at], true
}

// Fingerprint is a digest of what the table is: its columns, engine and keys, not its
// name, mark or contents. Another fingerprint than that of the table when it was made
// says that it was altered by hand.
func (i Info) Fingerprint() string {
	h := sha256.New()
	for _, text := range []string{i.Engine, i.OrderBy, i.PartitionBy, i.PrimaryKey} {
		fmt.Fprintf(h, "%q\n", text)
	}
	for _, c := range i.Columns {
		fmt.Fprintf(h, "%q %q %q\n", c.Name, c.Type, c.Default)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Inspect returns what a table is. One that is not there is ErrNoTable.
func (s *Store) Inspect(ctx context.Context, table Table) (Info, error) {
	infos, err := s.inspect(ctx, table, "name = "+Literal(table.Name))
	if err != nil {
		return Info{}, err
	}
	if len(infos) == 0 {
		return Info{}, fmt.Errorf("look at table %s: %w", table.Name, ErrNoTable)
	}
	return infos[0], s.columns(ctx, &infos[0])
}

// marked is the condition for tables that bear a mark.
const marked = `comment LIKE '{"reservoir":%'`

// Marked returns the tables of a projection in a database (of the connection, if
// ""), without their columns: whatever name they have, in the order of names.
func (s *Store) Marked(ctx context.Context, database, projection string) ([]Info, error) {
	if database == "" {
		database = s.server.Database
	}
	infos, err := s.inspect(ctx, Table{Database: database}, marked)
	return slices.DeleteFunc(infos, func(i Info) bool { return i.Mark.Projection != projection }), err
}

func (s *Store) inspect(ctx context.Context, table Table, condition string) ([]Info, error) {
	if table.Database == "" {
		table.Database = s.server.Database
	}
	var infos []Info
	err := s.query(ctx, &statement{
		what: "inspect", doing: "look at table " + table.Name,
		text: `SELECT name, toString(uuid), comment, engine_full, sorting_key, partition_key, primary_key, storage_policy, ifNull(total_rows, 0), ifNull(total_bytes, 0), ifNull(parts, 0)
FROM system.tables WHERE database = ` + Literal(table.Database) + " AND " + condition + " ORDER BY name",
	}, func(rows driver.Rows) error {
		i := Info{Table: Table{Database: table.Database}}
		if err := rows.Scan(&i.Table.Name, &i.UUID, &i.Comment, &i.Engine, &i.OrderBy, &i.PartitionBy, &i.PrimaryKey, &i.Policy, &i.Rows, &i.Bytes, &i.Parts); err != nil {
			return err
		}
		i.Mark, i.Engine = ParseMark(i.Comment), engineOnly(i.Engine)
		if kind, err := EngineKind(i.Engine); err == nil {
			i.Kind = kind
		}
		infos = append(infos, i)
		return nil
	})
	return infos, err
}

// engineOnly cuts the clauses off that follow an engine in engine_full.
func engineOnly(full string) string {
	end := len(full)
	for _, keyword := range []string{" PARTITION BY ", " PRIMARY KEY ", " ORDER BY ", " SAMPLE BY ", " TTL ", " SETTINGS "} {
		if at := strings.Index(full, keyword); at >= 0 && at < end {
			end = at
		}
	}
	return full[:end]
}

func (s *Store) columns(ctx context.Context, info *Info) error {
	return s.query(ctx, &statement{
		what: "inspect", doing: "look at the columns of " + info.Table.Name,
		text: `SELECT name, type, default_expression, compression_codec, comment FROM system.columns
WHERE database = ` + Literal(info.Table.Database) + " AND table = " + Literal(info.Table.Name) + " ORDER BY position",
	}, func(rows driver.Rows) error {
		var c Column
		if err := rows.Scan(&c.Name, &c.Type, &c.Default, &c.Codec, &c.Comment); err != nil {
			return err
		}
		c.Codec = strings.TrimSuffix(strings.TrimPrefix(c.Codec, "CODEC("), ")")
		info.Columns = append(info.Columns, c)
		return nil
	})
}
