package chstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Alike reports whether the parts of one table can be linked into another one: columns,
// engine and keys are the same, and both lie on the same disks.
func (s *Store) Alike(ctx context.Context, one, other Table) (bool, error) {
	a, err := s.Inspect(ctx, one)
	if err != nil {
		return false, err
	}
	b, err := s.Inspect(ctx, other)
	if err != nil {
		return false, err
	}
	same := func(x, y Column) bool { return x.Name == y.Name && x.Type == y.Type }
	if !slices.EqualFunc(a.Columns, b.Columns, same) || a.Kind != b.Kind || a.OrderBy != b.OrderBy || a.PartitionBy != b.PartitionBy || a.PrimaryKey != b.PrimaryKey {
		return false, nil
	}
	var policies uint64
	err = s.scan(ctx, &statement{
		what: "inspect", doing: "look at where " + one.Name + " and " + other.Name + " lie",
		text: "SELECT uniqExact(storage_policy) FROM system.tables WHERE (database, name) IN ((" + Literal(a.Table.Database) + ", " + Literal(one.Name) + "), (" +
			Literal(b.Table.Database) + ", " + Literal(other.Name) + "))",
	}, &policies)
	return policies == 1, err
}

// LinkExcept makes a table another one that is Alike, but for the rows that meet a
// condition: all parts are linked, and then these rows deleted, whole partitions of them
// at once. What the table had before is gone. Nobody may write to either meanwhile.
// It returns how many rows are left, as they read: where rows are added up, how many
// rows they are made of; and they are proved to be those of from. After an error it
// may be called again.
func (s *Store) LinkExcept(ctx context.Context, from, to Table, except string) (rows uint64, err error) {
	info, err := s.Inspect(ctx, to)
	if err != nil {
		return 0, err
	}
	if err := s.Clone(ctx, from, to); err != nil {
		return 0, err
	}
	if err := s.deletePartly(ctx, to, except); err != nil {
		return 0, err
	}
	want, sum, err := s.proofOfRest(ctx, info, from, "NOT "+truth(except))
	if err != nil {
		return 0, err
	}
	there, thereSum, err := s.proofOfRest(ctx, info, to, "")
	if err == nil && (there != want || thereSum != sum) {
		err = fmt.Errorf("link %s into %s: %w: %d rows, and of the others there are %d", from.Name, to.Name, ErrUnproved, there, want)
	}
	return there, err
}

// truth is a condition that is never NULL.
func truth(condition string) string { return "ifNull(toBool((" + condition + "\n)), false)" }

// deletePartly deletes the rows that meet a condition, and partitions that have no
// others as a whole.
func (s *Store) deletePartly(ctx context.Context, table Table, condition string) error {
	var whole []string
	partly := false
	if err := s.query(ctx, &statement{
		what: "partitions", doing: "look for the rows to delete in " + table.Name,
		text: "SELECT _partition_id, countIf(NOT " + truth(condition) + ") FROM " + table.String() +
			" GROUP BY _partition_id HAVING countIf(" + truth(condition) + ") > 0",
	}, func(rows driver.Rows) error {
		var id string
		var others uint64
		if err := rows.Scan(&id, &others); err != nil {
			return err
		}
		if others == 0 {
			whole = append(whole, id)
		} else {
			partly = true
		}
		return nil
	}); err != nil {
		return err
	}
	for _, id := range whole {
		if err := s.dropPartition(ctx, table, id); err != nil {
			return err
		}
	}
	if !partly {
		return nil
	}
	return s.DeleteWhere(ctx, table, condition)
}

// proofOfRest gives how many rows of a table meet a condition, or how many rows they
// are made of, and a sum of hashes of their keys and lineage. Merges do not change it.
func (s *Store) proofOfRest(ctx context.Context, info Info, table Table, where string) (rows, sum uint64, err error) {
	key := ""
	if info.OrderBy != "" {
		key = info.OrderBy + ", "
	}
	var text string
	switch info.Kind {
	case Adding: // rows of the same key become one, whenever
		text = "SELECT sum(" + Identifier(EventsColumn) + "), toUInt64(0) FROM " + table.String()
	case Replacing:
		text = "SELECT count(), sum(cityHash64(" + key + Identifier(ChunkColumn) + ")) FROM " + table.String() + " FINAL"
	default:
		text = "SELECT count(), sum(cityHash64(" + key + Identifier(ChunkColumn) + ")) FROM " + table.String()
	}
	if strings.TrimSpace(where) != "" {
		text += " WHERE " + where
	}
	err = s.scan(ctx, &statement{what: "prove", doing: "count the rows of " + table.Name + " that are carried over", text: text, settings: s.latest()}, &rows, &sum)
	return rows, sum, err
}

// CountBelow returns how many rows have a lower number than a chunk.
func (s *Store) CountBelow(ctx context.Context, table Table, chunk uint64) (rows uint64, err error) {
	err = s.scan(ctx, &statement{
		what: "prove", doing: "count what is carried over in " + table.Name,
		text:     "SELECT count() FROM " + table.String() + " WHERE " + Identifier(ChunkColumn) + " < " + number(chunk),
		settings: s.latest(),
	}, &rows)
	return rows, err
}
