package chstore

import "context"

// ProveLinked is each of the ways in which LinkExcept proves what it has done, when so many
// rows met the condition.
func (s *Store) ProveLinked(ctx context.Context, l Links, within uint64) (byParts, byRows uint64, byPartsErr, byRowsErr error) {
	byParts, byPartsErr = s.proveLinks(ctx, &l, within)
	byRows, byRowsErr = s.proveRest(ctx, &l)
	return byParts, byRows, byPartsErr, byRowsErr
}

// SameParts is sameParts.
func (s *Store) SameParts(ctx context.Context, one, other Table) (bool, error) {
	return s.sameParts(ctx, one, other)
}
