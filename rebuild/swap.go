package rebuild

import (
	"context"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
)

// outlast gives a context that ends so long after ctx: what readers see and what the
// document says are changed together, also when somebody pauses a job or leaves just
// then.
func outlast(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	out, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(by)
		defer timer.Stop()
		select {
		case <-timer.C:
			end(context.Cause(ctx))
		case <-out.Done():
		}
	})
	return out, func() {
		stop()
		end(nil)
	}
}

// goesOn says whether a rebuild will end a swap that it has begun: soon, and without a
// person.
func goesOn(job *jobs.Job) bool { return !job.State.Ended() && job.State != jobs.Paused }

// swapError is that a swap was begun and is not over, and nobody holds the projection:
// the worker of its job has died, and another one has to end it.
type swapError struct {
	table string
	mark  chstore.Mark
	job   *jobs.Job
}

func (e *swapError) Error() string {
	return fmt.Sprintf("table %s is %s, and rebuild %s, which is %s, has to end the swap: run a worker, or pause or cancel it", e.table, e.mark, e.job.ID, e.job.State)
}

func (e *swapError) Unwrap() error { return projection.ErrHeld }
