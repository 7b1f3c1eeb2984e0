package archive

import (
	"errors"
	"fmt"
)

var (
	// ErrConflict is wrapped by Log.Append when another writer's commit came
	// first and moved the head, sealed the incarnation or removed the same
	// segments. Throw away what was to be committed, Refresh, and begin again
	// from the head that is there then.
	ErrConflict = errors.New("another writer committed first")
	// ErrStale is wrapped by Log.Append when an earlier Append failed and the
	// Log was not refreshed since.
	ErrStale = errors.New("log must be refreshed after a failed append")
	// ErrSegmentGone is wrapped when a segment that a plan names no longer
	// exists: it was compacted or expired after the plan was made, and garbage
	// collection came by after the grace period. Make a new plan.
	ErrSegmentGone = errors.New("segment is gone")
	// ErrDamaged is wrapped when an object of the archive does not hold what
	// it must.
	ErrDamaged = errors.New("archive is damaged")
	// ErrNewerVersion is what every NewerVersionError is.
	ErrNewerVersion = errors.New("made by a newer version of reservoir")
)

// NewerVersionError says that the archive, or an object in it, has a version
// of the format that this program does not know.
type NewerVersionError struct {
	Object    string // the key
	Found     int
	Supported int // the newest version this program reads
}

// Error implements error.
func (e *NewerVersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, and this program reads up to version %d: %v", e.Object, e.Found, e.Supported, ErrNewerVersion)
}

// Is makes errors.Is(err, ErrNewerVersion) true.
func (e *NewerVersionError) Is(target error) bool { return target == ErrNewerVersion }

// Remedy says what to do about it.
func (e *NewerVersionError) Remedy() string {
	return "use a release of reservoir at least as new as the one that wrote this archive"
}
