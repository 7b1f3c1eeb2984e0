package event

import "strconv"

// TimeForm is a way to write a time that is exactly invertible: the text gives
// the microseconds since 1970 UTC, and they give the text back byte for byte.
type TimeForm uint8

// The forms: RFC 3339 with 0 to 9 digits of a second, of which those after the
// sixth are 0, in UTC written as "Z" (TimeZ plus the number of digits) or as
// "+00:00" (TimeOffset plus that number), and whole numbers since 1970.
const (
	NoTimeForm    TimeForm = 0 // not invertible
	TimeZ         TimeForm = 1
	TimeOffset    TimeForm = TimeZ + maxFraction + 1
	TimeUnix      TimeForm = TimeOffset + maxFraction + 1 // seconds
	TimeUnixMilli TimeForm = TimeUnix + 1
	TimeUnixMicro TimeForm = TimeUnix + 2
	numTimeForms  TimeForm = TimeUnix + 3

	maxFraction = 9 // digits
)

// The years 0 to 9999, which RFC 3339 can write, in microseconds.
const (
	minMicros = -62167219200_000000
	maxMicros = 253402300799_999999
)

// String returns the form's name: "rfc3339.3", "rfc3339.6+00:00", "unix_s",
// "unix_ms" or "unix_us".
func (f TimeForm) String() string {
	switch {
	case f == NoTimeForm || f >= numTimeForms:
		return "none"
	case f == TimeUnix:
		return "unix_s"
	case f == TimeUnixMilli:
		return "unix_ms"
	case f == TimeUnixMicro:
		return "unix_us"
	case f >= TimeOffset:
		return "rfc3339." + strconv.Itoa(int(f-TimeOffset)) + "+00:00"
	default:
		return "rfc3339." + strconv.Itoa(int(f-TimeZ))
	}
}

// ParseTimeForm is the inverse of String; NoTimeForm for a name it does not
// know.
func ParseTimeForm(name string) TimeForm {
	for f := TimeZ; f < numTimeForms; f++ {
		if f.String() == name {
			return f
		}
	}
	return NoTimeForm
}

// ParseTime reads a time and returns the microseconds since 1970 UTC; what is
// finer is cut off. form is the one that b is written in, or NoTimeForm when no
// form gives b back. It knows
//
//   - RFC 3339 with 0 to 9 digits of a second and any offset: the strict
//     grammar, upper-case T and Z, no leap seconds;
//   - whole numbers without sign or leading zero, by their length: 9 to 11
//     digits are seconds since 1970, 12 to 14 milliseconds, 15 to 17
//     microseconds, 18 and 19 nanoseconds;
//   - seconds since 1970 (9 to 11 digits) with a fraction of 1 to 9 digits.
//
// Everything else, and a time outside of the years 0 to 9999, is not ok.
func ParseTime(b []byte) (micros int64, form TimeForm, ok bool) {
	if len(b) > 10 && b[10] == 'T' {
		return parseRFC3339(b)
	}
	return parseUnix(b)
}

func parseUnix(b []byte) (micros int64, form TimeForm, ok bool) {
	if len(b) < 9 || b[0] == '0' {
		return 0, NoTimeForm, false
	}
	var n int64
	digits := 0
	for ; digits < len(b) && digits < 19 && b[digits]-'0' <= 9; digits++ {
		n = n*10 + int64(b[digits]-'0') // may wrap at the 19th digit only
	}
	rest := b[digits:]
	switch {
	case digits < 9 || n < 0:
		return 0, NoTimeForm, false
	case len(rest) > 0:
		fraction, length, valid := parseFraction(rest)
		if digits > 11 || !valid || length != len(rest) {
			return 0, NoTimeForm, false
		}
		return n*1e6 + int64(fraction)/1000, NoTimeForm, true
	case digits <= 11:
		return n * 1e6, TimeUnix, true
	case digits <= 14:
		return n * 1e3, TimeUnixMilli, true
	case digits <= 17:
		return n, TimeUnixMicro, true
	default:
		return n / 1e3, NoTimeForm, true
	}
}

func parseRFC3339(b []byte) (micros int64, form TimeForm, ok bool) {
	const noFraction = len("2006-01-02T15:04:05")
	if len(b) <= noFraction || b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' {
		return 0, NoTimeForm, false
	}
	century, ok1 := twoDigits(b[0:])
	year, ok2 := twoDigits(b[2:])
	month, ok3 := twoDigits(b[5:])
	day, ok4 := twoDigits(b[8:])
	hour, ok5 := twoDigits(b[11:])
	minute, ok6 := twoDigits(b[14:])
	second, ok7 := twoDigits(b[17:])
	year += 100 * century
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && ok7) ||
		month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, NoTimeForm, false
	}
	seconds := int64(daysSince1970(year, month, day))*86400 + int64(hour*3600+minute*60+second)

	zone, nanos, digits := b[noFraction:], 0, 0
	if zone[0] == '.' {
		fraction, length, valid := parseFraction(zone)
		if !valid {
			return 0, NoTimeForm, false
		}
		nanos, digits, zone = fraction, length-1, zone[length:]
	}
	micros = seconds*1e6 + int64(nanos)/1000
	switch {
	case len(zone) == 1 && zone[0] == 'Z':
		form = TimeZ + TimeForm(digits)
	case string(zone) == "+00:00":
		form = TimeOffset + TimeForm(digits)
	default:
		offset, valid := parseOffset(zone)
		if micros -= int64(offset) * 1e6; !valid || micros < minMicros || micros > maxMicros {
			return 0, NoTimeForm, false
		}
		return micros, NoTimeForm, true
	}
	if nanos%1000 != 0 {
		form = NoTimeForm
	}
	return micros, form, true
}

