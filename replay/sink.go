package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/reservoirhq/reservoir/event"
)

// Sink is where a replay writes. It is used by one goroutine at a time, and
// never again after an error that is not a *RejectedError.
type Sink interface {
	// Position returns the place up to which everything is written, by the
	// sink's own record: zero when it has none. The replay goes on after it.
	Position(ctx context.Context) (Position, error)
	// Write writes a batch, in order. It returns nil only when all of it is
	// there to stay. A sink that is exactly once skips what it has already.
	//
	// A *RejectedError says that the batch is dealt with but for some events
	// which the target will never take; with Unwritten set, that nothing of it
	// was written, and then the rest of it is offered again. ErrUnavailable is
	// wrapped when the target does not answer or asks for patience, ErrFenced
	// when another worker has taken over; the batch may be written or not after
	// these.
	Write(ctx context.Context, b *Batch) error
	// Close ends the sink without writing anything more. It may be called twice.
	Close() error
}

// Finisher is a Sink with something to do when all has been written, such as
// restoring a stream's counters.
type Finisher interface {
	// Finish may be called again after a crash.
	Finish(ctx context.Context) error
}

// Presser is a Sink that can tell how far its readers are behind.
type Presser interface {
	// Pressure returns why the replay should hold, "" when it need not.
	Pressure(ctx context.Context) (string, error)
}

// Recorder is a Sink that may keep a record of its own with what it writes. If it
// does not, or is no Recorder, the replay saves its job after every 1000 events
// and every second, so that a crash repeats no more than what came since.
type Recorder interface {
	// Records reports whether a crash repeats nothing of what was written.
	Records() bool
}

// Settler is a Sink whose Position may be behind what it has, because it moves the
// record of one part of its target now and then only.
type Settler interface {
	// Settle moves Position up to the end of the last batch.
	Settle(ctx context.Context) error
}

// AheadWriter is a Sink that is faster when it knows the next batch in time.
type AheadWriter interface {
	// WriteAhead is Write. While b is on its way it calls next, which must not
	// wait, for the batch that is to be written after b; nil if there is none
	// yet. That batch is sent ahead but not written, until WriteAhead or Write is
	// called with the same pointer; it must not change until then. If another
	// batch is written instead, or none, it leaves no trace.
	WriteAhead(ctx context.Context, b *Batch, next func() *Batch) error
}

// Keyer is a Sink that may want Origin.EventID and Origin.Key, which take time
// to find: they are empty for every other sink.
type Keyer interface {
	WantsKeys() bool
}

// Batch is a run of a replay's events in order, transformed, as sinks get them.
// It is valid until Write returns.
type Batch struct {
	event.Batch
	Origins []Origin // one for each event
}

// Origin is where an event of a Batch comes from.
type Origin struct {
	Position
	Stream string // its name
	// EventID and Key are the event's own ID and its aggregate's, "" when it
	// has none: for idempotency and for order by key. See Keyer.
	EventID, Key string
}

var (
	// ErrUnavailable is wrapped by a Sink whose target is down: trying again
	// later may help.
	ErrUnavailable = errors.New("target is unavailable")
	// ErrFenced is wrapped by a Sink that met a higher epoch: another worker has
	// the job, and nothing more may be written.
	ErrFenced = errors.New("another worker has taken the replay over")
	// ErrRecordLost is wrapped by a Sink that has a Position no more, although its
	// target has events of the replay: to begin anew would write them again.
	ErrRecordLost = errors.New("the target's record of the replay is lost")
)

// RejectedError names the events of a batch that the target will never take, in
// the batch's order.
type RejectedError struct {
	Events []Rejection
	// Unwritten says that nothing of the batch was written. A sink that keeps a
	// Position rejects only in this way: were its Position beyond an event that
	// is not among the dead letters yet, a crash would lose the event.
	Unwritten bool
}

// Rejection is one of them.
type Rejection struct {
	Index    int // in the batch
	Attempts int
	Err      error
}

func (e *RejectedError) Error() string {
	if len(e.Events) == 0 {
		return "no events rejected"
	}
	return fmt.Sprintf("%d events rejected, the first: %v", len(e.Events), e.Events[0].Err)
}

// SinkSpec names a kind of sink and its options, which only that kind knows.
type SinkSpec struct {
	Type    string          `json:"type"`
	Options json.RawMessage `json:"options,omitempty"`
}

// Guarantee is what a sink promises for a replay that crashes.
type Guarantee string

// The guarantees.
const (
	ExactlyOnce Guarantee = "exactly once"
	AtLeastOnce Guarantee = "at least once" // at most a batch is repeated
)

// SinkKind makes sinks of one type. One file in package sink is one SinkKind.
type SinkKind interface {
	// Type is the SinkSpec.Type: "redis".
	Type() string
	// Parse makes the options of a target on the command line, what follows
	// "type:" (or a whole URL): "redis:{stream}:copy". The options given with it
	// win. Unknown options are errors that list the known ones.
	Parse(target string, options map[string]string) (json.RawMessage, error)
	// Check looks at a replay before it is created, without writing: options,
	// hosts that are allowed, a target that can be reached and takes it.
	Check(ctx context.Context, o Opening) (Target, error)
	// Open opens a sink for one attempt, and takes the target over from every
	// attempt with a lower epoch: when it returns, those can write nothing more
	// where the Guarantee is ExactlyOnce. ErrRecordLost is wrapped as long as
	// Opening.Written is set, the target has entries, and no record of the replay:
	// the replay is paused then.
	Open(ctx context.Context, o Opening) (Sink, error)
	// Clean removes what a replay keeps at the target beside the events, such as
	// its checkpoints, after it has ended; at once, or after some time.
	Clean(ctx context.Context, o Opening) error
}

// Target describes what a replay would write to.
type Target struct {
	// Key identifies it among jobs; see jobs.Job.Target.
	Key         string
	Description string // for people: "streams {stream}:copy on redis localhost:6379"
	Guarantee   Guarantee
	Warnings    []string
	// Restores says that streams are to be there again as they were last: what is
	// in an earlier incarnation of a stream only, because the key was deleted or
	// Redis went back to an older state, is not replayed.
	Restores bool
}

// Opening is what a SinkKind gets to know of a replay.
type Opening struct {
	Replay  string // the job's ID; "" in Check
	Epoch   uint64
	Written Position // the last event that the target is known to have had; zero: none
	Options json.RawMessage
	Streams []StreamRange // the selected streams, by Position.Stream
	Whole   bool          // no filter, no limit, no transform: the range is replayed as it was
	Follow  bool          // it goes on with live events: it has no end but its cancellation
	BackPressure
	Retry  RetryPolicy
	Logger *slog.Logger
}
