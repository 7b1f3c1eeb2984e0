package httpapi

import (
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// hiddenFailure is what is said of why a rebuild failed: its errors count rows of the
// whole table.
const hiddenFailure = "it failed; why is shown to whoever is not restricted to tenants"

// narrowJob takes secrets out of a job's spec and, for callers of some tenants, what
// counts or names events of other tenants: what its engine wrote into the log, how much
// of the archive was read, and how fast. What is left counts the events that the job
// selected, which are the caller's. The job itself stays as it is.
func (s scope) narrowJob(j *jobs.Job) *jobs.Job {
	if j.Damaged != nil {
		return j
	}
	n := *j
	n.Spec = replay.Redact(j.Spec)
	if !s.byTenant() {
		return &n
	}
	n.Checkpoint, n.Log, n.LogDropped = nil, nil, 0
	for _, e := range j.Log {
		if e.By != "" { // what people did
			n.Log = append(n.Log, e)
		}
	}
	p := &j.Progress
	n.Progress = jobs.Progress{Phase: p.Phase, Holding: p.Holding, Done: p.Selected, Selected: p.Selected, DeadLetters: p.DeadLetters}
	if j.State == jobs.Succeeded {
		n.Progress.Total, n.Progress.Exact = p.Selected, true
	}
	for _, stream := range p.Streams {
		n.Progress.Streams = append(n.Progress.Streams, jobs.StreamProgress{Stream: stream.Stream, Done: stream.Selected, Selected: stream.Selected})
	}
	if j.Kind != rebuild.Kind {
		return &n
	}
	n.Progress.DeadLetters, n.Progress.Holding, n.StateReason = 0, "", "" // upcasting fails before it is known whose event it is
	if j.State == jobs.Paused && p.Phase == rebuild.PhaseApproval {
		n.StateReason = "waits for approval"
	}
	if j.LastError != nil {
		failure := *j.LastError
		failure.Message, failure.Remedy = hiddenFailure, ""
		n.LastError = &failure
	}
	return &n
}
