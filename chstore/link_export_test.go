package chstore

import "context"

// ProveLinked is each of the ways in which LinkExcept proves what it has done, when so many
// rows met the condition.
func (s *Store) ProveLinked(ctx context.Context, l Links, within uint64) (byParts, byRows uint64, byPartsErr, byRowsErr error) {
	to, err := s.Inspect(ctx, l.To)
	if err != nil {
		return 0, 0, err, err
	}
	byParts, byPartsErr = s.proveLinks(ctx, &l, to.Kind, within)
	byRows, byRowsErr = s.proveRest(ctx, &l, to)
	return byParts, byRows, byPartsErr, byRowsErr
}

// SameParts is sameParts.
func (s *Store) SameParts(ctx context.Context, one, other Table) (bool, error) {
	return s.sameParts(ctx, one, other)
}
