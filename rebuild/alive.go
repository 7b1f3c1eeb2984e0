package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/projection"
)

// stay stays the holder of a projection until stop is called, whatever takes how long: a
// slow machine must not make holders take turns, each killing what the one before it has
// begun. The context ends, with projection.ErrFenced as its cause, when somebody else has
// the hold, or may have, since a write failed.
func stay(ctx context.Context, hold *projection.Hold, ttl time.Duration) (held context.Context, stop func()) {
	held, cancel := context.WithCancelCause(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			if err := wait(held, max(ttl/3-hold.Idle(), ttl/12)); err != nil {
				return
			}
			if hold.Idle() < ttl/3 {
				continue
			}
			if err := renew(held, hold, max(ttl, 10*time.Second)); err != nil {
				cancel(err)
				return
			}
		}
	}()
	return held, func() {
		cancel(nil)
		<-over
	}
}

// renew renews a hold, also when ctx ends meanwhile: a write that is cut short ends it. It
// may come late: whether somebody else was first the write tells, not the time.
func renew(ctx context.Context, hold *projection.Hold, within time.Duration) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	err := hold.Renew(bounded)
	if err != nil && !errors.Is(err, projection.ErrFenced) {
		err = fmt.Errorf("%w: %w", projection.ErrFenced, err)
	}
	return err //nolint:wrapcheck // it names the projection
}

// lost makes of an error that came because a hold was lost (see stay) one that says so.
// outer is the context that stay was given.
func lost(outer, held context.Context, err error) error {
	if err == nil || outer.Err() != nil || held.Err() == nil || errors.Is(err, projection.ErrFenced) {
		return err
	}
	return fmt.Errorf("%w (%w)", context.Cause(held), err)
}
