package consumer

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff returns how long to wait after so many failed tries, from 1.
func backoff(r Retry, tries int) time.Duration {
	wait := r.Max
	if shift := tries - 1; shift < 30 && r.Initial < r.Max>>shift {
		wait = r.Initial << shift
	}
	return time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))
}

// sleep waits, or returns the context's cause when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
