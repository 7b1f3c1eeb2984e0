package jobs

import (
	"context"
	"crypto/rand"
)

// DropLease writes a job off its worker, as if the lease had run out.
func (s *Store) DropLease(ctx context.Context, id string) error {
	j, err := s.active(ctx, id)
	if err != nil {
		return err
	}
	j.Lease, j.Nonce = nil, rand.Text()
	return s.replace(ctx, j)
}
