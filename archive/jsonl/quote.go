package jsonl

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// plain returns the index of the first byte at or after i that cannot stand for
// itself within a JSON string, or that needs a look at its UTF-8: a control
// character, a quote, a backslash, or a byte outside ASCII. It returns len(s)
// when there is none.
func plain(s []byte, i int) int {
	start := i
	for ; i+8 <= len(s); i += 8 {
		if special := specials(binary.LittleEndian.Uint64(s[i:])); special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	if tail := len(s) - 8; i < len(s) && tail >= start { // looks at some bytes again
		if special := specials(binary.LittleEndian.Uint64(s[tail:])); special != 0 {
			return tail + bits.TrailingZeros64(special)/8
		}
		return len(s)
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
	}
	return i
}

// specials sets the high bit of the first of eight bytes that is special in the
// sense of plain. Higher bytes may be marked wrongly, because of borrows.
func specials(x uint64) uint64 {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	quoteOrControl := (x ^ ones*2) - ones*33 // the XOR puts the quote right after the controls
	backslash := (x ^ ones*'\\') - ones
	return (quoteOrControl | backslash | x) & highs
}

// appendString appends s as a JSON string; false means that it cannot, since s
// is not valid UTF-8, and that the result is to be thrown away.
func appendString(dst, s []byte) ([]byte, bool) {
	n := plain(s, 0)
	dst = append(dst, '"')
	dst = append(dst, s[:n]...)
	if n < len(s) {
		if !utf8.Valid(s[n:]) {
			return dst, false
		}
		dst = appendEscaped(dst, s[n:])
	}
	return append(dst, '"'), true
}

// appendEscaped appends valid UTF-8, escaped as the inside of a JSON string.
func appendEscaped(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i, c := range s {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, s[from:]...)
}

// tagName is the name of the only member of an object that stands for bytes.
const tagName = `"$base64"`

// appendBytes appends s as a JSON string, or tagged in base64.
func appendBytes(dst, s []byte) []byte {
	start := len(dst)
	dst, ok := appendString(dst, s)
	if ok {
		return dst
	}
	dst = append(dst[:start], '{')
	dst = append(dst, tagName...)
	dst = append(dst, ':', '"')
	dst = base64.StdEncoding.AppendEncode(dst, s)
	return append(dst, '"', '}')
}
