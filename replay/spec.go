package replay

import (
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// Spec says what to replay, where to and how. It is the spec of a job of kind
// "replay".
type Spec struct {
	// Streams are names or patterns (see event.MatchPattern) of archived streams.
	Streams []string `json:"streams"`
	// From and To bound the range, in any form that event.ParseBound reads.
	// They are resolved when the replay is created; an open end is the archive's
	// head of each stream at that moment.
	From   string       `json:"from,omitempty"`
	To     string       `json:"to,omitempty"`
	Filter event.Filter `json:"filter,omitzero"`
	// Limit ends the replay after so many selected events; 0: no limit.
	Limit uint64 `json:"limit,omitempty"`
	Order Order  `json:"order,omitempty"`
	// Follow goes on with what comes after the archive's head, from the live
	// stream, until the replay is cancelled.
	Follow bool `json:"follow,omitempty"`
	// Upcast applies the worker's upcasters.
	Upcast bool `json:"upcast,omitempty"`
	// DeadLettersOf replays the dead letters of another replay instead of
	// Streams: all, or those of the given keys. Each is removed there when it
	// was taken here.
	DeadLettersOf string   `json:"dead_letters_of,omitempty"`
	DeadLetters   []string `json:"dead_letters,omitempty"`

	Sink         SinkSpec      `json:"sink"`
	Pace         Pace          `json:"pace,omitzero"`
	BackPressure BackPressure  `json:"back_pressure,omitzero"`
	Failures     FailurePolicy `json:"failures,omitzero"`
}

// Order is that of the events of several streams.
type Order string

// The orders. Within a stream it is always the stream's own.
const (
	OrderTime   Order = "time"   // merged by the milliseconds of the IDs; the default
	OrderStream Order = "stream" // one stream after the other
)

// Pace is how fast events are sent: the zero Pace is as fast as they can be.
type Pace struct {
	Rate   float64 `json:"rate,omitempty"`   // events a second
	Factor float64 `json:"factor,omitempty"` // times the original speed, by the milliseconds of the IDs
	// MaxSilence cuts silences of the original, before Factor applies.
	MaxSilence time.Duration `json:"max_silence_ns,omitempty"`
}

// BackPressure holds a replay while its target is behind; zeros do not count.
type BackPressure struct {
	MaxLength  uint64 `json:"max_length,omitempty"`  // of the target stream
	Group      string `json:"group,omitempty"`       // a consumer group of the target stream
	MaxLag     uint64 `json:"max_lag,omitempty"`     // of the group: not delivered to it yet
	MaxPending uint64 `json:"max_pending,omitempty"` // of the group: not acknowledged yet
}

// RetryPolicy is how an event, or a batch, that a target did not take is sent
// again: after Initial, twice as long each time up to Max, each time with a
// jitter of a fifth, Attempts times at the most. A target's own Retry-After
// counts when it is longer.
type RetryPolicy struct {
	Attempts int           `json:"attempts,omitempty"`   // default 8
	Initial  time.Duration `json:"initial_ns,omitempty"` // default 200ms
	Max      time.Duration `json:"max_ns,omitempty"`     // default 30s
}

// FailurePolicy is what happens to what cannot be sent.
type FailurePolicy struct {
	Retry RetryPolicy `json:"retry,omitzero"`
	// MaxDeadLetters is how many events may be set aside; one more fails the
	// replay, and nothing is left out: 0 stops at the first.
	MaxDeadLetters uint64 `json:"max_dead_letters,omitempty"`
}

// StreamRange is what a replay reads of one stream, resolved.
type StreamRange struct {
	Stream string      `json:"stream"`
	Range  event.Range `json:"range"`
	// StreamBase64 is Stream in a document, where that is not UTF-8, which JSON
	// cannot hold.
	StreamBase64 string `json:"stream_base64,omitempty"`
	// Incarnation and Head are where the archive of the stream ended when the
	// replay was created: what is beyond does not belong to it, unless it follows.
	Incarnation int      `json:"incarnation"`
	Head        event.ID `json:"head"`
	// LastOnly leaves out of the earlier incarnations what is not in the last one's
	// history; see Target.Restores.
	LastOnly bool `json:"last_only,omitempty"`
	// EntriesAdded is how many entries Redis had ever added to the stream up to
	// Head (archive.Commit.EntriesAdded of that incarnation); 0 if not known. A
	// sink that restores the stream gives it this count again.
	EntriesAdded uint64 `json:"entries_added,omitempty"`
}

// Frozen is a Spec resolved: what a replay reads, fixed when it is created and
// kept beside its job.
type Frozen struct {
	Version    int           `json:"version"` // FrozenVersion
	ResolvedAt time.Time     `json:"resolved_at"`
	Streams    []StreamRange `json:"streams"` // by Position.Stream
	// Events and Bytes bound what will be read of the archive.
	Events uint64 `json:"events"`
	Bytes  int64  `json:"bytes"`
	// Upcasters is the digest of the upcasters that apply: an attempt with others
	// is refused, because it would send other events.
	Upcasters string `json:"upcasters,omitempty"`
	// Warnings say what the one who asked may not expect: streams without events
	// in the range, entries that were lost.
	Warnings []string `json:"warnings,omitempty"`
}

// FrozenVersion is the version of Frozen that this program writes.
const FrozenVersion = 1
