package jobs

import (
	"context"
	"iter"
	"time"
)

// Watch gives the job as it is, and then every revision that it sees by looking
// every so often, until one that has ended. It may miss revisions in between.
// The end of ctx is an error like any other.
func (s *Store) Watch(ctx context.Context, id string, every time.Duration) iter.Seq2[*Job, error] {
	return func(yield func(*Job, error) bool) {
		seen := ""
		for {
			j, err := s.Get(ctx, id)
			if err != nil {
				yield(nil, err)
				return
			}
			if j.Nonce != seen && (!yield(j, nil) || j.State.Ended()) {
				return
			}
			seen = j.Nonce
			if err := wait(ctx, every); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// wait waits for a while, or for the end of ctx, whose cause it then returns.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
