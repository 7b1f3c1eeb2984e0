package event

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ID is the ID of a Redis stream entry: milliseconds and a sequence number.
// IDs are totally ordered within one incarnation of a stream. The zero ID is
// never that of an entry; as a position it means "before the first entry".
type ID struct {
	Ms  uint64
	Seq uint64
}

// MaxID is the highest ID that Redis accepts.
var MaxID = ID{math.MaxUint64, math.MaxUint64}

// ErrInvalidID is what ParseID wraps for text that is not an ID.
var ErrInvalidID = errors.New("invalid stream ID")

// ParseID reads "ms-seq", or "ms" alone, which means "ms-0". It takes decimal
// digits only; it does not accept the special IDs of Redis ("-", "+", "$").
func ParseID(s string) (ID, error) {
	ms, seq, found := strings.Cut(s, "-")
	id := ID{}
	var err error
	if id.Ms, err = parseDecimal(ms); err != nil {
		return ID{}, fmt.Errorf("%w %q: want <milliseconds>-<sequence>", ErrInvalidID, s)
	}
	if !found {
		return id, nil
	}
	if id.Seq, err = parseDecimal(seq); err != nil {
		return ID{}, fmt.Errorf("%w %q: want <milliseconds>-<sequence>", ErrInvalidID, s)
	}
	return id, nil
}

// parseDecimal refuses the signs and underscores that strconv lets through.
func parseDecimal(s string) (uint64, error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, strconv.ErrSyntax
		}
	}
	return strconv.ParseUint(s, 10, 64)
}

// Compare returns -1, 0 or +1.
func (id ID) Compare(other ID) int {
	switch {
	case id.Ms < other.Ms || id.Ms == other.Ms && id.Seq < other.Seq:
		return -1
	case id == other:
		return 0
	default:
		return 1
	}
}

// Less reports whether id comes before other.
func (id ID) Less(other ID) bool { return id.Compare(other) < 0 }

// IsZero reports whether id is 0-0.
func (id ID) IsZero() bool { return id == ID{} }

// Next returns the lowest ID above id; MaxID stays MaxID.
func (id ID) Next() ID {
	switch {
	case id == MaxID:
		return id
	case id.Seq == math.MaxUint64:
		return ID{id.Ms + 1, 0}
	default:
		return ID{id.Ms, id.Seq + 1}
	}
}

// Prev returns the highest ID below id; 0-0 stays 0-0.
func (id ID) Prev() ID {
	switch {
	case id.IsZero():
		return id
	case id.Seq == 0:
		return ID{id.Ms - 1, math.MaxUint64}
	default:
		return ID{id.Ms, id.Seq - 1}
	}
}

// String returns the text that Redis uses, "ms-seq".
func (id ID) String() string { return string(id.Append(nil)) }

// Append appends the text that Redis uses to b.
func (id ID) Append(b []byte) []byte {
	b = strconv.AppendUint(b, id.Ms, 10)
	b = append(b, '-')
	return strconv.AppendUint(b, id.Seq, 10)
}

// Sortable returns a fixed-width text (20 digits, a dash, 20 digits) that sorts
// as IDs do. ParseID reads it back.
func (id ID) Sortable() string { return fmt.Sprintf("%020d-%020d", id.Ms, id.Seq) }

// MarshalText implements encoding.TextMarshaler with the text that Redis uses.
func (id ID) MarshalText() ([]byte, error) { return id.Append(nil), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	parsed, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
