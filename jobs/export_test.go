package jobs

import (
	"context"
	"crypto/rand"
)

// Steal gives a job to another worker, as if the lease had run out.
func (s *Store) Steal(ctx context.Context, id, worker string) error {
	j, err := s.active(ctx, id)
	if err != nil {
		return err
	}
	j.Lease.Worker, j.Nonce = worker, rand.Text()
	j.Epoch++
	return s.replace(ctx, j)
}

// DropLease writes a job off its worker, as if the lease had run out.
func (s *Store) DropLease(ctx context.Context, id string) error {
	j, err := s.active(ctx, id)
	if err != nil {
		return err
	}
	j.Lease, j.Nonce = nil, rand.Text()
	return s.replace(ctx, j)
}
