package parquet

import (
	"unicode/utf8"

	pq "github.com/parquet-go/parquet-go"
)

// maxBound is the length in bytes from which the statistics of payload and
// rest are shortened: values may have megabytes, and the footer holds two of
// them for every column chunk.
const maxBound = 64

// shortBounds is a byte array type whose pages have shortened bounds. (Leaving
// the bounds out would be worse: the column index would then say that every
// page's values lie between "" and "", and readers that trust it lose rows.)
type shortBounds struct{ pq.Type }

func (t shortBounds) NewColumnBuffer(column, numValues int) pq.ColumnBuffer {
	return shortBoundsBuffer{t.Type.NewColumnBuffer(column, numValues)}
}

type shortBoundsBuffer struct{ pq.ColumnBuffer }

func (b shortBoundsBuffer) Page() pq.Page { return shortBoundsPage{b.ColumnBuffer.Page()} }

type shortBoundsPage struct{ pq.Page }

func (p shortBoundsPage) Bounds() (lower, upper pq.Value, ok bool) {
	lower, upper, ok = p.Page.Bounds()
	if !ok {
		return lower, upper, false
	}
	return pq.ByteArrayValue(lowerBound(lower.ByteArray())), pq.ByteArrayValue(upperBound(upper.ByteArray())), true
}

// lowerBound returns a short value that sorts before v or is v.
func lowerBound(v []byte) []byte {
	if len(v) <= maxBound {
		return v
	}
	n := maxBound
	for n > maxBound-utf8.UTFMax && !utf8.RuneStart(v[n]) {
		n--
	}
	return v[:n]
}

// upperBound returns a short value that does not sort before v: a prefix whose
// last character that can be is the next one. Text stays text. Where no
// character can be raised it returns v.
func upperBound(v []byte) []byte {
	if len(v) <= maxBound {
		return v
	}
	prefix := lowerBound(v)
	for end := len(prefix); end > 0; {
		r, size := utf8.DecodeLastRune(prefix[:end])
		end -= size
		bound := append(make([]byte, 0, maxBound+1), prefix[:end]...)
		switch {
		case r == utf8.RuneError && size == 1: // not text: raise the byte
			if b := prefix[end]; b < 0xFF {
				return append(bound, b+1)
			}
		case r == 0xD7FF:
			return utf8.AppendRune(bound, 0xE000)
		case r < utf8.MaxRune:
			return utf8.AppendRune(bound, r+1)
		}
	}
	return v
}
