package projection

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/segmentio/encoding/json" // as encoding/json, and several times as fast
)

// jsonReader reads a JSON object into a struct, in one pass: what is common. Where a text
// has something else in it, or is not JSON, it gives up, and the library reads the text anew.
type jsonReader struct {
	text  string
	bytes []byte // of the same memory
	err   error  // what is known to be wrong
}

// gaveUp takes the place of where a value ends.
const gaveUp = -1

// maxNested is how deep in what is skipped it goes.
const maxNested = 100

// read reads the whole text into the struct at p.
func (r *jsonReader) read(s *structShape, p unsafe.Pointer) bool {
	return len(r.bytes) > 0 && r.bytes[0] == '{' && r.object(0, s, p) == len(r.bytes)
}

// object reads the object that begins at at, with its brace, and returns where it ends.
func (r *jsonReader) object(at int, s *structShape, p unsafe.Pointer) int {
	at = r.space(at + 1)
	if r.is(at, '}') {
		return at + 1
	}
	for next := 0; ; {
		i := next
		if i < len(s.members) && hasPrefix(r.text, at, s.members[i].key) { // mostly they come in order
			at += len(s.members[i].key)
		} else if i, at = r.key(at, s); at == gaveUp {
			return gaveUp
		}
		if at = r.space(at); i < 0 {
			at = r.skip(at, 0)
		} else {
			at = r.member(at, &s.members[i], p)
			next = i + 1
		}
		if at == gaveUp {
			return gaveUp
		}
		switch at = r.space(at); {
		case r.is(at, '}'):
			return at + 1
		case !r.is(at, ','):
			return gaveUp
		}
		at = r.space(at + 1)
	}
}

func hasPrefix(text string, at int, prefix string) bool {
	return len(text)-at >= len(prefix) && text[at:at+len(prefix)] == prefix
}

func (r *jsonReader) is(at int, c byte) bool { return at < len(r.bytes) && r.bytes[at] == c }

func (r *jsonReader) space(at int) int {
	for at < len(r.bytes) {
		if c := r.bytes[at]; c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			break
		}
		at++
	}
	return at
}

// key reads a name and its colon. It returns which member has that name, or else one that is
// alike but for its case, or else -1; and where it ends.
func (r *jsonReader) key(at int, s *structShape) (member, end int) {
	if !r.is(at, '"') {
		return 0, gaveUp
	}
	from := at + 1
	to, plain, _ := r.string(from)
	if to == gaveUp || !plain {
		return 0, gaveUp
	}
	if at = r.space(to + 1); !r.is(at, ':') {
		return 0, gaveUp
	}
	member, name := -1, r.text[from:to]
	if s.lengths&lengthBit(len(name)) != 0 {
		for i := range s.members {
			switch m := &s.members[i]; {
			case len(m.name) != len(name):
			case m.name == name:
				return i, at + 1
			case strings.EqualFold(m.name, name):
				member = i
			}
		}
	}
	return member, at + 1
}

// string finds the end of the text that begins at at, after its quote: where its other
// quote is. It is plain without escapes and all ASCII, and raw without escapes.
func (r *jsonReader) string(at int) (end int, plain, raw bool) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	b := r.bytes
	plain, raw = true, true
	for {
		for at+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[at:])
			quote, escape := w^('"'*ones), w^('\\'*ones)
			// The lowest bit that is set is that of a byte that is one of these, or < ' ', or not ASCII.
			found := ((quote-ones)&^quote | (escape-ones)&^escape | (w-' '*ones)&^w | w) & highs
			if found != 0 {
				at += bits.TrailingZeros64(found) / 8
				break
			}
			at += 8
		}
		if at >= len(b) {
			return gaveUp, false, false
		}
		switch c := b[at]; {
		case c == '"':
			return at, plain, raw
		case c == '\\':
			if at = r.escape(at); at == gaveUp {
				return gaveUp, false, false
			}
			plain, raw = false, false
		case c < ' ':
			return gaveUp, false, false
		default:
			plain = plain && c < utf8.RuneSelf
			at++
		}
	}
}

// escape returns where an escape ends.
func (r *jsonReader) escape(at int) int {
	if at+1 >= len(r.bytes) {
		return gaveUp
	}
	switch r.bytes[at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return at + 2
	case 'u':
		if at+6 > len(r.bytes) {
			return gaveUp
		}
		for _, c := range r.bytes[at+2 : at+6] {
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return gaveUp
			}
		}
		return at + 6
	}
	return gaveUp
}

// member reads a value into the struct at p.
func (r *jsonReader) member(at int, m *memberShape, p unsafe.Pointer) int {
	p = unsafe.Add(p, m.offset)
	if at >= len(r.bytes) {
		return gaveUp
	}
	if m.kind != otherMember && r.bytes[at] == 'n' {
		return r.literal(at, "null")
	}
	switch m.kind {
	case textMember:
		return r.readText(at, (*string)(p))
	case uintMember:
		return r.readUint(at, m, p)
	case intMember:
		return r.readInt(at, m, p)
	case structMember:
		if r.bytes[at] != '{' {
			return gaveUp
		}
		return r.object(at, m.inner, p)
	case boolMember:
		value := r.bytes[at] == 't'
		end := r.literal(at, strconv.FormatBool(value))
		if end != gaveUp {
			*(*bool)(p) = value
		}
		return end
	case floatMember:
		end := r.number(at)
		if end == gaveUp {
			return gaveUp
		}
		value, err := strconv.ParseFloat(r.text[at:end], 64)
		if err != nil {
			return gaveUp
		}
		*(*float64)(p) = value
		return end
	default:
		end := r.skip(at, 0)
		if end == gaveUp {
			return gaveUp
		}
		return r.library(at, end, reflect.NewAt(m.typ, p).Interface())
	}
}