// parseFraction reads a dot and 1 to 9 digits that b begins with, as
// nanoseconds.
func parseFraction(b []byte) (nanos, length int, ok bool) {
	if b[0] != '.' {
		return 0, 0, false
	}
	for length = 1; length < len(b) && b[length]-'0' <= 9; length++ {
		if length > maxFraction {
			return 0, 0, false
		}
		nanos = nanos*10 + int(b[length]-'0')
	}
	for range maxFraction + 1 - length {
		nanos *= 10
	}
	return nanos, length, length > 1
}

// parseOffset reads an offset such as "+02:00", in seconds.
func parseOffset(b []byte) (int, bool) {
	if len(b) != 6 || b[0] != '+' && b[0] != '-' || b[3] != ':' {
		return 0, false
	}
	hours, ok1 := twoDigits(b[1:])
	minutes, ok2 := twoDigits(b[4:])
	if !ok1 || !ok2 || hours > 23 || minutes > 59 {
		return 0, false
	}
	offset := hours*3600 + minutes*60
	if b[0] == '-' {
		offset = -offset
	}
	return offset, true
}

func twoDigits(b []byte) (int, bool) {
	tens, ones := b[0]-'0', b[1]-'0'
	return int(tens)*10 + int(ones), tens <= 9 && ones <= 9
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	default:
		return 31
	}
}

// daysSince1970 and date convert between days and dates of the Gregorian
// calendar, in years that begin in March so that the leap day comes last.
func daysSince1970(year, month, day int) int {
	if month < 3 {
		year, month = year-1, month+12
	}
	era, yearOfEra := floorDiv(year, 400)
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

func date(days int) (year, month, day int) {
	era, d := floorDiv(days+719468, 146097)
	yearOfEra := (d - d/1460 + d/36524 - d/146096) / 365
	dayOfYear := d - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	month = (5*dayOfYear + 2) / 153
	day = dayOfYear - (153*month+2)/5 + 1
	year = era*400 + yearOfEra
	if month += 3; month > 12 {
		year, month = year+1, month-12
	}
	return year, month, day
}

func floorDiv[T int | int64](a, b T) (quotient, remainder T) {
	quotient, remainder = a/b, a%b
	if remainder < 0 {
		quotient, remainder = quotient-1, remainder+b
	}
	return quotient, remainder
}

// Append appends the text of a time in this form. micros must be what
// ParseTime returned together with the form; NoTimeForm appends nothing.
func (f TimeForm) Append(b []byte, micros int64) []byte {
	switch {
	case f == NoTimeForm || f >= numTimeForms:
		return b
	case f == TimeUnix:
		return strconv.AppendInt(b, micros/1e6, 10)
	case f == TimeUnixMilli:
		return strconv.AppendInt(b, micros/1e3, 10)
	case f == TimeUnixMicro:
		return strconv.AppendInt(b, micros, 10)
	case f >= TimeOffset:
		return append(appendRFC3339(b, micros, int(f-TimeOffset)), "+00:00"...)
	default:
		return append(appendRFC3339(b, micros, int(f-TimeZ)), 'Z')
	}
}

func appendRFC3339(b []byte, micros int64, digits int) []byte {
	seconds, fraction := floorDiv(micros, 1e6)
	days, second64 := floorDiv(seconds, 86400)
	year, month, day := date(int(days))
	second := int(second64)
	b = appendDigits(b, year, 4)
	b = append(b, '-')
	b = appendDigits(b, month, 2)
	b = append(b, '-')
	b = appendDigits(b, day, 2)
	b = append(b, 'T')
	b = appendDigits(b, second/3600, 2)
	b = append(b, ':')
	b = appendDigits(b, second/60%60, 2)
	b = append(b, ':')
	b = appendDigits(b, second%60, 2)
	if digits > 0 {
		b = append(b, '.')
		b = appendDigits(b, int(fraction)*1000, maxFraction)
		b = b[:len(b)-(maxFraction-digits)]
	}
	return b
}

// appendDigits appends v in decimal with leading zeros.
func appendDigits(b []byte, v, width int) []byte {
	b = append(b, "000000000"[:width]...)
	for i := len(b) - 1; v > 0 && i >= len(b)-width; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return b
}
