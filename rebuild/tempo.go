package rebuild

import (
	"context"
	"sync"
	"time"
)

// tempo keeps an attempt to the rate of its spec: events take their time, and what comes
// after them begins when that is over. What was slower than the rate is not made up for.
// It is safe for concurrent use, and nil keeps to no rate.
type tempo struct {
	rate float64 // events a second

	mu   sync.Mutex
	free time.Time // when the events that have begun have had their time
}

func newTempo(rate float64) *tempo {
	if rate <= 0 {
		return nil
	}
	return &tempo{rate: rate}
}

// begin waits for its turn to deal with so many events.
func (t *tempo) begin(ctx context.Context, events uint64) error {
	if t == nil {
		return context.Cause(ctx)
	}
	return until(ctx, t.spend(events))
}

// spend notes that so many events were dealt with, or will be, and gives when those before
// them have had their time.
func (t *tempo) spend(events uint64) time.Time {
	if t == nil {
		return time.Time{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := t.free
	if now := time.Now(); turn.Before(now) {
		turn = now
	}
	const most = float64(100 * 365 * 24 * time.Hour) // or it overflows
	t.free = turn.Add(time.Duration(min(float64(events)/t.rate*float64(time.Second), most)))
	return turn
}

// keep waits until all events that were dealt with have had their time.
func (t *tempo) keep(ctx context.Context) error {
	if t == nil {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	free := t.free
	t.mu.Unlock()
	return until(ctx, free)
}

func until(ctx context.Context, at time.Time) error {
	if ahead := time.Until(at); ahead > 0 {
		return wait(ctx, ahead)
	}
	return context.Cause(ctx)
}
