package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration written as 300ms, 30s, 1h30m, 7d or 2w; a day is
// always 24 hours.
type Duration time.Duration

// D gives the time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// ParseDuration parses what Duration documents.
func ParseDuration(text string) (Duration, error) {
	const want = "want a number and a unit, as 300ms, 30s, 15m, 12h or 7d"
	if text == "0" {
		return 0, nil
	}
	rest, total := text, time.Duration(0)
	// Days and weeks lead, as the largest units; the rest is Go's own syntax.
	for _, u := range []struct {
		suffix byte
		unit   time.Duration
	}{{'w', week}, {'d', day}} {
		digits := leadingDigits(rest)
		if digits == "" || len(rest) == len(digits) || rest[len(digits)] != u.suffix {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > int64(math.MaxInt64-total)/int64(u.unit) {
			return 0, fmt.Errorf("%q is too long a duration", text)
		}
		total += time.Duration(n) * u.unit
		rest = rest[len(digits)+1:]
	}
	if rest == "" && text != "" {
		return Duration(total), nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || (d < 0 && total > 0) {
		return 0, fmt.Errorf("%q is not a duration: %s", text, want)
	}
	if d > math.MaxInt64-total {
		return 0, fmt.Errorf("%q is too long a duration", text)
	}
	return Duration(total + d), nil
}

func leadingDigits(s string) string {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return s[:n]
}

// String gives text that parses back to the same duration.
func (d Duration) String() string {
	t := time.Duration(d)
	if t == 0 {
		return "0s"
	}
	if t > 0 && t%day == 0 && t != day {
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	s := t.String()
	s = cutZero(s, "m0s")
	return cutZero(s, "h0m")
}

// cutZero drops the zero part of "1h0m" or "5m0s".
func cutZero(s, tail string) string {
	if strings.HasSuffix(s, tail) {
		return s[:len(s)-len(tail)+1]
	}
	return s
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes, written as 512, 64KiB, 128MiB, 2GiB, or in powers
// of ten as 64KB, 128MB, 2GB.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// ParseSize parses what Size documents. Units are matched without regard to
// case.
func ParseSize(text string) (Size, error) {
	digits := leadingDigits(text)
	unit, known := int64(1), len(digits) == len(text)
	for _, u := range sizeUnits {
		if strings.EqualFold(strings.TrimPrefix(text[len(digits):], " "), u.suffix) {
			unit, known = u.bytes, true
		}
	}
	if digits == "" || !known {
		return 0, fmt.Errorf("%q is not a size: want a whole number and a unit, as 512KiB, 64MiB, 2GiB or 100MB", text)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is too large a size", text)
	}
	return Size(n * unit), nil
}

// String gives text that parses back to the same size.
func (s Size) String() string {
	for _, u := range sizeUnits[:4] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
