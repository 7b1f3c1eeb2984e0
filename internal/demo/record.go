package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"

	"github.com/reservoirhq/reservoir/event"
)

// record is what was published to one stream, kept apart from the archive: the
// number of events, and a hash over their IDs and contents, in order.
type record struct {
	count uint64
	bytes int64
	hash  hash.Hash

	// entries are kept for the stream that is trimmed, so that the events that
	// were lost can be left out.
	keep    bool
	entries []entry
}

type entry struct {
	id     event.ID
	digest string
}

func newRecord(keep bool) *record { return &record{hash: sha256.New(), keep: keep} }

func (r *record) add(id event.ID, e *event.Event) {
	digest := event.Digest(e)
	r.count++
	r.bytes += int64(e.Size())
	writeEntry(r.hash, id, digest)
	if r.keep {
		r.entries = append(r.entries, entry{id, digest})
	}
}

func writeEntry(h hash.Hash, id event.ID, digest string) {
	h.Write(append(id.Append(nil), ' '))
	h.Write([]byte(digest))
}

// sum is the hash of all events.
func (r *record) sum() string { return hex.EncodeToString(r.hash.Sum(nil)) }

// without counts the events that lie in none of the gaps, and gives their hash.
func (r *record) without(lost func(event.ID) bool) (count uint64, sum string) {
	h := sha256.New()
	for _, e := range r.entries {
		if !lost(e.id) {
			count++
			writeEntry(h, e.id, e.digest)
		}
	}
	return count, hex.EncodeToString(h.Sum(nil))
}

// records are those of all streams.
type records struct {
	mu      sync.Mutex
	streams map[string]*record
	total   uint64
}

func (r *records) add(stream string, id event.ID, e *event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.streams[stream]
	if of == nil {
		of = newRecord(stream == Clicks)
		r.streams[stream] = of
	}
	of.add(id, e)
	r.total++
}

func (r *records) published() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}
