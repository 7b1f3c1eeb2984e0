package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// free says whether a worker that knows engines for its kind may take a job now,
// which it has seen unchanged since a time. A job with a lease is its worker's
// until it has been unchanged for as long as the lease says.
func (j *Job) free(since time.Time) bool {
	if j.Lease != nil && time.Since(since) < j.Lease.TTL {
		return false
	}
	switch j.State {
	case Pending, Cancelling:
		return !time.Now().Before(j.NotBefore)
	case Running:
		return true
	case Paused: // to take the lease away from a worker that died before it stopped
		return j.Lease != nil
	default:
		return false
	}
}

// acquire makes a free job the worker's, with the next epoch. The error wraps
// ErrChanged when somebody else was first.
func (s *Store) acquire(ctx context.Context, j *Job, worker string, ttl time.Duration) (*Job, error) {
	if j.Epoch == 0 {
		if err := s.exorcise(ctx, j.ID); err != nil {
			return nil, err
		}
	}
	j = j.clone()
	at := now()
	message := "a worker took it"
	if j.Lease != nil {
		message = "a worker took it over from " + j.Lease.Worker + ", which was not heard of any more"
	}
	reason := ""
	if j.State == Cancelling {
		reason = j.StateReason // why is as true as before
	}
	if err := j.apply(acquire, reason, at); err != nil {
		return nil, err
	}
	if j.StartedAt.IsZero() {
		j.StartedAt = at
	}
	j.Epoch++
	j.Nonce = rand.Text()
	j.Lease = &Lease{Worker: worker, Renewed: at, TTL: ttl}
	j.log(LogEntry{Time: at, Level: "info", Message: message, Worker: worker})
	return orNil(j, s.replace(ctx, j))
}

// exorcise removes the document of a job that has ended already. There can be
// one when a Create with an idempotency key hung while a repeat of it made the
// job, and wrote its document after all of the job's life: then it is back,
// as if nobody had ever taken it.
func (s *Store) exorcise(ctx context.Context, id string) error {
	_, err := s.ended(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		err = s.objects.Delete(ctx, activeKey(id))
	}
	if err == nil {
		err = ErrChanged
	}
	return fmt.Errorf("job %s has ended already: %w", id, err)
}

// dispossess takes the lease of a paused job from a worker that died before it
// stopped. The next epoch keeps that one out, should it be alive.
func (s *Store) dispossess(ctx context.Context, j *Job) error {
	j = j.clone()
	at := now()
	j.log(LogEntry{Time: at, Level: "warn", Message: "its worker was not heard of any more", Worker: j.Lease.Worker})
	j.Epoch++
	j.Nonce, j.UpdatedAt, j.Lease = rand.Text(), at, nil
	return s.replace(ctx, j)
}
