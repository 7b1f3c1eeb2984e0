package replay

import (
	"context"
	"math"
	"time"
)

const (
	// pressureEvery is how often a sink is asked when no bound is set.
	pressureEvery = 100 * time.Millisecond
	// Between the questions of a replay that is held: more from one to the next.
	pressureWait, pressureMaxWait = 10 * time.Millisecond, 100 * time.Millisecond
)

// pressure is back-pressure: it holds a replay while its target is behind.
type pressure struct{ asked time.Time }

// limit is the largest batch that does not pass a bound by itself.
func (p *pressure) limit(b *BackPressure) int {
	limit := uint64(math.MaxInt)
	for _, bound := range []uint64{b.MaxLength, b.MaxLag, b.MaxPending} {
		if bound > 0 {
			limit = min(limit, bound)
		}
	}
	return int(limit)
}

// hold waits while the sink asks for it. With a bound the sink is asked before
// every batch, so that the bound is passed by no more than one.
func (r *run) hold(ctx context.Context) error {
	if _, ok := r.sink.(Presser); !ok {
		return nil
	}
	if r.spec.BackPressure == (BackPressure{}) && time.Since(r.pressure.asked) < pressureEvery {
		return nil
	}
	for delay := pressureWait; ; delay = min(2*delay, pressureMaxWait) {
		reason := ""
		err := r.withSink(ctx, func(ctx context.Context) (err error) {
			if presser, ok := r.sink.(Presser); ok {
				reason, err = presser.Pressure(ctx)
			}
			return err
		})
		if err != nil {
			return err
		}
		r.pressure.asked = time.Now()
		if reason == "" {
			if delay > pressureWait {
				r.pacer.hold(r.pressure.asked)
			}
			r.holds("")
			return nil
		}
		r.holds(reason)
		if err := wait(ctx, delay); err != nil {
			return err
		}
	}
}

// pause waits and says why.
func (r *run) pause(ctx context.Context, reason string, d time.Duration) error {
	r.holds(reason)
	if err := wait(ctx, d); err != nil {
		return err
	}
	r.pacer.hold(time.Now())
	r.holds("")
	return nil
}
