package jobs

import "time"

// Query selects jobs. Every field that is set narrows it; the zero value
// selects all.
type Query struct {
	States                  []State
	Kinds                   []string
	Target, Name, CreatedBy string    // exactly
	Since, Until            time.Time // created at or after Since and before Until
	// After goes on after the job of that ID: the last one of the page before.
	After string
	Limit int // at most so many; 0: all
}

// Change is a person's request to change a job.
type Change struct {
	By     string // who asks; kept in the job's log
	Reason string // why; becomes Job.StateReason
	// IfMatch, if set, is the ETag that the job must still have; else the error
	// wraps ErrChanged. A worker changes the ETag every few seconds.
	IfMatch string
}
