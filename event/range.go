package event

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Range is a run of IDs. Both ends belong to it, as in XRANGE. A zero end is
// open (0-0 is never the ID of an entry), so the zero Range holds every ID.
type Range struct {
	From ID `json:"from,omitzero"`
	To   ID `json:"to,omitzero"`
}

// RangeOf returns the Range of the IDs from the millisecond of from up to and
// with that of to. A zero time leaves its end open; times before 1970 and after
// the highest millisecond are taken as these.
func RangeOf(from, to time.Time) Range {
	var r Range
	if !from.IsZero() {
		r.From = ID{Ms: millisecond(from)}
	}
	if !to.IsZero() {
		r.To = ID{millisecond(to), math.MaxUint64}
	}
	return r
}

func millisecond(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

// end returns the last ID of the range, which is the highest one if it is open.
func (r Range) end() ID {
	if r.To.IsZero() {
		return MaxID
	}
	return r.To
}

// Contains reports whether id is in the range.
func (r Range) Contains(id ID) bool { return !id.Less(r.From) && !r.end().Less(id) }

// Overlaps reports whether an ID from first up to and with last is in the range.
func (r Range) Overlaps(first, last ID) bool {
	return !last.Less(r.From) && !r.end().Less(first) && !last.Less(first) && !r.IsEmpty()
}

// IsEmpty reports whether the range holds no ID at all: it ends before it begins.
func (r Range) IsEmpty() bool { return r.end().Less(r.From) }

// Intersect returns the IDs that are in both ranges.
func (r Range) Intersect(other Range) Range {
	if r.From.Less(other.From) {
		r.From = other.From
	}
	if other.end().Less(r.end()) {
		r.To = other.To
	}
	return r
}

// String returns both ends with ".." between them; an open end is empty.
func (r Range) String() string {
	text := func(id ID) string {
		if id.IsZero() {
			return ""
		}
		return id.String()
	}
	return text(r.From) + ".." + text(r.To)
}

// ErrInvalidBound is wrapped for a text that does not bound a range.
var ErrInvalidBound = errors.New("invalid bound")

// ParseRange reads both ends of a range as ParseBound does: it begins with the
// first ID that from names and ends with the last one that to names. A range
// that ends before it begins is an error.
func ParseRange(from, to string, now time.Time) (Range, error) {
	first, err := ParseBound(from, now)
	if err != nil {
		return Range{}, fmt.Errorf("from: %w", err)
	}
	last, err := ParseBound(to, now)
	if err != nil {
		return Range{}, fmt.Errorf("to: %w", err)
	}
	if to != "" && last.To.IsZero() {
		return Range{}, fmt.Errorf("to: %w %q: no entry has an ID up to it; leave it empty for an open end", ErrInvalidBound, to)
	}
	r := Range{From: first.From, To: last.To}
	if r.IsEmpty() {
		return Range{}, fmt.Errorf("%w: %q (%s) lies after %q (%s)", ErrInvalidBound, from, r.From, to, r.To)
	}
	return r, nil
}

// ParseBound reads a text that names a run of IDs, and returns that. As the
// start of a range its From counts, as the end its To: everything that a bound
// names is within the range, at both ends. now is the present.
//
//	""                      everything: an open end
//	"1700000000000-3"       one ID
//	"1700000000000"         a millisecond since 1970, with all its IDs (as in XRANGE)
//	"2026-11-21T07:30:00Z"  RFC 3339, any offset: its millisecond; what is finer is cut off
//	"2026-11-21"            that day, in UTC
//	"2h ago", "1d12h ago"   the millisecond that long ago, in w, d, h, m, s and ms
//	"now"                   the present millisecond
//
// An error wraps ErrInvalidBound.
func ParseBound(s string, now time.Time) (Range, error) {
	text := strings.TrimSpace(s)
	lower := strings.ToLower(text)
	age, isAge := strings.CutSuffix(lower, "ago")
	switch {
	case text == "":
		return Range{}, nil
	case lower == "now":
		return instant(s, now)
	case isAge:
		d, err := parseAge(age)
		if err != nil {
			return Range{}, boundError(s, "want an age such as \"90m ago\", \"2h ago\" or \"7d ago\"")
		}
		return instant(s, now.Add(-d))
	case len(text) == len(time.DateOnly) && text[4] == '-' && text[7] == '-':
		return parseDay(s, text)
	case len(text) > 10 && text[10] == 'T':
		micros, _, ok := ParseTime([]byte(text))
		if !ok {
			return Range{}, boundError(s, "want RFC 3339 with an offset, such as \"2026-11-21T07:30:00Z\"")
		}
		return instant(s, time.UnixMicro(micros))
	default:
		return parseIDs(s, text)
	}
}

func boundError(s, want string) error { return fmt.Errorf("%w %q: %s", ErrInvalidBound, s, want) }

func instant(s string, t time.Time) (Range, error) {
	ms := t.UnixMilli()
	if ms < 0 {
		return Range{}, boundError(s, "that is before 1970, where IDs begin; leave it empty for an open end")
	}
	return Range{ID{Ms: uint64(ms)}, ID{uint64(ms), math.MaxUint64}}, nil
}

func parseDay(s, text string) (Range, error) {
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return Range{}, boundError(s, "want a date such as \"2026-11-21\"")
	}
	r, err := instant(s, day)
	if err != nil {
		return Range{}, err
	}
	r.To.Ms += 24*60*60*1000 - 1
	return r, nil
}

func parseIDs(s, text string) (Range, error) {
	id, err := ParseID(text)
	switch {
	case err != nil:
		return Range{}, boundError(s, "want an ID (\"1700000000000-0\"), RFC 3339 (\"2026-11-21T07:30:00Z\"), "+
			"a date (\"2026-11-21\"), an age (\"2h ago\"), \"now\", or nothing for an open end")
	case strings.Contains(text, "-"):
		return Range{id, id}, nil
	case len(text) == len("1700000000"):
		return Range{}, boundError(s, fmt.Sprintf("that looks like seconds, and IDs are milliseconds: "+
			"want %q, or %q if it is meant as it is", text+"000", text+"-0"))
	default:
		return Range{id, ID{id.Ms, math.MaxUint64}}, nil
	}
}

var errAge = errors.New("invalid age")

// parseAge reads a duration that may begin with weeks and days, as whole
// numbers.
func parseAge(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	var total time.Duration
	for _, unit := range []struct {
		name   string
		length time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		digits, rest, found := strings.Cut(s, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n > uint64((math.MaxInt64-total)/unit.length) {
			return 0, errAge
		}
		total += time.Duration(n) * unit.length
		if s = strings.TrimSpace(rest); s == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || total > math.MaxInt64-d {
		return 0, errAge
	}
	return total + d, nil
}
