package httpapi

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimiters bounds the callers that are remembered.
const maxLimiters = 10_000

// limits counts requests by caller.
type limits struct {
	rate  rate.Limit
	burst int

	mu       sync.Mutex
	limiters map[string]*rate.Limiter
}

func newLimits(perSecond float64, burst int) *limits {
	return &limits{rate: rate.Limit(perSecond), burst: burst, limiters: map[string]*rate.Limiter{}}
}

// take counts one request, and says how long to wait where it is one too many.
func (l *limits) take(key string, now time.Time) (wait time.Duration) {
	r := l.of(key, now).ReserveN(now, 1)
	if !r.OK() {
		return time.Second
	}
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// exhausted reports whether a further request would be one too many, without counting.
func (l *limits) exhausted(key string, now time.Time) bool { return l.of(key, now).TokensAt(now) < 1 }

func (l *limits) of(key string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one, ok := l.limiters[key]; ok {
		return one
	}
	if len(l.limiters) >= maxLimiters {
		for key, one := range l.limiters {
			if one.TokensAt(now) >= float64(l.burst) {
				delete(l.limiters, key) // it is as new
			}
		}
	}
	if len(l.limiters) >= maxLimiters {
		clear(l.limiters)
	}
	one := rate.NewLimiter(l.rate, l.burst)
	l.limiters[key] = one
	return one
}
