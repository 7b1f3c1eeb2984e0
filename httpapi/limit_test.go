package httpapi

import (
	"fmt"
	"testing"
	"time"
)

// Who has sent too much stays known, however many others come.
func TestLimitsAreNotForgotten(t *testing.T) {
	l, now := newLimits(0.001, 2), time.Now()
	for range 2 {
		l.take("guesser", now)
	}
	for i := range 2 * maxLimiters {
		l.take(fmt.Sprint("other-", i), now)
	}
	if len(l.limiters) > maxLimiters {
		t.Errorf("%d callers are remembered", len(l.limiters))
	}
	if !l.exhausted("guesser", now) {
		t.Error("many others made a caller's requests forgotten")
	}
}

// A subscriber of IPv6 has more addresses than could be counted.
func TestSubscribersAreCounted(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "::ffff:192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64",
		"2001:db8:1:3::9": "2001:db8:1:3::/64", "fe80::1%eth0": "fe80::/64", "::1": "::/64", "nonsense": "nonsense",
	} {
		if got := subscriber(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
