package projection

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// FormatVersion is the version of the documents that this package writes, and
// the newest that it reads.
const FormatVersion = 1

// MaxHistory bounds Document.History.
const MaxHistory = 100

// Document is what is known of a projection that was built, or is being built.
type Document struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	// Nonce is another one in every revision.
	Nonce     string    `json:"nonce"`
	UpdatedAt time.Time `json:"updated_at"`

	// Live is the generation that readers see; its number is 0 before the first
	// one is.
	Live Generation `json:"live"`
	// Batch numbers the last batch that is proved to be in the live table; 0 is
	// none yet. Chunks of the load and batches share their numbers.
	Batch uint64 `json:"batch"`
	// Pending is the batch in flight: it may be in the table, in part or not at all.
	Pending *Pending `json:"pending,omitempty"`

	// Epoch counts the holders. Only the last one may write to the table.
	Epoch  uint64  `json:"epoch"`
	Holder *Holder `json:"holder,omitempty"`

	// LastGeneration is the highest number that was given out.
	LastGeneration uint64 `json:"last_generation"`
	// Previous are the generations that can be rolled back to, the latest first.
	Previous []Previous `json:"previous,omitempty"`
	// Damaged says why the live table cannot be trusted any more, or nothing.
	Damaged string `json:"damaged,omitempty"`
	// Waiting says why the live table is not fed just now, though it should be.
	Waiting *Waiting `json:"waiting,omitempty"`
	// History is what happened, the latest last, at most MaxHistory.
	History []HistoryEntry `json:"history,omitempty"`

	// ETag is that of the revision that was read.
	ETag string `json:"-"`
}

// Waiting is that a table is not fed.
type Waiting struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// Generation is one build of a projection's tables.
type Generation struct {
	Generation uint64 `json:"generation"`
	// Digest is that of the definition, and of the upcasters where it has them
	// applied. While the definition has another one, the table is not fed.
	Digest string `json:"digest"`
	// Rebuild is the job that built it.
	Rebuild string    `json:"rebuild,omitempty"`
	LiveAt  time.Time `json:"live_at,omitzero"`
	// Positions are how far the table is, by stream.
	Positions map[string]Position `json:"positions,omitempty"`
}

// Position is how far a table is in a stream: the ID of the last event that it
// is made of.
type Position struct {
	Incarnation int      `json:"incarnation"`
	ID          event.ID `json:"id"`
}

// Compare returns -1, 0 or +1.
func (p Position) Compare(other Position) int {
	switch {
	case p.Incarnation < other.Incarnation:
		return -1
	case p.Incarnation > other.Incarnation:
		return 1
	default:
		return p.ID.Compare(other.ID)
	}
}

// Pending is a batch that was announced before it was sent.
type Pending struct {
	Batch uint64 `json:"batch"`
	// Positions are how far the table is when the batch is in it, of the streams
	// that the batch changes.
	Positions map[string]Position `json:"positions"`
	// Rows is how many rows the batch has, and Base how many the table had before it,
	// where they are known and the proof needs them.
	Rows uint64 `json:"rows,omitempty"`
	Base uint64 `json:"base,omitempty"`
	// Dependents is Base for those dependent tables that add rows up, by name.
	Dependents map[string]uint64 `json:"dependents,omitempty"`
	// Within is how long after the announcement the batch may still be sent; 0 is a second.
	Within time.Duration `json:"within,omitempty"`
}

// HolderKind says what a holder does.
type HolderKind string

// The kinds of holders. A rebuild takes the place of a projector at once, and
// nobody else takes that of one who is alive.
const (
	Projector HolderKind = "projector" // feeds the live table
	Rebuilder HolderKind = "rebuild"   // hands over to another generation, or rolls back
)

