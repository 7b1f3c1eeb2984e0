package replay

import (
	"cmp"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// Position is the place of an event in the order of a replay. Positions of one
// replay compare as the order goes, in every attempt alike. The zero Position is
// before every event.
type Position struct {
	// Ms is 0 in OrderStream. In OrderTime it is the milliseconds that the event
	// merges by: those of its ID, or of the highest ID in an earlier incarnation
	// of its stream where that is higher.
	Ms          uint64
	Stream      int // its index among the replay's streams, from 0
	Incarnation int
	ID          event.ID
}

// Compare returns -1, 0 or +1.
func (p Position) Compare(o Position) int {
	return cmp.Or(cmp.Compare(p.Ms, o.Ms), cmp.Compare(p.Stream, o.Stream), cmp.Compare(p.Incarnation, o.Incarnation), p.ID.Compare(o.ID))
}

// IsZero reports whether p is before every event.
func (p Position) IsZero() bool { return p == Position{} }

// Append appends p's text to b: "ms/stream/incarnation/id".
func (p Position) Append(b []byte) []byte {
	return p.ID.Append(fmt.Appendf(b, "%d/%d/%d/", p.Ms, p.Stream, p.Incarnation))
}

// String returns p's text, which ParsePosition reads.
func (p Position) String() string { return string(p.Append(nil)) }
