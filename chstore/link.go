package chstore

import (
	"context"
	"fmt"
	"maps"
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
	return slices.EqualFunc(a.Columns, b.Columns, same) && a.Kind == b.Kind && a.OrderBy == b.OrderBy && a.PartitionBy == b.PartitionBy &&
		a.PrimaryKey == b.PrimaryKey && a.Policy == b.Policy, nil
}

// Quiet returns the spec of a table in which no parts are merged, not even to drop rows
// that expire: parts that are linked into it stay what they are, and nothing of them waits
// for a merge.
func (t TableSpec) Quiet() TableSpec {
	quiet := maps.Clone(t.Settings)
	if quiet == nil {
		quiet = map[string]string{}
	}
	quiet["max_bytes_to_merge_at_max_space_in_pool"] = "1"
	quiet["max_bytes_to_merge_at_min_space_in_pool"] = "1"
	quiet["max_number_of_merges_with_ttl_in_pool"] = "0"
	t.Settings = quiet
	return t
}

// Links says what LinkExcept is to do.
type Links struct {
	// From is linked into To, by way of Via. All are Alike, and nobody else may write to
	// any of them meanwhile. From and Via should be Quiet: merges make all of this slow.
	From, Via, To Table
	Kind          Kind // theirs
	// Except is a condition in SQL: rows that meet it are left out.
	Except string
	// ByKey says that of the rows of one key either all meet Except or none does, as where
	// it looks at columns of the key only.
	ByKey bool
	// Expires says that rows leave To by themselves: then there may be fewer.
	Expires bool
}

// LinkExcept makes To the table From, but for the rows that meet a condition: all parts
// are linked into Via, where these rows are deleted, whole partitions of them at once, and
// what is left is linked into To. What both had before is gone.
//
// It returns how many rows are left; where rows are added up, how many rows they are made
// of. They are proved to be those of From. After an error it may be called again.
func (s *Store) LinkExcept(ctx context.Context, l Links) (rows uint64, err error) {
	if err := s.Clone(ctx, l.From, l.Via); err != nil {
		return 0, err
	}
	asFrom, err := s.sameParts(ctx, l.From, l.Via)
	if err != nil {
		return 0, err
	}
	within, err := s.deletePartly(ctx, &l)
	if err != nil {
		return 0, err
	}
	if err := s.Clone(ctx, l.Via, l.To); err != nil {
		return 0, err
	}
	asVia, err := s.sameParts(ctx, l.Via, l.To)
	if err != nil {
		return 0, err
	}
	if asFrom && asVia && (l.ByKey || l.Kind != Replacing) {
		return s.proveLinks(ctx, &l, within)
	}
	return s.proveRest(ctx, &l)
}

// sameParts says whether two tables are made of the same parts, by the hashes of their
// files. Of the same rows they may be all the same: parts are merged.
func (s *Store) sameParts(ctx context.Context, one, other Table) (bool, error) {
	a, b := s.part(one), s.part(other)
	var differ uint64
	err := s.scan(ctx, &statement{
		what: "parts", doing: "compare the parts of " + one.Name + " and " + other.Name,
		text: "SELECT count() FROM (SELECT partition_id, rows, hash_of_all_files FROM system.parts WHERE active AND (" + a + " OR " + b + ")" +
			" GROUP BY ALL HAVING countIf(" + a + ") != countIf(" + b + "))",
	}, &differ)
	return differ == 0, err
}

// truth is a condition that is never NULL.
func truth(condition string) string { return "ifNull(toBool((" + condition + "\n)), false)" }

// deletePartly deletes from Via what is not to be carried over, and partitions that have
// nothing else as a whole. It returns how many rows of From that are, which are looked up by
// its key where that can be.
func (s *Store) deletePartly(ctx context.Context, l *Links) (within uint64, err error) {
	met := map[string]uint64{}
	if err := s.query(ctx, &statement{
		what: "partitions", doing: "look for the rows to delete in " + l.From.Name, settings: s.latest(),
		text: "SELECT _partition_id, count() FROM " + l.From.String() + " WHERE (" + l.Except + "\n) GROUP BY _partition_id",
	}, func(rows driver.Rows) error {
		var id string
		var n uint64
		if err := rows.Scan(&id, &n); err != nil {
			return err
		}
		met[id], within = n, within+n
		return nil
	}); err != nil || within == 0 {
		return 0, err
	}
	all, err := s.partitionRows(ctx, l.Via)
	if err != nil {
		return 0, err
	}
	partly := false
	for id, n := range met {
		if n != all[id] {
			partly = true
			continue
		}
		if err := s.dropPartition(ctx, l.Via, id); err != nil {
			return 0, err
		}
	}
	if partly {
		err = s.DeleteWhere(ctx, l.Via, l.Except)
	}
	return within, err
}

// partitionRows returns how many rows the parts of each partition have, with those that
// are deleted.
func (s *Store) partitionRows(ctx context.Context, table Table) (map[string]uint64, error) {
	all := map[string]uint64{}
	err := s.query(ctx, &statement{
		what: "partitions", doing: "count the rows of the partitions of " + table.Name,
		text: "SELECT partition_id, sum(rows) FROM system.parts WHERE active AND " + s.part(table) + " GROUP BY partition_id",
	}, func(rows driver.Rows) error {
		var id string
		var n uint64
		if err := rows.Scan(&id, &n); err != nil {
			return err
		}
		all[id] = n
		return nil
	})
	return all, err
}

// proveLinks proves that Via has all rows of From but so many, where it has no parts but
// those of that one, from which rows are deleted: if none is left that meets the condition,
// and no other is missing, the others are as they were, byte for byte. To was made of the
// same parts; its own are merged meanwhile.
func (s *Store) proveLinks(ctx context.Context, l *Links, within uint64) (rows uint64, err error) {
	all, err := s.Rows(ctx, l.From)
	if err != nil {
		return 0, err
	}
	there, err := s.Rows(ctx, l.Via)
	if err != nil {
		return 0, err
	}
	left, err := s.CountWhere(ctx, l.Via, l.Except)
	if err != nil {
		return 0, err
	}
	want := all - within
	if left != 0 || there != want {
		return there, fmt.Errorf("link %s into %s: %w: %d rows, of which %d are not to be there, and of the others there are %d", l.From.Name, l.To.Name, ErrUnproved, there, left, want)
	}
	if l.Kind == Adding {
		return s.Added(ctx, l.Via)
	}
	return there, nil
}

// proveRest is proveLinks for tables of any parts. Of rows that replace each other it
// looks at those that are read: it finds keys of which some rows only were deleted, too.
func (s *Store) proveRest(ctx context.Context, l *Links) (rows uint64, err error) {
	to, err := s.Inspect(ctx, l.To)
	if err != nil {
		return 0, err
	}
	want, sum, err := s.proofOfRest(ctx, to, l.From, "NOT "+truth(l.Except))
	if err != nil {
		return 0, err
	}
	there, thereSum, err := s.proofOfRest(ctx, to, l.To, "")
	if err != nil || l.Expires && there < want || there == want && thereSum == sum {
		return there, err
	}
	return there, fmt.Errorf("link %s into %s: %w: %d rows, and of the others there are %d", l.From.Name, l.To.Name, ErrUnproved, there, want)
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