// Holder is the worker that may write.
type Holder struct {
	Worker string     `json:"worker"`
	Kind   HolderKind `json:"kind"`
	// Beat counts the holder's writes, and Renewed is when the last was, by its clock.
	Beat    uint64    `json:"beat"`
	Renewed time.Time `json:"renewed"`
	// TTL is how long a holder stays one without a write, as seen by the clock of
	// whoever waits for its place.
	TTL time.Duration `json:"ttl"`
}

// Previous is a generation that was replaced.
type Previous struct {
	Generation
	// Batch is what Document.Batch was.
	Batch uint64 `json:"batch"`
	// Table is the name under which its table is kept.
	Table     string    `json:"table"`
	RetiredAt time.Time `json:"retired_at"`
	// DropAfter is when the table may be dropped.
	DropAfter time.Time `json:"drop_after"`
	// Damaged is what Document.Damaged was, or why it is not fed any more.
	Damaged string `json:"damaged,omitempty"`
	// Feed says that it goes on being fed, and Pending is its batch in flight.
	Feed    bool     `json:"feed,omitempty"`
	Pending *Pending `json:"pending,omitempty"`
}

// HistoryEntry is something that happened to a projection.
type HistoryEntry struct {
	Time       time.Time `json:"time"`
	What       string    `json:"what"` // live, rolled_back, dropped, damaged
	Generation uint64    `json:"generation,omitempty"`
	By         string    `json:"by,omitempty"` // a worker, a job or a person
	Message    string    `json:"message,omitempty"`
}

// clone copies what a writer may change in place.
func (d *Document) clone() *Document {
	c := *d
	c.Live.Positions = maps.Clone(d.Live.Positions)
	c.Previous = slices.Clone(d.Previous)
	for i := range c.Previous {
		c.Previous[i].Positions = maps.Clone(c.Previous[i].Positions)
		c.Previous[i].Pending = c.Previous[i].Pending.clone()
	}
	c.History = slices.Clone(d.History)
	c.Pending = d.Pending.clone()
	if d.Holder != nil {
		holder := *d.Holder
		c.Holder = &holder
	}
	if d.Waiting != nil {
		waiting := *d.Waiting
		c.Waiting = &waiting
	}
	return &c
}

func (p *Pending) clone() *Pending {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// Kept gives a previous generation; nil: it is not kept.
func (d *Document) Kept(generation uint64) *Previous {
	for i := range d.Previous {
		if d.Previous[i].Generation.Generation == generation {
			return &d.Previous[i]
		}
	}
	return nil
}

// log adds to the history, and keeps it in bounds.
func (d *Document) log(e HistoryEntry) {
	e.Message = clip(e.Message)
	d.History = append(d.History, e)
	if over := len(d.History) - MaxHistory; over > 0 {
		d.History = slices.Delete(d.History, 0, over)
	}
}

// validate says whether a document that was read makes sense.
func (d *Document) validate(name string) error {
	switch {
	case d.Name != name:
		return fmt.Errorf("it is of projection %.80q", d.Name)
	case d.Live.Generation > d.LastGeneration:
		return fmt.Errorf("generation %d is live, and %d was the last one", d.Live.Generation, d.LastGeneration)
	case d.Pending != nil && d.Pending.Batch != d.Batch+1:
		return fmt.Errorf("batch %d is in flight after batch %d", d.Pending.Batch, d.Batch)
	case d.Holder != nil && (d.Holder.TTL <= 0 || d.Epoch == 0):
		return fmt.Errorf("holder %.80q has no time or no epoch", d.Holder.Worker)
	}
	for _, p := range d.Previous {
		if p.Generation.Generation > d.LastGeneration || p.Table == "" {
			return fmt.Errorf("generation %d cannot be a previous one", p.Generation.Generation)
		}
		if p.Pending != nil && p.Pending.Batch != p.Batch+1 {
			return fmt.Errorf("batch %d of generation %d is in flight after batch %d", p.Pending.Batch, p.Generation.Generation, p.Batch)
		}
	}
	return nil
}

// maxMessage bounds messages and reasons, in bytes.
const maxMessage = 4 << 10

func clip(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return text[:maxMessage] + " …"
}