// library reads a value that lies at [at, end) in the library's way.
func (r *jsonReader) library(at, end int, v any) int {
	rest, err := json.Parse(r.bytes[at:end:end], v, json.DontCopyString|json.DontCopyNumber)
	if err != nil || len(rest) > 0 {
		return gaveUp
	}
	return end
}

func (r *jsonReader) literal(at int, text string) int {
	if !hasPrefix(r.text, at, text) {
		return gaveUp
	}
	return at + len(text)
}

func (r *jsonReader) readText(at int, to *string) int {
	if r.bytes[at] != '"' {
		return gaveUp
	}
	end, plain, raw := r.string(at + 1)
	switch {
	case end == gaveUp:
		return gaveUp
	case plain || raw && utf8.Valid(r.bytes[at+1:end]):
		*to = r.text[at+1 : end]
		return end + 1
	}
	return r.library(at, end+1, to)
}

// digits reads the digits of a whole number, of which up to 18 make the value. It gives up
// where it is not written as one.
func (r *jsonReader) digits(at int) (value uint64, end int) {
	b := r.bytes
	end = at
	for end < len(b) && b[end]-'0' < 10 {
		value = value*10 + uint64(b[end]-'0')
		end++
	}
	switch {
	case end == at, b[at] == '0' && end > at+1:
		return 0, gaveUp
	case end < len(b) && (b[end] == '.' || b[end] == 'e' || b[end] == 'E'):
		return 0, gaveUp
	}
	return value, end
}

// maxDigits fit every number of 64 bits.
const maxDigits = 18

func (r *jsonReader) readUint(at int, m *memberShape, p unsafe.Pointer) int {
	value, end := r.digits(at)
	if end == gaveUp {
		return gaveUp
	}
	if end-at > maxDigits {
		var err error
		if value, err = strconv.ParseUint(r.text[at:end], 10, 64); err != nil {
			return r.tooLarge(at, end, m)
		}
	}
	if m.bits < 64 && value >= 1<<m.bits {
		return r.tooLarge(at, end, m)
	}
	switch m.bits {
	case 8:
		*(*uint8)(p) = uint8(value)
	case 16:
		*(*uint16)(p) = uint16(value)
	case 32:
		*(*uint32)(p) = uint32(value)
	default:
		*(*uint64)(p) = value
	}
	return end
}

func (r *jsonReader) readInt(at int, m *memberShape, p unsafe.Pointer) int {
	first := at
	if r.bytes[at] == '-' {
		first++
	}
	positive, end := r.digits(first)
	if end == gaveUp {
		return gaveUp
	}
	value := int64(positive)
	if first > at {
		value = -value
	}
	if end-first > maxDigits {
		var err error
		if value, err = strconv.ParseInt(r.text[at:end], 10, 64); err != nil {
			return r.tooLarge(at, end, m)
		}
	}
	if low := int64(-1) << (m.bits - 1); value < low || value > ^low {
		return r.tooLarge(at, end, m)
	}
	switch m.bits {
	case 8:
		*(*int8)(p) = int8(value)
	case 16:
		*(*int16)(p) = int16(value)
	case 32:
		*(*int32)(p) = int32(value)
	default:
		*(*int64)(p) = value
	}
	return end
}

// tooLarge notes that a number does not fit.
func (r *jsonReader) tooLarge(at, end int, m *memberShape) int {
	r.err = fmt.Errorf("number %.60s of %q does not fit %s", r.text[at:end], m.name, m.typ)
	return gaveUp
}

// skip finds the end of a value that nobody wants.
func (r *jsonReader) skip(at, depth int) int {
	if at >= len(r.bytes) || depth > maxNested {
		return gaveUp
	}
	switch r.bytes[at] {
	case '"':
		end, _, _ := r.string(at + 1)
		if end == gaveUp {
			return gaveUp
		}
		return end + 1
	case '{':
		return r.skipAll(at, depth, '}')
	case '[':
		return r.skipAll(at, depth, ']')
	case 't':
		return r.literal(at, "true")
	case 'f':
		return r.literal(at, "false")
	case 'n':
		return r.literal(at, "null")
	}
	return r.number(at)
}

// skipAll skips an object or an array.
func (r *jsonReader) skipAll(at, depth int, last byte) int {
	at = r.space(at + 1)
	if r.is(at, last) {
		return at + 1
	}
	for {
		if last == '}' {
			if !r.is(at, '"') {
				return gaveUp
			}
			end, _, _ := r.string(at + 1)
			if end == gaveUp {
				return gaveUp
			}
			if at = r.space(end + 1); !r.is(at, ':') {
				return gaveUp
			}
			at = r.space(at + 1)
		}
		if at = r.skip(at, depth+1); at == gaveUp {
			return gaveUp
		}
		switch at = r.space(at); {
		case r.is(at, last):
			return at + 1
		case !r.is(at, ','):
			return gaveUp
		}
		at = r.space(at + 1)
	}
}

// number finds the end of a number.
func (r *jsonReader) number(at int) int {
	b := r.bytes
	if r.is(at, '-') {
		at++
	}
	some := func() bool {
		from := at
		for at < len(b) && b[at]-'0' < 10 {
			at++
		}
		return at > from
	}
	first := at
	if !some() || b[first] == '0' && at > first+1 {
		return gaveUp
	}
	if r.is(at, '.') {
		if at++; !some() {
			return gaveUp
		}
	}
	if r.is(at, 'e') || r.is(at, 'E') {
		if at++; r.is(at, '+') || r.is(at, '-') {
			at++
		}
		if !some() {
			return gaveUp
		}
	}
	return at
}
