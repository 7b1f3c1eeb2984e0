package jobs

import (
	"context"
	"errors"
)

var (
	// ErrNotFound is wrapped when there is no job of that ID.
	ErrNotFound = errors.New("job not found")
	// ErrState is wrapped when a job is not in a state that allows the change.
	ErrState = errors.New("job is not in a state for that")
	// ErrChanged is wrapped when the job is no longer what Change.IfMatch says.
	ErrChanged = errors.New("job has changed")

	// ErrKeyReused is wrapped by Create when the idempotency key was used with
	// another request.
	ErrKeyReused = errors.New("idempotency key was used for another request")
	// ErrHeld is wrapped by RunOne when another worker has the job.
	ErrHeld = errors.New("another worker has the job")

	// What context.Cause gives of the context of an engine that is to stop. Run
	// then returns as soon as it can, with an error that wraps the cause.

	// ErrPaused is that a person paused the job.
	ErrPaused = errors.New("job was paused")
	// ErrCancelled is that a person cancelled the job.
	ErrCancelled = errors.New("job was cancelled")
	// ErrLeaseLost is that another worker has the job, or may have: write nothing more.
	ErrLeaseLost = errors.New("another worker took the job over")
	// ErrShutdown is that this worker stops: another one goes on.
	ErrShutdown = errors.New("worker is shutting down")
)

// Engine runs the jobs of one kind.
type Engine interface {
	// Run does the job from its checkpoint on, and returns nil when it is done.
	// It may be called again after any crash, by another process. An error made
	// by Pause pauses the job until a person resumes it; one made by Retry is
	// tried again after a while; any other fails the job.
	Run(ctx context.Context, h *Handle) error
	// Cancel removes what a job that will not go on has left behind: one that was
	// cancelled, or failed and was not retried in time. It may be called again
	// after any crash.
	Cancel(ctx context.Context, h *Handle) error
}

// Pause makes the error by which an engine pauses its job and says why.
func Pause(reason string) error { return &pauseError{reason} }

type pauseError struct{ reason string }

func (e *pauseError) Error() string { return e.reason }

// Retry makes the error by which an engine asks for another attempt.
func Retry(err error) error { return &retryError{err} }

type retryError struct{ err error }

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }
