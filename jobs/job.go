package jobs

import (
	"cmp"
	"encoding/json"
	"time"
)

// State is where a job is in its life:
//
//	         ┌──────────── retry ────────────┐
//	         ▼                               │
//	──► pending ──► running ──► succeeded    │
//	     │  ▲        │  │ │                  │
//	     │  │resume  │  │ └──────────────► failed
//	     │  └─ paused ◄─┘                    │
//	     │        │                          │ cancel, or too old to be retried
//	     └────────┴──► cancelling ◄──────────┘
//	                        │
//	                        └──► cancelled, or failed for good
//
// A worker makes pending running, and running succeeded, failed, paused (the
// engine asked for a person) or pending again (an attempt failed in a way that
// may pass, or the worker shut down). People pause, resume, cancel and retry.
// Nothing leaves succeeded and cancelled. A failed job can be retried or cancelled
// for StoreOptions.KeepFailed; then a worker cleans up after it, as after one that
// was cancelled, and it is failed for good.
type State string

// The states.
const (
	Pending    State = "pending"    // waits for a worker
	Running    State = "running"    // a worker has it, or had it and died
	Paused     State = "paused"     // waits for a person; its worker may still be stopping
	Cancelling State = "cancelling" // waits for a worker to clean up
	Succeeded  State = "succeeded"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
)

// Job is the document of one job. docs/jobs.md specifies its JSON.
type Job struct {
	Version int    `json:"version"`
	ID      string `json:"id"`   // a ULID: sorts by creation
	Kind    string `json:"kind"` // which Engine runs it: "replay"
	// Target is what the job writes to, as far as limits are concerned: jobs of
	// the same target do not run at the same time (see RunnerOptions.PerTarget).
	Target    string          `json:"target,omitempty"`
	Name      string          `json:"name,omitempty"`
	Reason    string          `json:"reason,omitempty"`     // why it was asked for
	CreatedBy string          `json:"created_by,omitempty"` // who asked
	Spec      json.RawMessage `json:"spec"`

	State       State  `json:"state"`
	StateReason string `json:"state_reason,omitempty"` // why it is paused, pending again, …

	// Epoch counts the acquisitions: the worker that holds the job writes with
	// this number, and nothing that a lower one writes may have an effect.
	Epoch uint64 `json:"epoch"`
	Lease *Lease `json:"lease,omitempty"` // of the worker that has it; nil when none has
	// Attempt counts the attempts that failed since the job was created,
	// resumed or retried, or last got on; NotBefore is when the next may begin.
	Attempt   int       `json:"attempt"`
	NotBefore time.Time `json:"not_before,omitzero"`
	LastError *Failure  `json:"last_error,omitempty"`

	Progress Progress `json:"progress"`
	// Checkpoint is the engine's own: where to go on.
	Checkpoint json.RawMessage `json:"checkpoint,omitempty"`
	// Log is what happened, oldest first: the last MaxLog entries, and how many
	// were dropped before them.
	Log        []LogEntry `json:"log,omitempty"`
	LogDropped int        `json:"log_dropped,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"` // first acquired
	UpdatedAt time.Time `json:"updated_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`  // succeeded, failed or cancelled
	ClosedAt  time.Time `json:"closed_at,omitzero"` // nothing changes it any more

	// Nonce is another one in every revision: by it a writer knows its own write,
	// of which the answer was lost, from somebody else's.
	Nonce string `json:"nonce"`

	// ETag identifies this revision, for Change.IfMatch. It is not in the document.
	ETag string `json:"-"`
	// Damaged says why the document cannot be used; only List sets it, and
	// nothing else but ID is set then.
	Damaged error `json:"-"`
}

// MaxLog bounds Job.Log.
const MaxLog = 100

// Lease says who has a job.
type Lease struct {
	Worker  string        `json:"worker"`
	Renewed time.Time     `json:"renewed"` // by the worker's clock; for people
	TTL     time.Duration `json:"ttl_ns"`  // an unchanged document is up for take-over after it
}

// Failure is what went wrong last.
type Failure struct {
	Message string    `json:"message"`
	Remedy  string    `json:"remedy,omitempty"`
	Attempt int       `json:"attempt"`
	Time    time.Time `json:"time"`
}

// LogEntry is one thing that happened to a job.
type LogEntry struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // info, warn, error
	Message string    `json:"message"`
	Worker  string    `json:"worker,omitempty"`
	By      string    `json:"by,omitempty"` // who asked, where a person did
}

// Progress is how far a job is. Engines fill it; the runner adds Rate and Left.
type Progress struct {
	Phase string `json:"phase,omitempty"` // a word for what it does now
	// Unit is what Done, Total and Rate count, "" for events; "rows" where a statement
	// reads a table.
	Unit string `json:"unit,omitempty"`
	// Total is an upper bound of Done unless Exact is set, and 0 when it is not known
	// (a job that follows).
	Done  uint64 `json:"done"`
	Total uint64 `json:"total,omitempty"`
	Exact bool   `json:"exact,omitempty"`
	// Begun of the events done are only shown as such: what deals with them may fail, and
	// then they are taken back. It is not in the document.
	Begun uint64 `json:"-"`
	// Selected of the events done passed the filter; DeadLetters of these were
	// set aside.
	Selected    uint64 `json:"selected"`
	DeadLetters uint64 `json:"dead_letters,omitempty"`
	// BytesRead and BytesTotal count the archive's objects; BytesRead counts
	// what was really fetched.
	BytesRead  int64 `json:"bytes_read,omitempty"`
	BytesTotal int64 `json:"bytes_total,omitempty"`
	// Position is the last thing dealt with, for people.
	Position string `json:"position,omitempty"`
	// Holding says why the job waits (back-pressure, pace), "" when it does not.
	Holding string `json:"holding,omitempty"`
	// Rate is how much is done a second over the last half minute or so, and Left the
	// time until Total at this rate: 0 when not known.
	Rate float64       `json:"rate,omitempty"`
	Left time.Duration `json:"left_ns,omitempty"`
	// Streams is the progress by stream: the first MaxProgressStreams.
	Streams []StreamProgress `json:"streams,omitempty"`
}

// Counts is the word for what Done, Total and Rate count.
func (p *Progress) Counts() string { return cmp.Or(p.Unit, "events") }

// MaxProgressStreams bounds Progress.Streams.
const MaxProgressStreams = 100

// StreamProgress is how far a job is with one stream.
type StreamProgress struct {
	Stream   string `json:"stream"`
	Done     uint64 `json:"done"`
	Selected uint64 `json:"selected"`
	Total    uint64 `json:"total,omitempty"`
	Position string `json:"position,omitempty"`
}
