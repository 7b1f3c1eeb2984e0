package replay

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// paced sends events of these milliseconds as a run does, into a target that
// takes some time for each batch, and gives when each was sent.
func paced(t *testing.T, pace Pace, ms []uint64, write func(batch int) time.Duration) []time.Duration {
	t.Helper()
	var at []time.Duration
	p := pacer{pace: pace}
	start := time.Now()
	for batch := 0; len(at) < len(ms); batch++ {
		left := ms[len(at):]
		n, err := p.wait(t.Context(), min(len(left), maxBatchEvents), func(i int) uint64 { return left[i] }, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		p.sent(time.Now(), n, func(i int) uint64 { return left[i] })
		for range n {
			at = append(at, time.Since(start))
		}
		if err := wait(t.Context(), write(batch)); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

func TestRate(t *testing.T) {
	for _, rate := range []float64{0.5, 0.9, 3, 97, 1000, 25_000, 300_000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := paced(t, Pace{Rate: rate}, make([]uint64, int(12*rate+1)), func(batch int) time.Duration {
					if batch%40 == 39 && batch < 1000 {
						return 40 * time.Millisecond // it stalls now and then
					}
					return 200 * time.Microsecond
				})
				for i := range at {
					for _, k := range []int{i + 1, i + 10, i + 1000, i + 10_000} {
						if k >= len(at) {
							continue
						}
						span := at[k] - at[i]
						if most := rate*(span+paceBurst).Seconds() + math.Max(rate*paceTick.Seconds(), 1); float64(k-i) > most+1e-6 {
							t.Fatalf("%d events in %v, from event %d on", k-i, span, i)
						}
					}
				}
				took := at[len(at)-1].Seconds()
				if achieved := float64(len(at)-1) / took; took < 10 || math.Abs(achieved/rate-1) > 0.02 {
					t.Errorf("%d events in %v: %v a second", len(at)-1, at[len(at)-1], achieved)
				}
			})
		})
	}
}

// A target that is much slower than the rate for a while is not caught up with.
func TestRateAfterStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := paced(t, Pace{Rate: 1000}, make([]uint64, 3000), func(batch int) time.Duration {
			if batch == 50 {
				return time.Minute
			}
			return 0
		})
		for i := range at {
			if k := i + 100; k < len(at) && at[k]-at[i] < 30*time.Millisecond {
				t.Fatalf("100 events in %v", at[k]-at[i])
			}
		}
	})
}

func TestFactor(t *testing.T) {
	var ms []uint64
	for i := range uint64(400) {
		ms = append(ms, 1_700_000_000_000+i*7)
	}
	for i := range uint64(60) {
		ms = append(ms, ms[399]+600_000+i*5000, ms[399]+600_000+i*5000)
	}
	paces := []Pace{{Factor: 1}, {Factor: 0.1}, {Factor: 60}, {Factor: 1, MaxSilence: 2 * time.Second}, {Factor: 2, MaxSilence: time.Millisecond}}
	for _, pace := range paces {
		t.Run(fmt.Sprintf("%v,%v", pace.Factor, pace.MaxSilence), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := paced(t, pace, ms, func(int) time.Duration { return 100 * time.Microsecond })
				due := time.Duration(0)
				for i := range ms {
					if i > 0 {
						gap := time.Duration(ms[i]-ms[i-1]) * time.Millisecond
						if pace.MaxSilence > 0 {
							gap = min(gap, pace.MaxSilence)
						}
						due += time.Duration(float64(gap) / pace.Factor)
					}
					if off := at[i] - due; off < -10*time.Millisecond || off > 10*time.Millisecond {
						t.Fatalf("event %d came at %v, due at %v", i, at[i], due)
					}
				}
			})
		})
	}
}

// What was held goes on with the original's next silence.
func TestFactorAfterHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacer{pace: Pace{Factor: 1}}
		at := func(ms uint64) func(int) uint64 { return func(int) uint64 { return ms } }
		if _, wait := p.next(time.Now(), 1, at(1000)); wait != 0 {
			t.Errorf("the first one waits %v", wait)
		}
		p.sent(time.Now(), 1, at(1000))
		p.hold(time.Now().Add(time.Hour))
		if _, wait := p.next(time.Now().Add(time.Hour), 1, at(3000)); wait != 2*time.Second {
			t.Errorf("the second one waits %v", wait)
		}
	})
}

func TestBreaker(t *testing.T) {
	b := breaker{policy: RetryPolicy{Attempts: 5, Initial: 100 * time.Millisecond, Max: 300 * time.Millisecond}}
	now := time.Unix(1_700_000_000, 0)
	for i, ms := range []int{100, 200, 300, 300} {
		delay, err := b.failed("a", now.Add(time.Duration(i)*time.Minute), ErrUnavailable)
		if want := time.Duration(ms) * time.Millisecond; err != nil || delay < want*8/10 || delay > want*12/10 {
			t.Errorf("failure %d: %v, %v", i, delay, err)
		}
	}
	if _, err := b.failed("a", now, ErrUnavailable); err == nil {
		t.Error("it never tires")
	}
	b.ok()
	if _, err := b.failed("a", now, ErrUnavailable); err != nil {
		t.Error("it stays tired")
	}
}
