package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// Sweep has workers clean up after the failed jobs that were kept long enough, and
// moves what is closed to the ended ones. Runners do it all the time.
func (s *Store) Sweep(ctx context.Context) error {
	active, err := s.activeEntries(ctx, &Query{})
	if err != nil {
		return fmt.Errorf("sweep jobs: %w", err)
	}
	for _, e := range active {
		j, err := s.active(ctx, e.id)
		if err == nil {
			err = s.tidy(ctx, j)
		}
		if damaged := (*DocumentError)(nil); errors.Is(err, ErrNotFound) || errors.As(err, &damaged) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sweep jobs: %w", err)
		}
	}
	return nil
}

// tidy lets a worker clean up after an active job that failed long ago, and moves
// it if it is closed.
func (s *Store) tidy(ctx context.Context, j *Job) error {
	if s.overdue(j) {
		j = j.clone()
		at := now()
		if err := j.apply(expire, j.StateReason, at); err != nil {
			return err
		}
		j.Nonce = rand.Text()
		j.log(LogEntry{Time: at, Level: "info", Message: "it was not retried in time: a worker cleans up"})
		if err := s.replace(ctx, j); errors.Is(err, ErrChanged) {
			return nil // retried or cancelled at the last moment, or found by another
		} else if err != nil {
			return err
		}
	}
	if j.ClosedAt.IsZero() {
		return nil
	}
	return s.move(ctx, j)
}

// overdue says whether a failed job is to be cleaned up and closed.
func (s *Store) overdue(j *Job) bool {
	return j.State == Failed && j.ClosedAt.IsZero() && time.Since(j.EndedAt) >= s.opts.KeepFailed
}

// move moves a closed job to the ended ones. As a closed document never changes
// again, and no ID is used twice, any number of processes may do so at the same
// time, and whatever one of them left half done another one completes.
func (s *Store) move(ctx context.Context, j *Job) error {
	_, err := s.writeJSON(ctx, endedKey(j), j, objectstore.IfAbsent)
	if err != nil && !errors.Is(err, objectstore.ErrPrecondition) {
		return fmt.Errorf("move job %s to the ended ones: %w", j.ID, err)
	}
	if err := s.objects.Delete(ctx, activeKey(j.ID)); err != nil {
		return fmt.Errorf("move job %s to the ended ones: %w", j.ID, err)
	}
	return nil
}

// remove deletes the objects below a prefix that are chosen.
func (s *Store) remove(ctx context.Context, prefix string, chosen func(objectstore.Info) bool) error {
	for info, err := range s.objects.List(ctx, prefix, objectstore.ListOptions{}) {
		if err != nil {
			return err
		}
		if !chosen(info) {
			continue
		}
		if err := s.objects.Delete(ctx, info.Key); err != nil {
			return err
		}
	}
	return nil
}
