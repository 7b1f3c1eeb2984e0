package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// pruneEvery is how often a Runner looks for jobs to prune.
const pruneEvery = time.Hour

// Prune deletes the jobs that were closed before a time, with their files, and the
// idempotency keys that were made before it. It returns how many jobs it deleted.
// Damaged documents are left.
func (s *Store) Prune(ctx context.Context, before time.Time) (int, error) {
	pruned := 0
	for e, err := range s.endedEntries(ctx, &Query{Until: before}) { // created before it, at least
		var closed bool
		if err == nil {
			closed, err = s.closedBefore(ctx, e, before)
		}
		if err == nil && closed {
			err = s.forget(ctx, e)
		}
		if err != nil {
			return pruned, fmt.Errorf("prune jobs: %w", err)
		}
		if closed {
			pruned++
		}
	}
	old := func(info objectstore.Info) bool { return !info.ModTime.IsZero() && info.ModTime.Before(before) }
	if err := s.remove(ctx, keysDir, old); err != nil {
		return pruned, fmt.Errorf("prune keys of jobs: %w", err)
	}
	return pruned, nil
}

func (s *Store) closedBefore(ctx context.Context, e entry, before time.Time) (bool, error) {
	j, err := s.read(ctx, e.id, e.key)
	if damaged := (*DocumentError)(nil); errors.As(err, &damaged) || errors.Is(err, objectstore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return j.ClosedAt.Before(before), nil
}

// forget deletes a closed job. Its document goes last, so that what is left of it when
// that is interrupted is found again.
func (s *Store) forget(ctx context.Context, e entry) error {
	if err := s.remove(ctx, filesDir+e.id+"/", func(objectstore.Info) bool { return true }); err != nil {
		return err
	}
	return s.objects.Delete(ctx, e.key)
}

// prune deletes what was closed long enough ago, now and every hour.
func (r *Runner) prune(ctx context.Context) {
	keep := r.store.opts.KeepEnded
	if keep <= 0 {
		return
	}
	for {
		n, err := r.store.Prune(ctx, now().Add(-keep))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.metrics.errors.Inc()
			r.opts.Logger.Warn("could not delete old jobs; trying again later", "error", err)
		case n > 0:
			r.opts.Logger.Info("deleted old jobs", "jobs", n, "closed_longer_ago_than", keep)
		}
		if wait(ctx, pruneEvery) != nil {
			return
		}
	}
}
