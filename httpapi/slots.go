package httpapi

import (
	"context"
	"sync"
)

// maxTails bounds the live tails of all callers together.
const maxTails = 2000

// slots bounds what callers may have open at once.
type slots struct {
	perCaller int

	mu    sync.Mutex
	taken map[string]int // by caller
	all   int
}

func newSlots(perCaller int) *slots { return &slots{perCaller: perCaller, taken: map[string]int{}} }

// take takes one for who calls. free gives it back, once.
func (s *slots) take(ctx context.Context) (free func(), err error) {
	key := callOf(ctx).limitKey()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken[key] >= s.perCaller:
		return nil, &problemError{kind: tooManyRequests, detail: "too many live tails of this caller are open", remedy: "Close some, or watch several streams by one process", retryAfter: retryAfter}
	case s.all >= maxTails:
		return nil, &problemError{kind: tooManyRequests, detail: "too many live tails are open at this server", retryAfter: retryAfter}
	}
	s.taken[key]++
	s.all++
	return func() { s.free(key) }, nil
}

func (s *slots) free(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.taken[key]--; s.taken[key] == 0 {
		delete(s.taken, key)
	}
}
