package event

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// MaxText is the longest text in bytes, but for the payload's, that a column of a table of
// events holds: statistics of columns hold whole values, and no identifier is that long.
const MaxText = 1024

// Envelope is the typed view of an event, made by an Extractor. What is in it
// aliases the event's bytes or the Extractor's, and is valid until the event's
// memory is reused or the next Extract.
type Envelope struct {
	values [NumAttributes][]byte // meaningful where has says so
	has    uint16                // a bit for each attribute

	document  []byte // the whole-JSON value that Payload lies in, or nil
	payloadAt int    // offset of Payload in document
	// at are the offsets of the attributes that members of document give; 0:
	// it is none of those.
	at [NumAttributes]int
}

// Get returns the raw value of an attribute, and whether the event has one. Of
// an event that lies in a JSON document, strings come without their quotes and
// escapes; numbers, booleans and the payload as they are written.
func (v *Envelope) Get(a Attribute) ([]byte, bool) {
	if v.has&(1<<a) == 0 {
		return nil, false
	}
	return v.values[a], true
}

// Text returns an attribute as tables of events hold it, and whether they do: text that
// is not valid UTF-8 or, but for the payload, longer than MaxText is in none of their
// columns.
func (v *Envelope) Text(a Attribute) ([]byte, bool) {
	value, ok := v.Get(a)
	if !ok || a != Payload && len(value) > MaxText || !utf8.Valid(value) {
		return nil, false
	}
	return value, true
}

// Set gives an attribute a value, for envelopes that come from elsewhere than
// an Extractor. The value is not copied.
func (v *Envelope) Set(a Attribute, value []byte) {
	v.values[a] = value
	v.has |= 1 << a
}

// Reset empties the envelope.
func (v *Envelope) Reset() { *v = Envelope{} }

// Splice returns, for an event that lies in a JSON document, what stands in
// the field's value before and after the payload: prefix, payload and suffix
// together are the value, byte for byte.
func (v *Envelope) Splice() (prefix, suffix []byte, ok bool) {
	if v.document == nil {
		return nil, nil, false
	}
	end := v.payloadAt + len(v.values[Payload])
	return v.document[:v.payloadAt:v.payloadAt], v.document[end:], true
}

// Member returns, for an event that lies in a JSON document, where in the
// field's value an attribute is written: value[from:to], with the quotes of a
// string. !ok where no member of the document gives the attribute.
func (v *Envelope) Member(a Attribute) (from, to int, ok bool) {
	if v.document == nil || v.at[a] == 0 {
		return 0, 0, false
	}
	s := jsonScanner{doc: v.document, at: v.at[a]}
	ok = s.value()
	return v.at[a], s.at, ok
}

// AggregateVersion returns the aggregate's version; !ok when the event has none
// or it is not a decimal number that fits.
func (v *Envelope) AggregateVersion() (int64, bool) {
	value, ok := v.Get(Version)
	if !ok {
		return 0, false
	}
	if n, ok := ParseCanonicalInt(value); ok {
		return n, true
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}

// Time returns when the event occurred, in microseconds since 1970 UTC. Where
// occurred-at is absent or ParseTime does not know it, that is the time of the
// event's ID; !ok where it lies beyond the year 9999.
func (v *Envelope) Time(id ID) (micros int64, ok bool) {
	if value, has := v.Get(OccurredAt); has {
		if micros, _, ok := ParseTime(value); ok {
			return micros, true
		}
	}
	if id.Ms > maxMicros/1000 {
		return 0, false
	}
	return int64(id.Ms) * 1000, true
}

// ParseCanonicalInt reads a decimal number that strconv.AppendInt writes in the
// same way: no "+", no leading zeros, no "-0".
func ParseCanonicalInt(b []byte) (int64, bool) {
	digits := b
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		digits = b[1:]
	}
	if len(digits) == 0 || len(digits) > len("9223372036854775808") || digits[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var n uint64 // 19 digits fit
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	switch {
	case !negative && n <= math.MaxInt64:
		return int64(n), true
	case negative && n <= 1<<63:
		return -int64(n), true // two's complement: also right for the lowest
	default:
		return 0, false
	}
}
