package upcast

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// What follows edits the text of valid JSON in place: what an edit does not name
// is copied byte for byte, with its spaces, the order of members and the digits
// of numbers.

// member is one member of an object: offsets of its key and its value.
type member struct {
	key, keyEnd int
	from, to    int
}

// walker steps over the members of an object, or the elements of a list.
type walker struct {
	doc    []byte
	at     int // before the next one, or at the end of the object or list
	object bool
	member
}

// walk begins at the object or list that starts at offset at.
func walk(doc []byte, at int) walker {
	return walker{doc: doc, at: at + 1, object: doc[at] == '{'}
}

// next goes to the next member or element; false at the end.
func (w *walker) next() bool {
	w.at = skipSpace(w.doc, w.at)
	switch w.doc[w.at] {
	case '}', ']':
		return false
	case ',':
		w.at = skipSpace(w.doc, w.at+1)
	}
	if w.object {
		w.key = w.at
		w.keyEnd = skipText(w.doc, w.at)
		w.at = skipSpace(w.doc, skipSpace(w.doc, w.keyEnd)+1) // the colon
	}
	w.from = w.at
	w.at = skipValue(w.doc, w.at)
	w.to = w.at
	return true
}

// is reports whether the member has that name.
func (w *walker) is(k key) bool {
	quoted := w.doc[w.key:w.keyEnd]
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == k.name
	}
	var name string
	return json.Unmarshal(quoted, &name) == nil && name == k.name
}

func skipSpace(doc []byte, at int) int {
	for at < len(doc) && (doc[at] == ' ' || doc[at] == '\n' || doc[at] == '\t' || doc[at] == '\r') {
		at++
	}
	return at
}

