package chstore

import (
	"context"
	"time"
)

// KillWithin is Kill with less patience.
func (s *Store) KillWithin(ctx context.Context, what string, within time.Duration) error {
	return s.kill(ctx, what, within)
}

// Settled waits until all servers have the table with the mark under the name.
func (s *Store) Settled(ctx context.Context, live Table, want Mark, within time.Duration) error {
	return s.settled(ctx, live, want, within)
}
