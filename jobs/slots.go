package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// slots bound how many jobs of one target run at once, over all workers. Each
// target has PerTarget documents, of which a worker holds one while it runs a
// job. A slot whose job does not run is free for the taking; that is decided
// with care, but nothing but this bound rests on it.
type slots struct {
	store   *Store
	worker  string
	per     int
	ttl     time.Duration // a slot unchanged for so long is not about to be used
	forgets time.Duration

	mu   sync.Mutex
	seen sightings // by key; under mu
}

// slot is the document.
type slot struct {
	Version int    `json:"version"`
	Target  string `json:"target"`
	Job     string `json:"job,omitempty"` // "" when it is free
	Worker  string `json:"worker,omitempty"`
	Nonce   string `json:"nonce"`

	key, etag string
}

func newSlots(store *Store, opts RunnerOptions) *slots {
	return &slots{
		store: store, worker: opts.Worker, per: opts.PerTarget, ttl: opts.LeaseTTL,
		forgets: 10 * max(opts.LeaseTTL, opts.Poll), seen: sightings{},
	}
}

func (s *slots) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.forget(s.forgets)
}

func (s *slots) since(sl *slot) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.see(sl.key, sl.Nonce)
}

// take takes a slot for a job that is about to be acquired; nil when there is
// none. A job without a target needs none and gets one without a key.
func (s *slots) take(ctx context.Context, j *Job) (*slot, error) {
	if j.Target == "" {
		return &slot{}, nil
	}
	for n := range s.per {
		mine := &slot{Version: FormatVersion, Target: j.Target, Job: j.ID, Worker: s.worker, Nonce: rand.Text(), key: slotKey(j.Target, n)}
		took, err := s.try(ctx, mine, j)
		if err != nil {
			return nil, fmt.Errorf("take a slot of the target of job %s: %w", j.ID, err)
		}
		if took {
			return mine, nil
		}
	}
	return nil, nil
}

// try puts mine into its slot, for j, if it may.
func (s *slots) try(ctx context.Context, mine *slot, j *Job) (bool, error) {
	there, err := s.read(ctx, mine.key)
	if errors.Is(err, objectstore.ErrNotFound) {
		return s.put(ctx, mine, objectstore.IfAbsent)
	}
	if err != nil {
		return false, err
	}
	if there.Job == "" {
		return s.put(ctx, mine, objectstore.IfMatch(there.etag))
	}
	free, err := s.idle(ctx, there, j)
	if err != nil || !free {
		return false, err
	}
	took, err := s.put(ctx, mine, objectstore.IfMatch(there.etag))
	if err != nil || !took {
		return false, err
	}
	// Its job may have been acquired between the look at it and the put. The
	// worker of that one looks at the slot afterwards (see confirm), so at least
	// one of the two sees the other.
	if free, err = s.idle(ctx, there, j); err != nil || !free {
		_, back := s.put(ctx, there, objectstore.IfMatch(mine.etag))
		return false, errors.Join(err, back)
	}
	return true, nil
}

// idle says whether the job that holds a slot does not run, and is not about to;
// j, which is to have it, may be that job, and its worker have died.
func (s *slots) idle(ctx context.Context, sl *slot, j *Job) (bool, error) {
	unused := time.Since(s.since(sl)) >= s.ttl
	holder, err := s.store.get(ctx, sl.Job)
	switch {
	case err == nil && holder.ID == j.ID:
		dead := j.Lease != nil && j.Lease.Worker == sl.Worker
		return holder.Nonce == j.Nonce && (dead || unused), nil
	case errors.Is(err, ErrNotFound):
		return true, nil
	case errors.As(err, new(*DocumentError)):
		return unused, nil // nobody can run it
	case err != nil:
		return false, err
	case holder.Lease != nil:
		return false, nil
	case holder.State == Pending || holder.State == Cancelling:
		return unused, nil
	}
	return holder.State != Running, nil
}

// confirm says whether the slot is still held, once its job is acquired.
func (s *slots) confirm(ctx context.Context, mine *slot) (bool, error) {
	if mine.key == "" {
		return true, nil
	}
	there, err := s.read(ctx, mine.key)
	if err != nil {
		return false, fmt.Errorf("look at the slot of job %s again: %w", mine.Job, err)
	}
	return there.Nonce == mine.Nonce, nil
}

// free gives a slot back. One that others have taken meanwhile is left to them.
func (s *slots) free(ctx context.Context, mine *slot) error {
	if mine.key == "" {
		return nil
	}
	empty := &slot{Version: FormatVersion, Target: mine.Target, Nonce: rand.Text(), key: mine.key}
	if _, err := s.put(ctx, empty, objectstore.IfMatch(mine.etag)); err != nil {
		return fmt.Errorf("give the slot of job %s back: %w", mine.Job, err)
	}
	return nil
}

func (s *slots) read(ctx context.Context, key string) (*slot, error) {
	there := &slot{key: key}
	var err error
	there.etag, err = s.store.readJSON(ctx, key, there)
	return there, err
}

// put writes a slot; false says that the condition did not hold.
func (s *slots) put(ctx context.Context, sl *slot, cond objectstore.Condition) (bool, error) {
	etag, err := s.store.writeJSON(ctx, sl.key, sl, cond)
	if errors.Is(err, objectstore.ErrPrecondition) || errors.Is(err, objectstore.ErrNotFound) {
		return false, nil
	}
	sl.etag = etag
	return err == nil, err
}
