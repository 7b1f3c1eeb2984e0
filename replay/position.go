package replay

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	b = append(strconv.AppendUint(b, p.Ms, 10), '/')
	b = append(strconv.AppendInt(b, int64(p.Stream), 10), '/')
	b = append(strconv.AppendInt(b, int64(p.Incarnation), 10), '/')
	return p.ID.Append(b)
}

// String returns p's text, which ParsePosition reads.
func (p Position) String() string { return string(p.Append(nil)) }

// ErrInvalidPosition is what ParsePosition wraps for text that is not a Position.
var ErrInvalidPosition = errors.New("invalid replay position")

// ParsePosition reads what String gives.
func ParsePosition(text string) (Position, error) {
	bad := func(err error) (Position, error) {
		return Position{}, fmt.Errorf("%w %q: %w", ErrInvalidPosition, text, err)
	}
	parts := strings.Split(text, "/")
	if len(parts) != 4 {
		return bad(fmt.Errorf("it has %d parts, not ms/stream/incarnation/id", len(parts)))
	}
	ms, err := strconv.ParseUint(parts[0], 10, 64)
	if err != nil {
		return bad(err)
	}
	stream, err := strconv.ParseUint(parts[1], 10, 31)
	if err != nil {
		return bad(err)
	}
	incarnation, err := strconv.ParseUint(parts[2], 10, 31)
	if err != nil {
		return bad(err)
	}
	id, err := event.ParseID(parts[3])
	if err != nil {
		return bad(err)
	}
	return Position{Ms: ms, Stream: int(stream), Incarnation: int(incarnation), ID: id}, nil
}

// MarshalText gives p as String does.
func (p Position) MarshalText() ([]byte, error) { return p.Append(nil), nil }

// UnmarshalText reads what MarshalText gives.
func (p *Position) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePosition(string(text))
	return err
}
