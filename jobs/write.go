package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"
)

// finish writes how a phase ended, and tries again until it is written or the
// lease is lost. It goes on when ctx has ended.
func (s *session) finish(ctx context.Context, settle func(*Job) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.LeaseTTL)
	defer cancel()
	nonce := rand.Text()
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := s.write(ctx, nonce, settle)
		if err == nil {
			return
		}
		s.log.Warn("could not write how an attempt ended", "error", err)
		if errors.Is(err, ErrLeaseLost) || wait(ctx, delay) != nil {
			return
		}
	}
}

// write writes the document with all that was reported, and with change, if it
// is not nil. Where a person changed the document meanwhile, both changes hold.
// The error wraps ErrLeaseLost when the job is not this session's any more. It
// takes no longer than LeaseTTL/3, so that another one can be tried in time.
func (s *session) write(ctx context.Context, nonce string, change func(*Job) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.LeaseTTL/3)
	defer cancel()
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	base := s.last()
	for {
		began := time.Now()
		next, upTo, err := s.next(base, nonce, change)
		if err != nil {
			return err
		}
		err = s.store.replace(ctx, next)
		if err == nil {
			s.written(next, upTo, began)
			return nil
		}
		if !errors.Is(err, ErrChanged) {
			return err
		}
		base, err = s.store.active(ctx, s.id)
		switch {
		case err == nil && base.Nonce == nonce: // the answer was lost, of an earlier try
			s.written(base, upTo, began)
			return nil
		case errors.Is(err, ErrNotFound) || err == nil && (base.Epoch != s.epoch || base.Lease == nil):
			s.lose()
			return fmt.Errorf("write job %s: %w", s.id, ErrLeaseLost)
		case err != nil:
			return err
		}
	}
}

// next is the revision after base, and up to where it has the unwritten log.
func (s *session) next(base *Job, nonce string, change func(*Job) error) (*Job, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost || s.job.Lease == nil {
		return nil, 0, fmt.Errorf("write job %s: %w", s.id, ErrLeaseLost)
	}
	j := s.overlay(base)
	j.Nonce = nonce
	j.UpdatedAt = now()
	j.Lease = &Lease{Worker: s.opts.Worker, Renewed: j.UpdatedAt, TTL: s.opts.LeaseTTL}
	if change != nil {
		if err := change(j); err != nil {
			return nil, 0, err
		}
	}
	return j, s.unwritten.end(), nil
}

// overlay is a copy of base with all that was reported. The caller holds mu.
func (s *session) overlay(base *Job) *Job {
	j := base.clone()
	if s.worked() {
		j.Attempt = 0
	}
	j.Checkpoint = s.checkpoint
	j.Progress = s.progress
	j.Progress.Streams = slices.Clone(s.progress.Streams)
	s.rate.fill(&j.Progress)
	j.log(s.unwritten.entries...)
	return j
}

// written notes what was written, and obeys what people asked of the engine.
func (s *session) written(j *Job, upTo int, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.job.State
	s.job = j
	s.unwritten.cut(upTo)
	if j.Lease == nil {
		return
	}
	s.expiry.Reset(time.Until(s.expires(began)))
	if s.stop == nil || j.State == was {
		return
	}
	if j.State == Cancelling {
		s.stop(ErrCancelled)
	} else {
		s.stop(ErrPaused)
	}
}
