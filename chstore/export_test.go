package chstore

import (
	"context"
	"time"
)

// KillWithin is Kill with less patience.
func (s *Store) KillWithin(ctx context.Context, what string, within time.Duration) error {
	return s.kill(ctx, what, within)
}
