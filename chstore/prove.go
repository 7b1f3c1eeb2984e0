package chstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Prove returns how many rows of a chunk are in a table. Where rows replace each other
// it may be fewer than were written.
func (s *Store) Prove(ctx context.Context, table Table, chunk uint64) (rows uint64, err error) {
	err = s.scan(ctx, &statement{
		what: "prove", doing: fmt.Sprintf("count chunk %d in %s", chunk, table.Name),
		text:     "SELECT count() FROM " + table.String() + " WHERE " + OfChunk(chunk),
		settings: s.latest(),
	}, &rows)
	return rows, err
}

// latest makes a read from a replica see what was acknowledged.
func (s *Store) latest() map[string]any {
	if !s.config.Replicated {
		return nil
	}
	return map[string]any{"select_sequential_consistency": 1}
}

// Chunks returns the rows of every chunk from the given number on, by number.
func (s *Store) Chunks(ctx context.Context, table Table, from uint64) (map[uint64]uint64, error) {
	chunks := map[uint64]uint64{}
	err := s.query(ctx, &statement{
		what: "prove", doing: "count the chunks of " + table.Name,
		text: "SELECT " + Identifier(ChunkColumn) + ", count() FROM " + table.String() + " WHERE " + Identifier(ChunkColumn) + " >= " + number(from) +
			" GROUP BY " + Identifier(ChunkColumn),
		settings: s.latest(),
	}, func(rows driver.Rows) error {
		var chunk, count uint64
		if err := rows.Scan(&chunk, &count); err != nil {
			return err
		}
		chunks[chunk] = count
		return nil
	})
	return chunks, err
}

// Clean deletes the rows of a chunk and returns when they are gone, on all replicas.
func (s *Store) Clean(ctx context.Context, table Table, chunk uint64) error {
	return s.exec(ctx, &statement{
		what: "clean", doing: fmt.Sprintf("delete chunk %d from %s", chunk, table.Name),
		text:     "DELETE FROM " + table.String() + s.onCluster() + " WHERE " + OfChunk(chunk),
		settings: deletion(),
	})
}

// CountWhere returns how many rows of a table meet all of some conditions in SQL. What is
// NULL does not.
func (s *Store) CountWhere(ctx context.Context, table Table, conditions ...string) (rows uint64, err error) {
	parts := make([]string, len(conditions))
	for i, c := range conditions {
		parts[i] = "(" + c + "\n)" // as it is, so that the table's key is made use of
	}
	err = s.scan(ctx, &statement{
		what: "prove", doing: "count rows of " + table.Name, settings: s.latest(),
		text: "SELECT count() FROM " + table.String() + " WHERE " + strings.Join(parts, " AND "),
	}, &rows)
	return rows, err
}

// Rows returns how many rows a table holds just now.
func (s *Store) Rows(ctx context.Context, table Table) (rows uint64, err error) {
	err = s.scan(ctx, &statement{what: "rows", doing: "count the rows of " + table.Name, text: "SELECT count() FROM " + table.String(), settings: s.latest()}, &rows)
	return rows, err
}

// Added returns how many rows were ever added to a table that adds rows up. Merges do
// not change it.
func (s *Store) Added(ctx context.Context, table Table) (rows uint64, err error) {
	err = s.scan(ctx, &statement{
		what: "rows", doing: "count what was added to " + table.Name,
		text: "SELECT sum(" + Identifier(EventsColumn) + ") FROM " + table.String(), settings: s.latest(),
	}, &rows)
	return rows, err
}

// Holds is Rows or, where rows are added up, Added.
func (s *Store) Holds(ctx context.Context, table Table, kind Kind) (rows uint64, err error) {
	if kind == Adding {
		return s.Added(ctx, table)
	}
	return s.Rows(ctx, table)
}