func skipText(doc []byte, at int) int {
	for at++; doc[at] != '"'; at++ {
		if doc[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// skipValue returns the end of the value that begins at at. It calls itself for
// nothing, so that nesting costs no stack.
func skipValue(doc []byte, at int) int {
	for depth := 0; ; {
		switch doc[at] {
		case '"':
			at = skipText(doc, at)
		case '{', '[':
			depth++
			at++
		case '}', ']':
			depth--
			at++
		case ' ', '\n', '\t', '\r', ',', ':':
			at++
			continue
		default: // a number, true, false or null
			for at < len(doc) && !endsScalar(doc[at]) {
				at++
			}
		}
		if depth == 0 {
			return at
		}
	}
}

func endsScalar(c byte) bool {
	return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\t' || c == '\r'
}

// errTwice is an edit of a member whose name the object has twice: which one
// counts depends on who reads it.
var errTwice = errors.New("the object has it twice")

// child returns the member of that name of the object at offset at.
func child(doc []byte, at int, k key) (m member, ok bool, err error) {
	for w := walk(doc, at); w.next(); {
		if !w.is(k) {
			continue
		}
		if ok {
			return m, true, fmt.Errorf("%s: %w", k.quoted, errTwice)
		}
		m, ok = w.member, true
	}
	return m, ok, nil
}

// lookup finds the value that keys lead to; !ok where there is none.
func lookup(doc []byte, keys []key) (from, to int, ok bool, err error) {
	from = skipSpace(doc, 0)
	for _, k := range keys {
		if doc[from] != '{' {
			return 0, 0, false, nil
		}
		m, found, err := child(doc, from, k)
		if err != nil || !found {
			return 0, 0, false, err
		}
		from = m.from
	}
	return from, skipValue(doc, from), true, nil
}

// set appends doc with the value that keys lead to: in the place of the old one,
// or as the last member, with the objects around it that are missing. A null
// where an object is needed counts as missing.
func set(dst, doc []byte, keys []key, value []byte) ([]byte, error) {
	at := skipSpace(doc, 0)
	for i, k := range keys {
		switch doc[at] {
		case '{':
		case 'n':
			dst = append(dst, doc[:at]...)
			dst = appendNested(dst, keys[i:], value)
			return append(dst, doc[at+len("null"):]...), nil
		default:
			if i == 0 {
				return dst, fmt.Errorf("%s has no members: it is %s", "the payload or the element", kind(doc[at]))
			}
			return dst, fmt.Errorf("%s has no members: it is %s", keys[i-1].quoted, kind(doc[at]))
		}
		m, ok, err := child(doc, at, k)
		if err != nil {
			return dst, err
		}
		if !ok {
			return insert(dst, doc, at, keys[i:], value), nil
		}
		at = m.from
	}
	dst = append(dst, doc[:at]...)
	dst = append(dst, value...)
	return append(dst, doc[skipValue(doc, at):]...), nil
}

// insert appends doc with a last member of the object at offset at.
func insert(dst, doc []byte, at int, keys []key, value []byte) []byte {
	end, comma := at+1, false
	for w := walk(doc, at); w.next(); {
		end, comma = w.to, true
	}
	dst = append(dst, doc[:end]...)
	if comma {
		dst = append(dst, ',')
	}
	dst = append(dst, keys[0].quoted...)
	dst = append(dst, ':')
	dst = appendNested(dst, keys[1:], value)
	return append(dst, doc[end:]...)
}

// appendNested appends value, within an object for each of keys.
func appendNested(dst []byte, keys []key, value []byte) []byte {
	for _, k := range keys {
		dst = append(dst, '{')
		dst = append(dst, k.quoted...)
		dst = append(dst, ':')
	}
	dst = append(dst, value...)
	for range keys {
		dst = append(dst, '}')
	}
	return dst
}

// remove appends doc without the members that keys lead to.
func remove(dst, doc []byte, keys []key) ([]byte, error) {
	last := len(keys) - 1
	at, _, ok, err := lookup(doc, keys[:last])
	if err != nil {
		return dst, err
	}
	if !ok || doc[at] != '{' {
		return append(dst, doc...), nil
	}
	dst = append(dst, doc[:at+1]...)
	end, lead, kept := at+1, -1, false
	for w := walk(doc, at); w.next(); {
		if lead < 0 {
			lead = w.key // the space before the first member stays
		}
		switch gone := w.is(keys[last]); {
		case gone:
		case kept:
			dst = append(dst, doc[end:w.to]...) // with the comma before it
		default:
			kept = true
			dst = append(dst, doc[at+1:lead]...)
			dst = append(dst, doc[w.key:w.to]...)
		}
		end = w.to
	}
	return append(dst, doc[end:]...), nil
}

// renameKey appends doc with another name for the member that keys lead to.
func renameKey(dst, doc []byte, keys []key, to key) ([]byte, error) {
	last := len(keys) - 1
	at, _, ok, err := lookup(doc, keys[:last])
	if err != nil {
		return dst, err
	}
	if !ok || doc[at] != '{' {
		return append(dst, doc...), nil
	}
	m, ok, err := child(doc, at, keys[last])
	if err != nil || !ok {
		return append(dst, doc...), err
	}
	dst = append(dst, doc[:m.key]...)
	dst = append(dst, to.quoted...)
	return append(dst, doc[m.keyEnd:]...), nil
}

// each appends doc with every element that the wildcards of a path lead to
// edited by do, which appends what becomes of an element; without wildcards that
// is the document itself.
func each(dst, doc []byte, groups [][]key, do func(dst, element []byte) ([]byte, error)) ([]byte, error) {
	if len(groups) == 1 {
		return do(dst, doc)
	}
	from, _, ok, err := lookup(doc, groups[0])
	switch {
	case err != nil:
		return dst, err
	case !ok || doc[from] == 'n':
		return append(dst, doc...), nil
	case doc[from] != '[':
		return dst, fmt.Errorf("%s is not a list: it is %s", lastKey(groups[0]), kind(doc[from]))
	}
	end, i := 0, 0
	for w := walk(doc, from); w.next(); i++ {
		dst = append(dst, doc[end:w.from]...)
		if dst, err = each(dst, doc[w.from:w.to], groups[1:], do); err != nil {
			return dst, fmt.Errorf("element %d of %s: %w", i, lastKey(groups[0]), err)
		}
		end = w.to
	}
	return append(dst, doc[end:]...), nil
}

func lastKey(keys []key) string {
	if len(keys) == 0 {
		return "the list"
	}
	return string(keys[len(keys)-1].quoted)
}

// kind says what a value is by how it begins.
func kind(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a text"
	case 't', 'f':
		return "a truth value"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// appendText appends s as a JSON string, without the escapes that only HTML
// needs.
func appendText(dst []byte, s string) []byte {
	text, err := marshal(s)
	if err != nil { // a string always has JSON
		return dst
	}
	return append(dst, text...)
}

// marshal gives the JSON of a value, without the escapes that only HTML needs.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// textOf gives the text of a JSON string.
func textOf(quoted []byte) []byte {
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil { // it is one
		return quoted
	}
	return []byte(s)
}
