package jobs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// result is how an engine ended.
type result struct {
	err     error
	stopped error // the cause for which it was to stop, or nil
	at      time.Time
}

// settleRun writes into the document how Engine.Run ended.
func (s *session) settleRun(j *Job, r result) error {
	if j.State == Cancelling {
		return nil // and now this worker cleans up
	}
	if j.State != Running { // paused meanwhile, and resumed perhaps
		return j.giveBack("", r.at)
	}
	var (
		asks   *pauseError
		passes *retryError
		m      = fail
		reason = ""
		level  = "info"
	)
	switch {
	case r.err == nil:
		m = succeed
	case r.stopped != nil:
		return j.giveBack("its worker shut down", r.at)
	case errors.As(r.err, &asks):
		m, reason, level = hold, r.err.Error(), "warn"
	case errors.As(r.err, &passes):
		m, reason, level = release, r.err.Error(), "warn"
		j.failed(r)
		if j.Attempt >= s.opts.MaxAttempts {
			m, level = fail, "error"
			reason = fmt.Sprintf("%d attempts failed; the last: %s", j.Attempt, reason)
		}
	default:
		reason, level = r.err.Error(), "error"
		j.failed(r)
	}
	if err := j.apply(m, clip(reason), r.at); err != nil {
		return err
	}
	if m == release {
		j.NotBefore = r.at.Add(backoff(j.Attempt))
	}
	j.drop(level, string(m), reason, r.at)
	return nil
}

// settleCancel writes into the document how Engine.Cancel ended. A job that
// cannot be cleaned up after MaxAttempts is cancelled, or closed, all the same.
func (s *session) settleCancel(j *Job, r result) error {
	reason, level := j.StateReason, "info"
	m, message := cleanUp, "cancelled"
	if j.hasFailed() {
		m, message = closeUp, "cleaned up and closed"
	}
	if r.err != nil {
		if r.stopped != nil {
			return j.giveBack("", r.at)
		}
		level = "warn"
		why := j.LastError
		j.failed(r)
		if m == closeUp {
			j.LastError = why // it says why the job failed
		}
		failure := "cleaning up failed: " + r.err.Error()
		if j.Attempt < s.opts.MaxAttempts {
			j.NotBefore = r.at.Add(backoff(j.Attempt))
			j.drop(level, failure, "", r.at)
			return nil
		}
		if m == closeUp && reason != "" {
			failure = reason + "; " + failure
		}
		reason, level = failure, "error"
	}
	if err := j.apply(m, clip(reason), r.at); err != nil {
		return err
	}
	j.drop(level, message, reason, r.at)
	return nil
}

// worked says whether this session got on with the job. The caller holds mu.
func (s *session) worked() bool {
	return s.progress.Done-min(s.progress.Done, s.progress.Begun) > s.done
}

// failed notes a failure.
func (j *Job) failed(r result) {
	j.Attempt++
	j.LastError = &Failure{Message: clip(r.err.Error()), Remedy: clip(remedy.Of(r.err)), Attempt: j.Attempt, Time: r.at}
}

// giveBack leaves a job, as it is, to whoever takes it next.
func (j *Job) giveBack(reason string, at time.Time) error {
	if j.State == Running {
		if err := j.apply(release, reason, at); err != nil {
			return err
		}
	}
	j.drop("info", "its worker left it", reason, at)
	return nil
}

// drop takes the lease away, and notes why.
func (j *Job) drop(level, message, reason string, at time.Time) {
	if reason != "" {
		message += ": " + reason
	}
	entry := LogEntry{Time: at, Level: level, Message: message}
	if j.Lease != nil {
		entry.Worker = j.Lease.Worker
	}
	j.log(entry)
	j.Lease = nil
	j.Progress.Rate, j.Progress.Left = 0, 0
}

// backoff is how long to wait after so many failed attempts: a second, then
// twice as long each time, at most five minutes; and up to half of that less, so
// that what failed together is not tried together.
func backoff(attempts int) time.Duration {
	d := lastRetry
	if attempts < 16 {
		d = min(d, firstRetry<<max(0, attempts-1))
	}
	return d - rand.N(d/2)
}
