package jsonl

import (
	"encoding/base64"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/event"
)

// A SyntaxError says what is wrong with a line.
type SyntaxError struct {
	Line   int64 // from 1; 0 when a line was parsed on its own
	Column int   // in bytes, from 1
	Reason string
}

// Error implements error.
func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("byte %d: %s", e.Column, e.Reason)
	}
	return fmt.Sprintf("line %d, byte %d: %s", e.Line, e.Column, e.Reason)
}

// ParseLine adds the event that a line stands for to the batch. It takes what
// AppendLine makes, and what people write: any white space, order and escapes,
// further members, which it ignores, and numbers, true, false and null as
// values, which stand for their text. Without an "id" the event's ID is zero.
//
// An object without a member "fields" that is an object or array is an event as
// it is: each of its members is a field, also one named "id".
//
// It returns a *SyntaxError for anything else, and leaves the batch as it was.
func ParseLine(line []byte, b *event.Batch) error {
	start := len(b.Buf)
	if start+len(line) > math.MaxUint32 {
		return fmt.Errorf("parse line: the batch would exceed %d bytes", uint32(math.MaxUint32))
	}
	b.Buf = append(b.Buf, line...)
	var p parser
	if err := p.parse(b, start, len(b.Buf)); err != nil {
		b.Buf = b.Buf[:start]
		return err
	}
	return nil
}

// parser parses lines in place: fields point into the text, and what is escaped
// there is unescaped where it stands.
type parser struct {
	s      []byte // the batch's buffer up to the end of the line
	from   int    // the line's beginning
	i      int
	fields []span // those in the member "fields"
	top    []span // all other members
	tmp    []byte
}

// span is where a name and a value lie.
type span struct{ name, nameLen, value, valueLen int }

// parse adds the event on the line b.Buf[from:to].
func (p *parser) parse(b *event.Batch, from, to int) error {
	p.s, p.from, p.i = b.Buf[:to], from, from
	p.fields, p.top = p.fields[:0], p.top[:0]
	id, wrapped, err := p.line()
	if err != nil {
		return err
	}
	spans := p.top
	if wrapped {
		spans = p.fields
	}
	b.Begin(id)
	for _, s := range spans {
		b.AddSpan(s.name, s.nameLen, s.value, s.valueLen)
	}
	p.trim()
	return nil
}

// trim gives back memory that only an enormous event needed.
func (p *parser) trim() {
	if cap(p.fields) > 4096 {
		p.fields = nil
	}
	if cap(p.top) > 4096 {
		p.top = nil
	}
	if cap(p.tmp) > DefaultFrameBytes {
		p.tmp = nil
	}
}

func (p *parser) fail(at int, reason string) error {
	return &SyntaxError{Column: at - p.from + 1, Reason: reason}
}

// line parses the object that a line is. wrapped says that the event's fields
// are in p.fields, not in p.top.
func (p *parser) line() (id event.ID, wrapped bool, err error) {
	if line := p.s[p.from:]; !utf8.Valid(line) {
		return id, false, p.fail(p.from+validPrefix(line), "not valid UTF-8")
	}
	if p.peek() != '{' {
		return id, false, p.fail(p.i, "expected an event, which is a JSON object")
	}
	idAt, ids := 0, 0
	for first := true; ; first = false {
		more, err := p.next(first, '}')
		if err != nil {
			return id, false, err
		}
		if !more {
			break
		}
		at := p.i
		s, err := p.name()
		if err != nil {
			return id, false, err
		}
		name := p.s[s.name : s.name+s.nameLen]
		c := p.peek()
		if string(name) == "fields" && (c == '{' || c == '[') {
			if wrapped {
				return id, false, p.fail(at, `a second "fields"`)
			}
			wrapped = true
			if err := p.wrapped(c); err != nil {
				return id, false, err
			}
			continue
		}
		if string(name) == "id" && c != 'n' {
			idAt = len(p.top)
			ids++
		}
		if s.value, s.valueLen, err = p.value(); err != nil {
			return id, false, err
		}
		p.top = append(p.top, s)
	}
	if p.peek(); p.i < len(p.s) {
		return id, false, p.fail(p.i, "something follows the event")
	}
	switch {
	case !wrapped || ids == 0:
		return id, wrapped, nil
	case ids > 1:
		return id, false, p.fail(p.from, `a second "id"`)
	}
	at := p.top[idAt]
	if id, err = parseID(p.s[at.value : at.value+at.valueLen]); err != nil {
		return id, false, p.fail(at.value, err.Error())
	}
	return id, wrapped, nil
}

// wrapped parses the member "fields", in either form.
func (p *parser) wrapped(opening byte) error {
	for first := true; ; first = false {
		more, err := p.next(first, opening+2)
		if err != nil || !more {
			return err
		}
		var s span
		if opening == '[' {
			s, err = p.pair()
		} else if s, err = p.name(); err == nil {
			s.value, s.valueLen, err = p.value()
		}
		if err != nil {
			return err
		}
		p.fields = append(p.fields, s)
	}
}

// pair parses ["name","value"].
func (p *parser) pair() (s span, err error) {
	const want = `expected a field, which is an array ["name", "value"]`
	if p.peek() != '[' {
		return s, p.fail(p.i, want)
	}
	if more, err := p.next(true, ']'); err != nil || !more {
		return s, p.orFail(err, want)
	}
	at, c := p.i, p.peek()
	if s.name, s.nameLen, err = p.value(); err != nil {
		return s, err
	}
	if c != '"' && (c != '{' || s.name == at) {
		return s, p.fail(at, `expected a name, which is a string or {"$base64": "…"}`)
	}
	if more, err := p.next(false, ']'); err != nil || !more {
		return s, p.orFail(err, want)
	}
	if s.value, s.valueLen, err = p.value(); err != nil {
		return s, err
	}
	if more, err := p.next(false, ']'); err != nil || more {
		return s, p.orFail(err, want)
	}
	return s, nil
}

