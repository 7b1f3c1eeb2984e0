package jobs

import (
	"slices"
	"time"
)

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
	// Looked, if not nil, is told of each job that was looked at, whether it is given or
	// not: when the list ends early, After that one it goes on.
	Looked func(id string)
}

// wants says whether what a key tells is selected.
func (q *Query) wants(e entry) bool {
	created := Created(e.id)
	switch {
	case q.After != "" && e.id >= q.After:
		return false
	case !q.Since.IsZero() && created.Before(q.Since), !q.Until.IsZero() && !created.Before(q.Until):
		return false
	case e.kind == "": // active: only the document tells
		return true
	}
	return q.selects(e.kind, e.state)
}

func (q *Query) selects(kind string, state State) bool {
	return (len(q.Kinds) == 0 || slices.Contains(q.Kinds, kind)) &&
		(len(q.States) == 0 || slices.Contains(q.States, state))
}

// matches says whether a job is selected, whose key is.
func (q *Query) matches(j *Job) bool {
	if j.Damaged != nil {
		return len(q.Kinds) == 0 && len(q.States) == 0 && q.Target == "" && q.Name == "" && q.CreatedBy == ""
	}
	return q.selects(j.Kind, j.State) &&
		(q.Target == "" || q.Target == j.Target) &&
		(q.Name == "" || q.Name == j.Name) &&
		(q.CreatedBy == "" || q.CreatedBy == j.CreatedBy)
}

// ended says whether ended jobs can be among the selected ones.
func (q *Query) ended() bool {
	return len(q.States) == 0 || slices.ContainsFunc(q.States, State.Ended)
}
