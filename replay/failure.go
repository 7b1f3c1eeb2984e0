package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// The defaults of a RetryPolicy.
const (
	defaultAttempts = 8
	defaultInitial  = 200 * time.Millisecond
	defaultMax      = 30 * time.Second
)

// withDefaults fills in what is not set.
func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts == 0 {
		p.Attempts = defaultAttempts
	}
	if p.Initial == 0 {
		p.Initial = defaultInitial
	}
	if p.Max == 0 {
		p.Max = defaultMax
	}
	return p
}

// delay is how long to wait after so many failures, at least one.
func (p RetryPolicy) delay(failures int) time.Duration {
	d := p.Initial
	for range failures - 1 {
		if d *= 2; d >= p.Max {
			break
		}
	}
	d = min(d, p.Max)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// breaker counts the failures of a target in a row.
type breaker struct {
	policy   RetryPolicy
	failures int
	since    time.Time // of the first one
}

// failed takes note of a failure, and returns how long to wait before the next
// attempt, or the error that pauses the job.
func (b *breaker) failed(target string, now time.Time, err error) (time.Duration, error) {
	if b.failures == 0 {
		b.since = now
	}
	b.failures++
	if b.failures >= b.policy.Attempts {
		return 0, jobs.Pause(fmt.Sprintf("the target (%s) has been down since %s, %d attempts; the last error: %v. Resume the replay when it is back.",
			target, b.since.UTC().Format(time.RFC3339), b.failures, err))
	}
	return b.policy.delay(b.failures), nil
}

// recordLost pauses the job: its sink does not know any more what the target has.
func (r *run) recordLost(err error) error {
	stream := ""
	if n := r.cp.Written.Stream; n < len(r.frozen.Streams) {
		stream = r.frozen.Streams[n].Stream
	}
	return jobs.Pause(fmt.Sprintf("the target (%s) was written up to event %s of stream %q, and does not know it any more: %v. %s",
		r.target(), r.cp.Written.ID, stream, err, remedy.Of(err)))
}

// ok says that the target answered.
func (b *breaker) ok() { b.failures = 0 }

// wait waits, or returns why the replay is to stop.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readError says what becomes of a replay that cannot read: what may pass is
// tried again.
func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, archive.ErrDamaged):
		return remedy.Wrap(err, "Run `reservoir verify` to see what is damaged; restore it from a copy, then retry the replay.")
	case errors.Is(err, archive.ErrNewerVersion), errors.Is(err, objectstore.ErrDenied), errors.Is(err, objectstore.ErrNoBucket):
		return err
	default:
		return jobs.Retry(err)
	}
}