func (p *parser) orFail(err error, reason string) error {
	if err != nil {
		return err
	}
	return p.fail(p.i, reason)
}

// peek skips white space and returns the byte that follows, 0 at the end.
func (p *parser) peek() byte {
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// next goes on to the next element of an object or array: past its opening
// bracket for the first one, else past a comma. It reports false past the
// closing bracket.
func (p *parser) next(first bool, closing byte) (bool, error) {
	if first {
		p.i++ // the bracket, which the caller has seen
	}
	switch c := p.peek(); {
	case c == closing && p.i < len(p.s):
		p.i++
		return false, nil
	case first && p.i < len(p.s):
		return true, nil
	case c == ',':
		p.i++
		if p.peek(); p.i < len(p.s) {
			return true, nil
		}
	}
	if p.i >= len(p.s) {
		return false, p.fail(p.i, "unexpected end of the line")
	}
	return false, p.fail(p.i, "expected ',' or '"+string(closing)+"'")
}

// name parses a member's name and the colon.
func (p *parser) name() (s span, err error) {
	if p.peek() != '"' {
		return s, p.fail(p.i, "expected a member name in quotes")
	}
	if s.name, s.nameLen, err = p.text(); err != nil {
		return s, err
	}
	if p.peek() != ':' {
		return s, p.fail(p.i, "expected ':' after the member name")
	}
	p.i++
	return s, nil
}

// value parses a value and returns where the bytes lie that it stands for.
func (p *parser) value() (at, n int, err error) {
	c := p.peek()
	if c == '"' {
		return p.text()
	}
	at = p.i
	end, _, fault := scan(p.s, at, maxReadDepth)
	if fault != "" {
		return at, 0, p.fail(end, fault)
	}
	p.i = end
	if c == '{' && tagLike(p.s[at:end]) {
		if text := p.tagged(at, end); text > 0 {
			return p.base64(text, end)
		}
	}
	return at, end - at, nil
}

// text parses a string, and unescapes it in place.
func (p *parser) text() (at, n int, err error) {
	at = p.i + 1
	i := at
	for {
		if i = plain(p.s, i); i >= len(p.s) {
			return at, 0, p.fail(i, "unterminated string")
		}
		switch c := p.s[i]; {
		case c == '"':
			p.i = i + 1
			return at, i - at, nil
		case c >= utf8.RuneSelf:
			i++
		case c == '\\':
			return p.escaped(at, i)
		default:
			return at, 0, p.fail(i, "control character in a string")
		}
	}
}

// escaped goes on with a string at its first escape.
func (p *parser) escaped(at, i int) (int, int, error) {
	out := p.s[:i] // never overtakes i: an escape is longer than what it stands for
	for {
		from := i
		for i = plain(p.s, i); i < len(p.s) && p.s[i] >= utf8.RuneSelf; i = plain(p.s, i) {
			i++
		}
		out = append(out, p.s[from:i]...)
		if i >= len(p.s) {
			return at, 0, p.fail(i, "unterminated string")
		}
		switch p.s[i] {
		case '"':
			p.i = i + 1
			return at, len(out) - at, nil
		case '\\':
		default:
			return at, 0, p.fail(i, "control character in a string")
		}
		r, n := unescape(p.s[i:])
		switch {
		case n == 0:
			return at, 0, p.fail(i, "unknown escape in a string")
		case r < 0:
			return at, 0, p.fail(i, "half a surrogate pair, which stands for no character")
		}
		out = utf8.AppendRune(out, r)
		i += n
	}
}

// tagged returns where the string begins in a valid object if it is
// {"$base64": "…"}, and 0 if it is another one.
func (p *parser) tagged(at, end int) int {
	s := p.s[:end]
	i, _ := scanSpace(s, at+1, 0)
	if len(s)-i < len(tagName) || string(s[i:i+len(tagName)]) != tagName {
		return 0
	}
	i, _ = scanSpace(s, i+len(tagName), 0)
	text, _ := scanSpace(s, i+1, 0) // past the colon
	if s[text] != '"' {
		return 0
	}
	i, _, _ = scanString(s, text, 0)
	if i, _ = scanSpace(s, i, 0); i != end-1 {
		return 0 // there is another member
	}
	return text
}

// base64 decodes the string at text in place; the value ends at end.
func (p *parser) base64(text, end int) (int, int, error) {
	p.i = text
	at, n, err := p.text()
	if err != nil {
		return at, 0, err
	}
	p.i = end
	p.tmp, err = base64.StdEncoding.Strict().AppendDecode(p.tmp[:0], p.s[at:at+n])
	if err != nil {
		return at, 0, p.fail(at, `"$base64" does not hold standard base64 with padding`)
	}
	return at, copy(p.s[at:], p.tmp), nil
}

// parseID is event.ParseID without allocating.
func parseID(s []byte) (event.ID, error) {
	var parts [2]uint64
	part, digits := 0, 0
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9' && digits < 19: // what surely fits
			parts[part] = parts[part]*10 + uint64(c-'0')
			digits++
		case c == '-' && part == 0 && digits > 0:
			part, digits = 1, 0
		default:
			return event.ParseID(string(s)) //nolint:wrapcheck // the caller says where
		}
	}
	if digits == 0 {
		return event.ParseID(string(s)) //nolint:wrapcheck // the caller says where
	}
	return event.ID{Ms: parts[0], Seq: parts[1]}, nil
}

// validPrefix returns the length of the valid UTF-8 that s begins with.
func validPrefix(s []byte) int {
	i := 0
	for i < len(s) {
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i
}
