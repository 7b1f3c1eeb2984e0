package archive

import (
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// Kind says what a commit does.
type Kind string

// The kinds of commits.
const (
	// KindAppend adds segments that begin right after the head and moves it.
	KindAppend Kind = "append"
	// KindGap records entries that Redis lost before they were archived. It may
	// move the head over the lost range; it adds no segments.
	KindGap Kind = "gap"
	// KindSeal ends an incarnation and names the one that follows: no append,
	// gap or seal ever comes after it. Segments may still be compacted, expired
	// and erased; those commits repeat the Seal.
	KindSeal Kind = "seal"
	// KindCompact replaces segments by fewer, larger ones with the same events.
	KindCompact Kind = "compact"
	// KindExpire drops whole segments by age.
	KindExpire Kind = "expire"
	// KindErase replaces segments by ones from which events were erased.
	KindErase Kind = "erase"
)

// Commit is one immutable entry of an incarnation's commit log. What the
// commits up to the last one add and do not remove again is the archive.
// docs/format.md specifies its JSON.
type Commit struct {
	Version int       `json:"version"` // of the format, FormatVersion
	Number  uint64    `json:"number"`  // from 1, without holes
	Kind    Kind      `json:"kind"`
	Writer  string    `json:"writer"` // host, pid and a nonce of the process
	Nonce   string    `json:"nonce"`  // unique to this attempt: tells one's own commit from another's
	Time    time.Time `json:"time"`

	Prev event.ID `json:"prev"` // the head before this commit
	Head event.ID `json:"head"` // the head after it; equals Prev when it does not move
	// HeadDigest is event.Digest of the entry at Head, when one was archived
	// there: it tells whether Redis still holds the history that was archived.
	HeadDigest string `json:"head_digest,omitempty"`
	// EntriesAdded is how many entries had ever been added to the stream with
	// IDs up to Head, by Redis's own count (XINFO STREAM entries-added).
	EntriesAdded uint64 `json:"entries_added"`

	Adds    []Segment `json:"adds,omitempty"`
	Removes []string  `json:"removes,omitempty"` // keys
	Gap     *Gap      `json:"gap,omitempty"`
	// Seal is set in the sealing commit and in every one after it, so the last
	// commit of a log tells whether the log goes on elsewhere.
	Seal *Seal `json:"seal,omitempty"`

	// Totals are those of the incarnation after this commit.
	Totals Totals `json:"totals"`
}

// Segment describes one immutable data object: a contiguous range of one
// incarnation in one format.
type Segment struct {
	Format  Format   `json:"format"`
	Version int      `json:"version"` // of that format
	Key     string   `json:"key"`     // relative to the incarnation's directory
	First   event.ID `json:"first"`   // of its events
	Last    event.ID `json:"last"`
	Count   uint64   `json:"count"`
	Bytes   int64    `json:"bytes"`     // of the object
	Raw     int64    `json:"raw_bytes"` // of all names and values
	SHA256  string   `json:"sha256"`    // of the object, hex
	Summary
}

// Summary is what a plan can know of a segment without reading it, as seen
// through the envelope mapping by which the segment was written.
type Summary struct {
	// Mapping tells that mapping: the first 16 hex digits of the SHA-256 of its
	// JSON. Through another mapping the events may have other types, tenants
	// and times.
	Mapping string    `json:"mapping,omitempty"`
	MinTime time.Time `json:"min_time"` // occurred-at; the ID's time where an event has none
	MaxTime time.Time `json:"max_time"`
	// Types counts events by type; nil when there were more than MaxSummary
	// distinct ones. Events without a type count under "".
	Types map[string]uint64 `json:"types,omitempty"`
	// Tenants counts events by tenant, like Types.
	Tenants map[string]uint64 `json:"tenants,omitempty"`
}

// MaxSummary bounds the distinct values that a Summary counts.
const MaxSummary = 256

// Format is that of a segment.
type Format string

// The formats of segments.
const (
	JSONL   Format = "jsonl"
	Parquet Format = "parquet"
)

// Gap is a loss: entries that were added to the stream after After and up to
// UpTo, and that Redis no longer had when the archiver came.
type Gap struct {
	After event.ID `json:"after"`
	UpTo  event.ID `json:"up_to"`
	// Lost is the number of lost entries; with Exact unset it is a lower bound,
	// which may be 0 for a stream that was found gone.
	Lost  uint64   `json:"lost"`
	Exact bool     `json:"exact"`
	Cause GapCause `json:"cause"`
}

// first is the lowest ID that may have been lost.
func (g *Gap) first() event.ID {
	if g.After == g.UpTo {
		return g.After
	}
	return g.After.Next()
}

// GapCause says how entries were lost, as far as Redis tells.
type GapCause string

// The causes of gaps.
const (
	CauseTrimmed  GapCause = "trimmed"  // XTRIM, MAXLEN or MINID passed the archiver
	CauseDeleted  GapCause = "deleted"  // XDEL
	CauseRemoved  GapCause = "removed"  // the key itself: DEL, expiry, eviction, FLUSHALL
	CauseFailover GapCause = "failover" // Redis came back with an older state
	CauseUnknown  GapCause = "unknown"  // trimmed or deleted: Redis cannot tell
)

// Seal says why an incarnation ended.
type Seal struct {
	Reason GapCause `json:"reason"` // CauseRemoved or CauseFailover
	Next   int      `json:"next"`   // the incarnation that follows
	// Base is where the next incarnation begins: entries up to it are the same
	// in both and are in this one only.
	Base event.ID `json:"base"`
	// BaseDigest and BaseEntriesAdded are for Base in the next incarnation what
	// HeadDigest and EntriesAdded are for a commit's Head.
	BaseDigest       string `json:"base_digest,omitempty"`
	BaseEntriesAdded uint64 `json:"base_entries_added"`
}

// Totals count an incarnation as a whole.
type Totals struct {
	Events   uint64 `json:"events"`    // live (not expired or erased), counted once
	Segments uint64 `json:"segments"`  // live data objects
	Bytes    int64  `json:"bytes"`     // of them
	RawBytes int64  `json:"raw_bytes"` // of the live events
	Gaps     uint64 `json:"gaps"`
	Lost     uint64 `json:"lost"` // by gaps, a lower bound when one is not exact
}
