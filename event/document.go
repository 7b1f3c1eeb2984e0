package event

import "bytes"

// cloudEvents is how the content type of a CloudEvent in structured mode
// begins, in lower case.
const cloudEvents = "application/cloudevents"

// embedded fills env from the JSON object in the form's document field, and
// from the other fields. It reports whether that field holds a whole event.
func (x *Extractor) embedded(f *form, e *Event, env *Envelope) bool {
	doc := e.Fields[f.document].Value
	if len(doc) == 0 || f.when == whenCloudEvents && !isCloudEvents(e.Fields[f.contentType].Value) {
		return false
	}
	var found members
	if !x.scan(doc, &found) {
		return false
	}
	if f.when == whenEvent && found.values[EventID] == nil && found.values[Type] == nil {
		return false
	}
	f.embedded.fill(e, env)
	x.text = x.text[:0]
	env.at = [NumAttributes]int{}
	for a, value := range found.values {
		if value == nil || env.has&(1<<a) != 0 {
			continue
		}
		if value[0] == '"' && Attribute(a) != Payload {
			value, x.text = unquote(value, x.text)
		}
		env.Set(Attribute(a), value)
		env.at[a] = found.at[a]
	}
	env.document, env.payloadAt = doc, found.at[Payload]
	if found.values[Payload] == nil {
		env.payloadAt = 0
		env.Set(Payload, doc)
	}
	return true
}

func isCloudEvents(contentType []byte) bool {
	return len(contentType) >= len(cloudEvents) &&
		bytes.EqualFold(contentType[:len(cloudEvents)], []byte(cloudEvents))
}

// members are the attributes that a document has, as they are written.
type members struct {
	values [NumAttributes][]byte // nil where there is none
	at     [NumAttributes]int    // their offsets in the document
	rank   [NumAttributes]int
}

// scan finds the attributes among the top-level members of doc; false when doc
// is not one valid JSON object. Members that are null count as absent, as do
// objects and arrays for any attribute but the payload; of several members of
// one name the first counts.
func (x *Extractor) scan(doc []byte, found *members) bool {
	s := jsonScanner{doc: doc}
	for s.member() {
		key := s.key[1 : len(s.key)-1]
		if s.keyEscaped {
			key, x.text = unquote(s.key, x.text[:0])
		}
		x.folded = fold(x.folded[:0], key)
		t, ok := x.targets[string(x.folded)]
		if !ok || found.values[t.attribute] != nil && found.rank[t.attribute] <= t.rank {
			continue
		}
		switch doc[s.from] {
		case 'n':
			continue
		case '{', '[':
			if t.attribute != Payload {
				continue
			}
		}
		found.values[t.attribute], found.rank[t.attribute] = doc[s.from:s.to:s.to], t.rank
		found.at[t.attribute] = s.from
	}
	return s.complete
}
