package event

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Shape is one ordered list of field names and what it means for the envelope.
type Shape struct {
	// Index numbers the shapes of a generation from 0 and is below MaxShapes.
	// Generation counts how often the Extractor has forgotten all shapes and
	// begun anew.
	Index      int
	Generation int
	// Names are the fields' names, in order. They are the Shape's own.
	Names [][]byte
	// Source is the field that holds an attribute, or -1. Where it is not -1
	// the envelope's value is that field's, byte for byte.
	Source [NumAttributes]int
	// Embedded is the field that holds the whole event as a JSON object, or
	// -1. The payload then is a part of that field's value (Envelope.Splice),
	// and attributes that no other field holds come from the object's members.
	// Events with the same names may differ in it, and then have two Shapes.
	Embedded int

	sources []source // the attributes that Source has
	has     uint16
}

type source struct {
	attribute Attribute
	field     int
}

// MaxShapes bounds the shapes that an Extractor remembers, and maxShapeBytes
// the memory of their names. Beyond either it forgets them all and goes on.
const (
	MaxShapes     = 4096
	maxShapeBytes = 8 << 20
)

// Extractor finds envelopes. It remembers the shapes it has seen, so that an
// event which looks like one before it costs a comparison of names. It is not
// safe for concurrent use: each goroutine has its own.
type Extractor struct {
	targets    map[string]target // by folded name
	documents  map[string]int    // rank by folded name
	detect     bool
	generation int
	index      int // of the next Shape
	bytes      int // of the names in forms

	forms map[string]*form // by the names, each after its length
	last  *form

	key, folded []byte // scratch
	text        []byte // unescaped strings of the last event
}

// form is an ordered list of names with its Shapes.
type form struct {
	plain    *Shape
	embedded *Shape // nil without a document
	// document is the field that may hold a whole event, or -1, and when says
	// under which condition it does if it is a JSON object.
	document    int
	when        condition
	contentType int // the field to look at for whenCloudEvents
}

type condition uint8

const (
	always          condition = iota // the mapping says so
	whenEvent                        // the object has an event ID or type
	whenCloudEvents                  // the content type says so
)

// Extractor returns a new Extractor for the mapping, which should be valid.
func (m Mapping) Extractor() *Extractor {
	x := &Extractor{
		targets: m.targets(),
		detect:  len(m.Document) == 0,
		forms:   make(map[string]*form),
	}
	if len(m.Document) > 0 && m.Document[0] != none {
		x.documents = make(map[string]int)
		for rank, name := range slices.Backward(m.Document) {
			x.documents[string(fold(nil, name))] = rank
		}
	}
	return x
}

// Extract fills env with the envelope of e and returns the Shape of e, whose
// pointer stays the same for all events of that shape in its Generation. What
// env held before is lost.
func (x *Extractor) Extract(e *Event, env *Envelope) *Shape {
	f := x.last
	if f == nil || !f.matches(e.Fields) {
		f = x.form(e.Fields)
		x.last = f
	}
	if f.document >= 0 && x.embedded(f, e, env) {
		return f.embedded
	}
	env.document = nil
	f.plain.fill(e, env)
	return f.plain
}

func (f *form) matches(fields []Field) bool {
	names := f.plain.Names
	if len(names) != len(fields) {
		return false
	}
	for i := range fields {
		if !bytes.Equal(fields[i].Name, names[i]) {
			return false
		}
	}
	return true
}

// fill takes from the fields what the shape finds in them.
func (s *Shape) fill(e *Event, env *Envelope) {
	env.has = s.has
	for _, src := range s.sources {
		env.values[src.attribute] = e.Fields[src.field].Value
	}
}

// form returns the form of the fields' names.
func (x *Extractor) form(fields []Field) *form {
	x.key = x.key[:0]
	for i := range fields {
		x.key = binary.AppendUvarint(x.key, uint64(len(fields[i].Name)))
		x.key = append(x.key, fields[i].Name...)
	}
	if f, ok := x.forms[string(x.key)]; ok {
		return f
	}
	cost := 2*len(x.key) + 32*len(fields)
	if x.index+2 > MaxShapes || x.bytes+cost > maxShapeBytes && x.bytes > 0 {
		clear(x.forms)
		x.generation++
		x.index, x.bytes = 0, 0
	}
	x.bytes += cost
	f := x.newForm(fields)
	x.forms[string(x.key)] = f
	return f
}

func (x *Extractor) newForm(fields []Field) *form {
	names := ownNames(fields)
	f := &form{document: -1, contentType: -1, plain: x.newShape(names, -1)}
	best := len(x.documents)
	for i, name := range names {
		x.folded = fold(x.folded[:0], name)
		if rank, ok := x.documents[string(x.folded)]; ok && rank < best {
			f.document, best = i, rank
		}
		if string(x.folded) == "contenttype" {
			f.contentType = i
		}
	}
	payload := f.plain.Source[Payload]
	switch {
	case f.document >= 0 || !x.detect:
	case len(names) == 1:
		f.document, f.when = 0, whenEvent
	case payload >= 0 && f.contentType >= 0 && payload != f.contentType:
		f.document, f.when = payload, whenCloudEvents
	}
	if f.document >= 0 {
		f.embedded = x.newShape(names, f.document)
	}
	return f
}

func ownNames(fields []Field) [][]byte {
	size := 0
	for _, f := range fields {
		size += len(f.Name)
	}
	arena := make([]byte, 0, size)
	names := make([][]byte, len(fields))
	for i, f := range fields {
		start := len(arena)
		arena = append(arena, f.Name...)
		names[i] = arena[start:len(arena):len(arena)]
	}
	return names
}

// newShape resolves the attributes among names, but for the field embedded.
func (x *Extractor) newShape(names [][]byte, embedded int) *Shape {
	s := &Shape{Index: x.index, Generation: x.generation, Names: names, Embedded: embedded}
	x.index++
	var rank [NumAttributes]int
	for a := range s.Source {
		s.Source[a] = -1
	}
	for i, name := range names {
		x.folded = fold(x.folded[:0], name)
		t, ok := x.targets[string(x.folded)]
		if !ok || i == embedded || embedded >= 0 && t.attribute == Payload {
			continue
		}
		if s.Source[t.attribute] < 0 || t.rank < rank[t.attribute] {
			s.Source[t.attribute], rank[t.attribute] = i, t.rank
		}
	}
	for a, field := range s.Source {
		if field >= 0 {
			s.sources = append(s.sources, source{Attribute(a), field})
			s.has |= 1 << a
		}
	}
	return s
}
