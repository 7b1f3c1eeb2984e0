package jsonl

import (
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/event"
)

// AppendLine appends the line that stands for e, with its line feed. ParseLine
// gives back the same event.
func AppendLine(dst []byte, e *event.Event) []byte {
	dst = append(dst, `{"id":"`...)
	dst = e.ID.Append(dst)
	dst = append(dst, `","fields":`...)
	start := len(dst)
	dst, ok := appendObject(dst, e.Fields)
	if !ok {
		dst = appendPairs(dst[:start], e.Fields)
	}
	return append(dst, '}', '\n')
}

// appendObject appends the fields as a JSON object; false means that it cannot,
// and that the result is to be thrown away: a name repeats, or something is not
// UTF-8.
func appendObject(dst []byte, fields []event.Field) ([]byte, bool) {
	if repeats(fields) {
		return dst, false
	}
	dst = append(dst, '{')
	for i := range fields {
		f := &fields[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = appendString(dst, f.Name); !ok {
			return dst, false
		}
		dst = append(dst, ':')
		if spliceable(f.Value) {
			dst = append(dst, f.Value...)
		} else if dst, ok = appendString(dst, f.Value); !ok {
			return dst, false
		}
	}
	return append(dst, '}'), true
}

// appendPairs appends the fields in the form that can say everything.
func appendPairs(dst []byte, fields []event.Field) []byte {
	dst = append(dst, '[')
	for i := range fields {
		f := &fields[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '[')
		dst = appendBytes(dst, f.Name)
		dst = append(dst, ',')
		if spliceable(f.Value) {
			dst = append(dst, f.Value...)
		} else {
			dst = appendBytes(dst, f.Value)
		}
		dst = append(dst, ']')
	}
	return append(dst, ']')
}

// repeats reports whether a name occurs twice.
func repeats(fields []event.Field) bool {
	const few = 64
	if len(fields) > few {
		seen := make(map[string]struct{}, len(fields))
		for i := range fields {
			seen[string(fields[i].Name)] = struct{}{}
		}
		return len(seen) < len(fields)
	}
	var filter uint64 // a bit for each name so far; most names need no comparison
	for i := range fields {
		name := fields[i].Name
		hash := uint(len(name))
		if len(name) > 0 {
			hash += uint(name[0])*7 + uint(name[len(name)-1])*31 + uint(name[len(name)/2])*17
		}
		bit := uint64(1) << (hash & 63)
		if filter&bit != 0 {
			for j := range fields[:i] {
				if string(fields[j].Name) == string(name) {
					return true
				}
			}
		}
		filter |= bit
	}
	return false
}

// spliceable reports whether v may stand in a line as it is: it is a JSON object
// or array on one line, would not be taken for a tag, and is nothing that common
// JSON readers refuse.
func spliceable(v []byte) bool {
	if len(v) < 2 {
		return false
	}
	switch {
	case v[0] == '{' && v[len(v)-1] == '}':
		if tagLike(v) {
			return false
		}
	case v[0] == '[' && v[len(v)-1] == ']':
	default:
		return false
	}
	end, seen, fault := scan(v, 0, maxSpliceDepth)
	if fault != "" || end != len(v) || seen&(lineBreak|unportable) != 0 {
		return false
	}
	return seen&nonASCII == 0 || utf8.Valid(v)
}

// tagLike reports whether the first name in an object begins with a dollar sign,
// or with an escape, which could be one: another tool that formats the line anew
// could make a tag of it.
func tagLike(object []byte) bool {
	i, _ := scanSpace(object, 1, 0)
	return i+1 < len(object) && object[i] == '"' && (object[i+1] == '$' || object[i+1] == '\\')
}
