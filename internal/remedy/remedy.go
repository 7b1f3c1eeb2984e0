// Package remedy lets an error carry what its reader can do about it, apart
// from what went wrong, so that a command line or a web page shows both.
package remedy

import (
	"errors"
	"fmt"
)

// Error is an error that knows a remedy. Types of other packages may have a
// Remedy method too, without importing this one.
type Error interface {
	error
	// Remedy says what to do: one or more short imperative sentences.
	Remedy() string
}

type wrapped struct {
	error
	remedy string
}

func (w *wrapped) Remedy() string { return w.remedy }
func (w *wrapped) Unwrap() error  { return w.error }

// Wrap gives err a remedy; its text stays as it was. A nil err stays nil.
func Wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return &wrapped{err, what}
}

// Wrapf is Wrap with a format.
func Wrapf(err error, format string, args ...any) error {
	return Wrap(err, fmt.Sprintf(format, args...))
}

// Of gives the outermost remedy that err carries, or "".
func Of(err error) string {
	var r Error
	if errors.As(err, &r) {
		return r.Remedy()
	}
	return ""
}
