package projection

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// shapes are those of the types of structs that payloads have been decoded into. They are
// safe for concurrent use.
type shapes struct {
	last atomic.Pointer[structShape]
	all  sync.Map // *structShape by reflect.Type
}

// of returns the shape of a type; nil where payloads have to be read into it in another way.
func (s *shapes) of(t reflect.Type) *structShape {
	if last := s.last.Load(); last != nil && last.typ == t {
		return last.usable()
	}
	known, ok := s.all.Load(t)
	if !ok {
		known, _ = s.all.LoadOrStore(t, newStructShape(t))
	}
	shape, _ := known.(*structShape)
	s.last.Store(shape)
	return shape.usable()
}

// structShape says where the members of a JSON object go in a struct.
type structShape struct {
	typ     reflect.Type
	strange bool // nothing is known of it but its type
	members []memberShape
	lengths uint64 // of the members' names, a bit each; longer ones have the highest
}

// memberShape is a field of a struct.
type memberShape struct {
	key    string // the name in quotes, and a colon
	name   string
	offset uintptr
	typ    reflect.Type
	kind   memberKind
	bits   int          // of a number
	inner  *structShape // of a struct
}

// memberKind is how a value is read.
type memberKind uint8

const (
	otherMember memberKind = iota // by the library
	textMember
	boolMember
	intMember
	uintMember
	floatMember
	structMember
)

// newStructShape returns the shape of a type. It is strange where fields have names that are
// alike, or are found in ways that only the library knows.
func newStructShape(t reflect.Type) *structShape {
	strange := &structShape{typ: t, strange: true}
	if t.Kind() != reflect.Struct || decodesItself(t) {
		return strange
	}
	s := &structShape{typ: t}
	seen := map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, ok := memberName(&f)
		folded := strings.ToLower(name)
		switch {
		case !ok || seen[folded]:
			return strange
		case name == "":
			continue
		}
		seen[folded] = true
		s.members = append(s.members, newMember(name, &f))
		s.lengths |= lengthBit(len(name))
	}
	return s
}

func (s *structShape) usable() *structShape {
	if s.strange {
		return nil
	}
	return s
}

func lengthBit(n int) uint64 { return 1 << min(n, 63) }

// memberName is the name that a field has in JSON; "" where it has none, and !ok where that
// is not simple to say.
func memberName(f *reflect.StructField) (name string, ok bool) {
	tag := f.Tag.Get("json")
	name, options, _ := strings.Cut(tag, ",")
	switch {
	case f.Anonymous:
		return "", false
	case !f.IsExported() || tag == "-":
		return "", true
	case options != "" && options != "omitempty":
		return "", false
	case name == "":
		name = f.Name
	}
	for _, c := range []byte(name) {
		if c >= utf8.RuneSelf || c != '_' && c != '-' && c != '.' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return "", false
		}
	}
	return name, true
}

func newMember(name string, f *reflect.StructField) memberShape {
	m := memberShape{key: `"` + name + `":`, name: name, offset: f.Offset, typ: f.Type}
	if f.Type.Kind() == reflect.Struct {
		if inner := newStructShape(f.Type); !inner.strange {
			m.kind, m.inner = structMember, inner
		}
		return m
	}
	if f.Type.PkgPath() != "" { // it may have ways of its own
		return m
	}
	switch f.Type.Kind() {
	case reflect.String:
		m.kind = textMember
	case reflect.Bool:
		m.kind = boolMember
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		m.kind, m.bits = intMember, f.Type.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		m.kind, m.bits = uintMember, f.Type.Bits()
	case reflect.Float64:
		m.kind, m.bits = floatMember, 64
	}
	return m
}

// decodesItself says whether a type has its own way to be read.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
