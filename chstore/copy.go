package chstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// ErrUnproved is wrapped when a table does not hold the rows that were put into it.
var ErrUnproved = errors.New("rows are not all there")

// anew is manyBlocks with a token that no block has had: a table that remembers what
// it was given takes the same rows again.
func anew() clickhouse.Settings {
	settings := manyBlocks()
	settings["insert_deduplication_token"] = rand.Text()
	return settings
}

// Pour adds all rows of a staging table (see TableSpec.Staging) to a table that adds
// rows up, and proves it by Added. Nobody else may write to into meanwhile: on any error
// drop it, make it again and pour again.
func (s *Store) Pour(ctx context.Context, staging, into Table, columns []string, progress func(Progress)) (rows uint64, err error) {
	rows, err = s.Rows(ctx, staging)
	if err != nil {
		return 0, err
	}
	before, err := s.Added(ctx, into)
	if err != nil {
		return 0, err
	}
	if err := s.exec(ctx, &statement{
		what: "pour", doing: "pour " + staging.Name + " into " + into.Name, settings: anew(), progress: progress,
		text: "INSERT INTO " + into.String() + " (" + Identifiers(columns) + ", " + Identifier(EventsColumn) + ") SELECT " +
			Identifiers(columns) + ", toUInt64(1) FROM " + staging.String(),
	}); err != nil {
		return 0, err
	}
	added, err := s.Added(ctx, into)
	if err == nil && added != before+rows {
		err = fmt.Errorf("pour %s into %s: %w: %d of %d", staging.Name, into.Name, ErrUnproved, added-before, rows)
	}
	return rows, err
}

// CopyExcept copies the rows of a table that do not meet a condition into another one,
// whose definition may differ, as one chunk. Rows of a table that keeps or replaces
// rows get that chunk's number; those of one that adds rows up keep their count. The
// rows are counted in both, so nobody may write to from meanwhile, and rows of it must not
// expire (see Quiet). With expires rows leave to by themselves: then there may be fewer of
// them. On ErrUnproved, and any other error, Clean the chunk (or make the table again) and
// copy again. progress, if not nil, is called as the rows are copied.
func (s *Store) CopyExcept(ctx context.Context, from, to Table, columns []string, except string, chunk uint64, expires bool, progress func(Progress)) (rows uint64, err error) {
	target, err := s.Inspect(ctx, to)
	if err != nil {
		return 0, err
	}
	list, lineage := Identifiers(columns), "toUInt64("+number(chunk)+")"
	count, proof := "count()", "SELECT count() FROM "+to.String()+" WHERE "+Identifier(ChunkColumn)+" = "+number(chunk)
	if target.Kind == Adding {
		lineage = Identifier(EventsColumn)
		count, proof = "sum("+lineage+")", "SELECT sum("+lineage+") FROM "+to.String()
	}
	source := from.String()
	if target.Kind == Replacing {
		source += " FINAL"
	}
	rest := " FROM " + source + " WHERE NOT " + truth(except)
	if err := s.scan(ctx, &statement{what: "count", doing: "count what is carried over", text: "SELECT " + count + rest}, &rows); err != nil {
		return 0, err
	}
	if err := s.exec(ctx, &statement{
		what: chunkTag(chunk), doing: "carry over " + from.Name + " into " + to.Name, settings: anew(), progress: progress,
		text: "INSERT INTO " + to.String() + " (" + list + ", " + Identifier(target.Kind.Lineage()) + ") SELECT " + list + ", " + lineage + rest,
	}); err != nil {
		return 0, err
	}
	var there uint64
	if err := s.scan(ctx, &statement{what: "prove", doing: "count what was carried over", text: proof, settings: s.latest()}, &there); err != nil {
		return 0, err
	}
	if there != rows && target.Kind != Replacing && !(expires && there < rows) {
		return there, fmt.Errorf("carry over %s into %s: %w: %d of %d", from.Name, to.Name, ErrUnproved, there, rows)
	}
	return rows, nil
}

// Clone makes the partitions of one table those of another one with the same
// definition, in an instant and without copying data (hard links). It may be issued
// again. Partitions that only to has are dropped. Lineage comes along: chunks of to are
// then to be numbered beyond those of from, which is ErrNoTable if it is not there.
func (s *Store) Clone(ctx context.Context, from, to Table) error {
	exists, wanted, there, err := s.partitions(ctx, from, to)
	if err != nil {
		return err
	}
	if !exists {
		return fmt.Errorf("clone %s into %s: %w", from.Name, to.Name, ErrNoTable)
	}
	for _, id := range wanted {
		if err := s.exec(ctx, &statement{
			what: "clone", doing: "clone a partition of " + from.Name + " into " + to.Name,
			text: replacePartitionText(from, to, id),
		}); err != nil {
			return err
		}
	}
	for _, id := range there {
		if slices.Contains(wanted, id) {
			continue
		}
		if err := s.dropPartition(ctx, to, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) dropPartition(ctx context.Context, table Table, id string) error {
	return s.exec(ctx, &statement{
		what: "drop", doing: "drop a partition of " + table.Name, text: dropPartitionText(table, id),
		settings: map[string]any{"max_partition_size_to_drop": 0},
	})
}

// Neither of these is for all servers of a cluster. Where tables are replicated, the log of
// the table takes them to the other replicas; where they are not, rows are on the connected
// server only.

func replacePartitionText(from, to Table, id string) string {
	return "ALTER TABLE " + to.String() + " REPLACE PARTITION ID " + Literal(id) + " FROM " + from.String()
}

func dropPartitionText(table Table, id string) string {
	return "ALTER TABLE " + table.String() + " DROP PARTITION ID " + Literal(id)
}

// partitions lists those of two tables, and says whether the first one is there.
func (s *Store) partitions(ctx context.Context, one, other Table) (exists bool, ofOne, ofOther []string, err error) {
	a, b := s.part(one), s.part(other)
	err = s.query(ctx, &statement{
		what: "partitions", doing: "list the partitions of " + one.Name + " and " + other.Name,
		text: "SELECT partition_id, countIf(" + a + ") > 0, countIf(" + b + ") > 0, toUInt8(0) FROM system.parts WHERE active AND (" + a + " OR " + b + ") GROUP BY partition_id" +
			" UNION ALL SELECT '', toUInt8(0), toUInt8(0), toUInt8(1) FROM system.tables WHERE " + s.named(one),
	}, func(rows driver.Rows) error {
		var id string
		var inOne, inOther, is uint8
		if err := rows.Scan(&id, &inOne, &inOther, &is); err != nil {
			return err
		}
		exists = exists || is != 0
		if inOne != 0 {
			ofOne = append(ofOne, id)
		}
		if inOther != 0 {
			ofOther = append(ofOther, id)
		}
		return nil
	})
	return exists, ofOne, ofOther, err
}

// part is the condition for parts of a table in system.parts.
func (s *Store) part(table Table) string { return s.of(table, "table") }

// named is the condition for a table in system.tables.
func (s *Store) named(table Table) string { return s.of(table, "name") }

func (s *Store) of(table Table, column string) string {
	if table.Database == "" {
		table.Database = s.server.Database
	}
	return "(database = " + Literal(table.Database) + " AND " + column + " = " + Literal(table.Name) + ")"
}

// DeleteWhere deletes the rows that meet a condition and returns when they are gone.
func (s *Store) DeleteWhere(ctx context.Context, table Table, condition string) error {
	return s.exec(ctx, &statement{
		what: "delete", doing: "delete rows of " + table.Name, settings: deletion(),
		text: "DELETE FROM " + table.String() + s.onCluster() + " WHERE (" + condition + "\n)",
	})
}
