package event

// Attributes are a set of them.
type Attributes uint16

// AttributesOf returns the set of some attributes.
func AttributesOf(attributes ...Attribute) Attributes {
	var set Attributes
	for _, a := range attributes {
		set |= 1 << a
	}
	return set
}

// Has says whether the set has an attribute.
func (s Attributes) Has(a Attribute) bool { return s&(1<<a) != 0 }

// Kept says which fields of events with these names an Extractor needs to find attributes: it
// finds the same values of these when all other fields are left out. It is nil where
// none may be, as of events that lie in a JSON document.
func (x *Extractor) Kept(names [][]byte, attributes Attributes) []bool {
	const few = 2 // of one field it looks whether that is a document
	if len(names) <= few {
		return nil
	}
	fields := make([]Field, len(names))
	for i, name := range names {
		fields[i].Name = name
	}
	f := x.form(fields)
	if f.document >= 0 {
		return nil
	}
	kept, n := make([]bool, len(names)), 0
	for a, field := range f.plain.Source {
		if field >= 0 && attributes.Has(Attribute(a)) {
			kept[field] = true
			n++
		}
	}
	for i := range kept {
		if n < few && !kept[i] {
			kept[i] = true
			n++
		}
	}
	return kept
}
