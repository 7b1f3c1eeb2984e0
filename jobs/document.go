package jobs

import "fmt"

// DocumentError says that a job's document is there and cannot be used: it is
// damaged, or a newer Reservoir wrote it.
type DocumentError struct {
	Key string // on the object store
	Err error
}

func (e *DocumentError) Error() string { return fmt.Sprintf("read %s: %v", e.Key, e.Err) }
func (e *DocumentError) Unwrap() error { return e.Err }
