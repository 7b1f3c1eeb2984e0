package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Change is a person's request to change a job.
type Change struct {
	By     string // who asks; kept in the job's log
	Reason string // why; becomes Job.StateReason
	// IfMatch, if set, is the ETag that the job must still have; else the error
	// wraps ErrChanged. A worker changes the ETag every few seconds.
	IfMatch string
}

// Pause makes a pending or running job paused. Its worker, if it has one, stops
// soon after: Job.Lease is nil when it has.
//
// This and the other changes return the job as they wrote it. The error wraps
// ErrState when the job is in no state for it; other errors than this,
// ErrNotFound and ErrChanged leave open whether the change was made.
func (s *Store) Pause(ctx context.Context, id string, c Change) (*Job, error) {
	return s.change(ctx, id, pause, c)
}

// Resume makes a paused job pending: it goes on where it was.
func (s *Store) Resume(ctx context.Context, id string, c Change) (*Job, error) {
	return s.change(ctx, id, resume, c)
}

// Cancel makes a job that has neither succeeded nor been closed cancelling; a
// worker then cleans up and makes it cancelled.
func (s *Store) Cancel(ctx context.Context, id string, c Change) (*Job, error) {
	return s.change(ctx, id, cancel, c)
}

// Retry makes a failed job pending: it goes on where it was.
func (s *Store) Retry(ctx context.Context, id string, c Change) (*Job, error) {
	return s.change(ctx, id, retry, c)
}

func (s *Store) change(ctx context.Context, id string, m move, c Change) (*Job, error) {
	nonce := rand.Text()
	for {
		j, err := s.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if j.Nonce == nonce {
			return j, nil // it was written although the store said otherwise
		}
		if c.IfMatch != "" && c.IfMatch != j.ETag {
			return nil, remedy.Wrap(fmt.Errorf("job %s: %w since it was looked at", id, ErrChanged), "look at the job again, and repeat the change if it is still right")
		}
		at := now()
		if err := j.apply(m, clip(c.Reason), at); err != nil {
			return nil, err
		}
		j.Nonce = nonce
		message := string(m)
		if m == cancel {
			message = string(j.State) // a worker makes it cancelled
		}
		if c.Reason != "" {
			message += ": " + c.Reason
		}
		j.log(LogEntry{Time: at, Level: "info", Message: message, By: c.By})
		if err := s.replace(ctx, j); !errors.Is(err, ErrChanged) {
			return orNil(j, err)
		}
	}
}

func orNil(j *Job, err error) (*Job, error) {
	if err != nil {
		return nil, err
	}
	return j, nil
}
