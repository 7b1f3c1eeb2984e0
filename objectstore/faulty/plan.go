package faulty

import (
	"math/rand/v2"
	"time"
)

// CrashAt crashes at step n: that operation and all later ones fail. With after,
// a Put or Delete at step n has had its effect.
func CrashAt(n int, after bool) Plan {
	return func(s Step) Fault { return Fault{Crash: s.N == n, After: after} }
}

// FailAt makes step n alone fail with err; with after, a Put or Delete has had
// its effect.
func FailAt(n int, after bool, err error) Plan {
	return func(s Step) Fault {
		if s.N != n {
			return Fault{}
		}
		return Fault{Err: err, After: after}
	}
}

// Rates are the probabilities, from 0 to 1, of faults at each step.
type Rates struct {
	Before   float64       // an error instead of the effect
	After    float64       // an error after the effect
	Break    float64       // a Get that breaks off, within its first 64 KiB
	MaxDelay time.Duration // each step takes up to this much longer
}

// Random injects faults at random; the same seed gives the same faults for the
// same steps.
func Random(seed uint64, rates Rates) Plan {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // to be repeated, not secret
	return func(Step) Fault {
		fault := Fault{Break: random.Float64() < rates.Break, Keep: random.Int64N(64 << 10)}
		if rates.MaxDelay > 0 {
			fault.Delay = time.Duration(random.Int64N(int64(rates.MaxDelay)))
		}
		switch p := random.Float64(); {
		case p < rates.Before:
			fault.Err = ErrInjected
		case p < rates.Before+rates.After:
			fault.Err, fault.After = ErrInjected, true
		}
		return fault
	}
}
