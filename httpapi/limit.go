package httpapi

import (
	"net/netip"
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
		l.forget(now)
	}
	one := rate.NewLimiter(l.rate, l.burst)
	l.limiters[key] = one
	return one
}

// picked is among how many callers one is chosen that is forgotten.
const picked = 16

// forget forgets a caller: of a few that chance picks the one that has sent least of late, so
// that it takes more than many addresses to be forgotten with one's failures.
func (l *limits) forget(now time.Time) {
	n, most, least := 0, -1.0, ""
	for key, one := range l.limiters {
		if left := one.TokensAt(now); left > most {
			most, least = left, key
		}
		if n++; n == picked {
			break
		}
	}
	delete(l.limiters, least)
}

// subscriber is what limits count as one address: of IPv6 a network of 64 bits, which is what
// one subscriber has.
func subscriber(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}
	network, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return network.String()
}
