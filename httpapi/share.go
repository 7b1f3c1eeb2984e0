package httpapi

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/jobs"
)

// shares are the answers that requests share.
type shares struct {
	jobs     *shared[*jobs.Job]         // by ID
	names    *shared[[]string]          // of streams
	statuses *shared[[]archiver.Status] // of streams
	coverage *shared[*api.Coverage]     // of streams, by range
	archived *shared[bool]              // by stream
}

func newShares(opts *Options) shares {
	return shares{
		jobs:  newShared[*jobs.Job](0, opts.Timeout),
		names: newShared[[]string](opts.Poll, opts.Timeout), statuses: newShared[[]archiver.Status](opts.Poll, opts.Timeout),
		coverage: newShared[*api.Coverage](opts.Poll, opts.Timeout), archived: newShared[bool](opts.Poll, opts.Timeout),
	}
}

// maxShared bounds the answers that are kept.
const maxShared = 1000

// shared lets requests that ask for the same have one answer, so that any number of
// callers costs the servers behind it no more than a few. An answer is at most age old;
// with an age of 0 it was asked for after the request for it had come, so that nothing
// that was done before is missing in it: who comes while somebody asks waits for the
// next answer, together with all who come meanwhile.
type shared[V any] struct {
	age     time.Duration
	timeout time.Duration // of one answer

	mu      sync.Mutex
	answers map[string]*sharedAnswer[V]
}

// sharedAnswer is one answer, which is given when done is closed.
type sharedAnswer[V any] struct {
	asked time.Time // zero: somebody else is being asked still
	done  chan struct{}
	next  *sharedAnswer[V] // for who came too late for this one
	value V
	err   error
}

func newShared[V any](age, timeout time.Duration) *shared[V] {
	return &shared[V]{age: age, timeout: timeout, answers: map[string]*sharedAnswer[V]{}}
}

// get gives what ask gives for a key, now or a moment ago. Nobody may change the value.
// ask may be called for others than the caller, and goes on when the caller has gone.
func (s *shared[V]) get(ctx context.Context, key string, ask func(context.Context) (V, error)) (V, error) {
	a := s.join(ctx, key, ask)
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// join finds the answer that a request that comes now may have.
func (s *shared[V]) join(ctx context.Context, key string, ask func(context.Context) (V, error)) *sharedAnswer[V] {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	a := s.answers[key]
	switch {
	case a != nil && s.age > 0 && now.Sub(a.asked) < s.age:
		return a
	case a != nil && !a.given(): // too old, or it may be without what was done just now
		if a.next == nil {
			a.next = &sharedAnswer[V]{done: make(chan struct{})}
		}
		return a.next
	}
	s.makeRoom(now)
	a = &sharedAnswer[V]{done: make(chan struct{})}
	s.begin(context.WithoutCancel(ctx), key, a, ask)
	return a
}

func (a *sharedAnswer[V]) given() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// begin asks; s.mu is held.
func (s *shared[V]) begin(ctx context.Context, key string, a *sharedAnswer[V], ask func(context.Context) (V, error)) {
	a.asked = time.Now()
	s.answers[key] = a
	go func() {
		value, err := s.ask(ctx, ask)
		s.mu.Lock()
		defer s.mu.Unlock()
		a.value, a.err = value, err
		close(a.done)
		switch {
		case a.next != nil:
			s.begin(ctx, key, a.next, ask)
		case s.age == 0 || err != nil:
			delete(s.answers, key)
		}
	}()
}

// ask bounds the time, and makes an error of a panic, which must not end the process.
func (s *shared[V]) ask(ctx context.Context, ask func(context.Context) (V, error)) (value V, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer func() {
		if why := recover(); why != nil {
			err = &panicError{why, debug.Stack()}
		}
	}()
	return ask(ctx)
}

// makeRoom forgets answers that are too old, and all that are given where that is not
// enough; s.mu is held.
func (s *shared[V]) makeRoom(now time.Time) {
	if len(s.answers) < maxShared {
		return
	}
	for _, all := range []bool{false, true} {
		for key, a := range s.answers {
			if a.given() && (all || now.Sub(a.asked) >= s.age) {
				delete(s.answers, key)
			}
		}
		if len(s.answers) < maxShared {
			return
		}
	}
}
