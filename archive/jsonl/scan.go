package jsonl

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const (
	// maxReadDepth is how deep values may be nested that a Reader accepts.
	maxReadDepth = 1024
	// maxSpliceDepth is how deep a value may be nested that a Writer splices
	// into a line: JSON readers have limits of their own.
	maxSpliceDepth = 128
	// maxSpliceNumber bounds the digits of a number's parts, for readers that
	// refuse what a float64 cannot hold.
	maxSpliceNumber, maxSpliceExponent = 64, 2
)

// traits are what scan notices about a valid JSON text.
type traits uint8

const (
	// nonASCII: it needs a check of its UTF-8.
	nonASCII traits = 1 << iota
	// lineBreak: a carriage return or a line feed between tokens.
	lineBreak
	// unportable: an escape of half a surrogate pair, or a number that is out
	// of proportion; valid by the grammar, but some readers refuse it.
	unportable
)

// scan checks the JSON value that begins at s[i], without white space before it,
// against RFC 8259, but for its UTF-8. It returns the index after the value; or
// the index and the description of the first fault.
func scan(s []byte, i, maxDepth int) (end int, seen traits, fault string) {
	var objects [maxReadDepth / 64]uint64 // one bit for each level: is it an object?
	depth := 0
	for {
		// A value begins at i.
		if i >= len(s) {
			return i, seen, "unexpected end of the line"
		}
		opened := false
		switch c := s[i]; c {
		case '"':
			i, seen, fault = scanString(s, i, seen)
		case '{', '[':
			if depth == maxDepth {
				return i, seen, "nested too deep"
			}
			bit := uint64(1) << (depth & 63)
			objects[depth>>6] &^= bit
			if c == '{' {
				objects[depth>>6] |= bit
			}
			depth++
			if i, seen = scanSpace(s, i+1, seen); i < len(s) && s[i] == c+2 {
				i++
				depth--
				break
			}
			opened = true
		case 't':
			i, fault = scanWord(s, i, "true")
		case 'f':
			i, fault = scanWord(s, i, "false")
		case 'n':
			i, fault = scanWord(s, i, "null")
		default:
			i, seen, fault = scanNumber(s, i, seen)
		}
		if fault != "" {
			return i, seen, fault
		}
		for !opened {
			// A value has ended before i.
			if depth == 0 {
				return i, seen, ""
			}
			closing, want := byte(']'), "expected ',' or ']'"
			object := objects[(depth-1)>>6]>>((depth-1)&63)&1 != 0
			if object {
				closing, want = '}', "expected ',' or '}'"
			}
			if i < len(s) && s[i] <= ' ' {
				i, seen = scanSpace(s, i, seen)
			}
			switch {
			case i >= len(s):
				return i, seen, "unexpected end of the line"
			case s[i] == closing:
				i++
				depth--
				continue
			case s[i] != ',':
				return i, seen, want
			}
			i, seen = scanSpace(s, i+1, seen)
			break
		}
		if objects[(depth-1)>>6]>>((depth-1)&63)&1 == 0 {
			continue
		}
		// A member begins at i.
		if i >= len(s) || s[i] != '"' {
			return i, seen, "expected a member name in quotes"
		}
		if i, seen, fault = scanString(s, i, seen); fault != "" {
			return i, seen, fault
		}
		if i, seen = scanSpace(s, i, seen); i >= len(s) || s[i] != ':' {
			return i, seen, "expected ':' after the member name"
		}
		i, seen = scanSpace(s, i+1, seen)
	}
}

// scanSpace skips white space.
func scanSpace(s []byte, i int, seen traits) (int, traits) {
	for ; i < len(s) && s[i] <= ' '; i++ {
		switch s[i] {
		case ' ', '\t':
		case '\n', '\r':
			seen |= lineBreak
		default:
			return i, seen
		}
	}
	return i, seen
}

func scanWord(s []byte, i int, word string) (end int, fault string) {
	if len(s)-i < len(word) || string(s[i:i+len(word)]) != word {
		return i, "expected a JSON value"
	}
	return i + len(word), ""
}

// scanString checks the string whose opening quote is s[i].
func scanString(s []byte, i int, seen traits) (int, traits, string) {
	i++
	if i+8 <= len(s) { // most are short
		if special := specials(binary.LittleEndian.Uint64(s[i:])); special != 0 {
			i += bits.TrailingZeros64(special) / 8
			if s[i] == '"' {
				return i + 1, seen, ""
			}
		}
	}
	for {
		if i = plain(s, i); i == len(s) {
			return i, seen, "unterminated string"
		}
		switch c := s[i]; {
		case c == '"':
			return i + 1, seen, ""
		case c >= utf8.RuneSelf:
			seen |= nonASCII
			for i++; i < len(s) && s[i] >= utf8.RuneSelf; i++ {
			}
		case c != '\\':
			return i, seen, "control character in a string"
		default:
			r, n := unescape(s[i:])
			if n == 0 {
				return i, seen, "unknown escape in a string"
			}
			if r < 0 {
				seen |= unportable
			}
			i += n
		}
	}
}

// unescape decodes the escape that s begins with, a surrogate pair as one. It
// returns its length, 0 if it is none; and -1 for half a surrogate pair, which
// is valid JSON but stands for no character.
func unescape(s []byte) (r rune, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
	default:
		return 0, 0
	}
	r, ok := hex4(s)
	switch {
	case !ok:
		return 0, 0
	case r < 0xD800 || r > 0xDFFF:
		return r, 6
	case r < 0xDC00:
		if low, ok := hex4(s[6:]); ok && low >= 0xDC00 && low <= 0xDFFF {
			return (r-0xD800)<<10 | (low - 0xDC00) + 0x10000, 12
		}
	}
	return -1, 6
}

// hex4 reads the code unit of a \uXXXX that s may begin with.
func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, c := range s[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// scanNumber checks the number that begins at s[i].
func scanNumber(s []byte, i int, seen traits) (int, traits, string) {
	start := i
	if s[i] == '-' {
		i++
	}
	whole := i
	i = scanDigits(s, i)
	switch {
	case i == whole && whole == start:
		return start, seen, "expected a JSON value"
	case i == whole:
		return i, seen, "expected a digit"
	case s[whole] == '0' && i > whole+1:
		return whole, seen, "a number with a leading zero"
	}
	if i < len(s) && s[i] == '.' {
		fraction := i + 1
		if i = scanDigits(s, fraction); i == fraction {
			return i, seen, "expected a digit"
		}
	}
	if i-start > maxSpliceNumber {
		seen |= unportable
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		exponent := i
		if i = scanDigits(s, exponent); i == exponent {
			return i, seen, "expected a digit"
		}
		if i-exponent > maxSpliceExponent {
			seen |= unportable
		}
	}
	return i, seen, ""
}

func scanDigits(s []byte, i int) int {
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return i
}
