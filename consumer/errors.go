package consumer

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrFenced is wrapped when a worker finds that its stream has been taken over: by
// another process, after its own lease had run out, or by Seek. What it was about
// to commit is rolled back.
var ErrFenced = errors.New("another worker has taken the stream over")

// ErrNotMigrated is wrapped when the database does not have the consumer's tables.
var ErrNotMigrated = errors.New("the consumer's tables are not there")

// ErrNoDeadLetter is wrapped when a dead letter is no longer there.
var ErrNoDeadLetter = errors.New("no such dead letter")

// errTaken says that a key was recorded by another stream's worker since it was
// looked for: nothing is committed, look again.
var errTaken = errors.New("a copy of an event was handled meanwhile")

// Permanent marks an error that trying again will not mend: the event goes to the
// dead letters at once. A nil err stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }

func (e *permanentError) Unwrap() error { return e.err }

func isPermanent(err error) bool {
	_, ok := errors.AsType[*permanentError](err)
	return ok
}

// PanicError is a panic of a handler. It counts as any other error.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Unwrap gives the value of the panic where it is an error.
func (e *PanicError) Unwrap() error {
	err, ok := e.Value.(error)
	if !ok {
		return nil
	}
	return err
}

// recovered is deferred: it makes an error of a panic.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &PanicError{Value: p, Stack: debug.Stack()}
	}
}
