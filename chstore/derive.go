package chstore

import "context"

// Relation is what a SELECT reads instead of a table: the given columns of the rows that
// meet a condition, in parentheses. A where of "" takes them all.
func (t Table) Relation(columns []string, where string) string {
	text := "(SELECT " + Identifiers(columns) + " FROM " + t.String()
	if where != "" {
		text += " WHERE " + where
	}
	return text + ")"
}

// OfChunk is the condition for the rows of a chunk.
func OfChunk(chunk uint64) string { return Identifier(ChunkColumn) + " = " + number(chunk) }

// LoadSelect is LoadFiles for a SELECT that names itself what it reads.
func (s *Store) LoadSelect(ctx context.Context, load Load) (rows uint64, err error) {
	return s.load(ctx, "", load, nil, nil)
}

// CountSelect returns how many rows such a SELECT gives.
func (s *Store) CountSelect(ctx context.Context, selection string) (rows uint64, err error) {
	err = s.scan(ctx, &statement{what: "count", doing: "count what the SELECT gives", text: over("", "count()", selection), settings: s.latest()}, &rows)
	return rows, err
}

// DescribeSelect returns the columns of such a SELECT, without running it.
func (s *Store) DescribeSelect(ctx context.Context, selection string) ([]Column, error) {
	return s.describe(ctx, trimSelect(selection))
}
