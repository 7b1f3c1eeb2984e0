package event

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deeply JSON may be nested, as in encoding/json.
const maxDepth = 10000

// jsonScanner walks over the members of a JSON object and accepts exactly what
// encoding/json does. It copies nothing.
type jsonScanner struct {
	doc []byte
	at  int

	// Of the last member: its key with quotes, whether that has escapes, and
	// the offsets of its value.
	key        []byte
	keyEscaped bool
	from, to   int

	// complete is set when member returns false at the proper end of the
	// document; else the document is invalid.
	complete bool
}

// member reads the next member; false at the end and in an invalid document.
func (s *jsonScanner) member() bool {
	s.space()
	switch {
	case s.key == nil && s.from == 0: // the beginning
		if !s.take('{') {
			return false
		}
		s.space()
		if s.take('}') {
			return s.end()
		}
	case s.take('}'):
		return s.end()
	case s.take(','):
		s.space()
	default:
		return false
	}
	start := s.at
	var ok bool
	if s.keyEscaped, ok = s.str(); !ok {
		return false
	}
	s.key = s.doc[start:s.at]
	s.space()
	if !s.take(':') {
		return false
	}
	s.space()
	s.from = s.at
	ok = s.value()
	s.to = s.at
	return ok
}

// end looks at what follows the object and returns false.
func (s *jsonScanner) end() bool {
	s.space()
	s.complete = s.at == len(s.doc)
	return false
}

func (s *jsonScanner) take(c byte) bool {
	if s.at < len(s.doc) && s.doc[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *jsonScanner) space() {
	for s.at < len(s.doc) {
		switch s.doc[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// value skips one value. It keeps what is open in a bit set instead of calling
// itself, so that hostile nesting costs no stack.
func (s *jsonScanner) value() bool {
	var open nesting
	for {
		s.space()
		if s.at == len(s.doc) {
			return false
		}
		switch c := s.doc[s.at]; c {
		case '{', '[':
			s.at++
			if !open.push(c == '{') {
				return false
			}
			s.space()
			if !s.take(c + 2) { // the closing one
				if c == '{' && !s.memberKey() {
					return false
				}
				continue
			}
			open.pop()
		case '"':
			if _, ok := s.str(); !ok {
				return false
			}
		default:
			if !s.scalar(c) {
				return false
			}
		}
		for more := false; !more; { // after a value: close what ends here
			if open.depth == 0 {
				return true
			}
			s.space()
			object := open.object()
			switch {
			case s.take(','):
				if object {
					s.space()
					if !s.memberKey() {
						return false
					}
				}
				more = true
			case object && s.take('}') || !object && s.take(']'):
				open.pop()
			default:
				return false
			}
		}
	}
}

// memberKey skips a key and its colon.
func (s *jsonScanner) memberKey() bool {
	if _, ok := s.str(); !ok {
		return false
	}
	s.space()
	return s.take(':')
}

// str skips a string and reports whether it has escapes and is valid.
func (s *jsonScanner) str() (escaped, ok bool) {
	if !s.take('"') {
		return false, false
	}
	for s.at < len(s.doc) {
		c := s.doc[s.at]
		s.at++
		switch {
		case c == '"':
			return escaped, true
		case c < ' ':
			return escaped, false
		case c == '\\':
			escaped = true
			if !s.escape() {
				return escaped, false
			}
		}
	}
	return escaped, false
}

func (s *jsonScanner) escape() bool {
	if s.at == len(s.doc) {
		return false
	}
	c := s.doc[s.at]
	s.at++
	if c != 'u' {
		return bytes.IndexByte([]byte(`"\/bfnrt`), c) >= 0
	}
	if len(s.doc)-s.at < 4 {
		return false
	}
	_, ok := hex4(s.doc[s.at:])
	s.at += 4
	return ok
}

// scalar skips a number, true, false or null that begins with c.
func (s *jsonScanner) scalar(c byte) bool {
	switch c {
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *jsonScanner) literal(text string) bool {
	if len(s.doc)-s.at < len(text) || string(s.doc[s.at:s.at+len(text)]) != text {
		return false
	}
	s.at += len(text)
	return true
}

func (s *jsonScanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

// digits skips at least one digit.
func (s *jsonScanner) digits() bool {
	start := s.at
	for s.at < len(s.doc) && s.doc[s.at]-'0' <= 9 {
		s.at++
	}
	return s.at > start
}

// nesting is a stack of what is open: a bit for each level, set for objects.
type nesting struct {
	depth int
	low   uint64   // the first 64 levels
	high  []uint64 // the rest, hardly ever needed
}

func (n *nesting) word(level int) *uint64 {
	if level < 64 {
		return &n.low
	}
	if level/64 > len(n.high) {
		n.high = append(n.high, 0)
	}
	return &n.high[level/64-1]
}

// push opens a level; false when that is too deep. The object that the scanner
// itself walks over is a level too.
func (n *nesting) push(object bool) bool {
	if n.depth+1 >= maxDepth {
		return false
	}
	bit := uint64(1) << (n.depth % 64)
	if w := n.word(n.depth); object {
		*w |= bit
	} else {
		*w &^= bit
	}
	n.depth++
	return true
}

func (n *nesting) pop() { n.depth-- }

func (n *nesting) object() bool {
	return *n.word(n.depth - 1)>>((n.depth-1)%64)&1 != 0
}

// unquote returns the text of a valid JSON string, as encoding/json decodes it,
// but that bytes which are not UTF-8 stay as they are. Without escapes it is a
// part of quoted, else it is appended to buf, which is returned grown.
func unquote(quoted, buf []byte) (text, grown []byte) {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner[:len(inner):len(inner)], buf
	}
	start := len(buf)
	for {
		i := bytes.IndexByte(inner, '\\')
		if i < 0 {
			break
		}
		buf = append(buf, inner[:i]...)
		c := inner[i+1]
		inner = inner[i+2:]
		if c == 'u' {
			var r rune
			r, inner = unescapeRune(inner)
			buf = utf8.AppendRune(buf, r)
			continue
		}
		if at := bytes.IndexByte([]byte("bfnrt"), c); at >= 0 {
			c = "\b\f\n\r\t"[at]
		}
		buf = append(buf, c)
	}
	buf = append(buf, inner...)
	return buf[start:len(buf):len(buf)], buf
}

// unescapeRune reads what follows `\u`: one code unit, or a surrogate pair. A
// surrogate alone is U+FFFD.
func unescapeRune(b []byte) (r rune, rest []byte) {
	r, _ = hex4(b)
	rest = b[4:]
	if !utf16.IsSurrogate(r) {
		return r, rest
	}
	if len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
		low, _ := hex4(rest[2:])
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, rest[6:]
		}
	}
	return utf8.RuneError, rest
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (rune, bool) {
	var r rune
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
