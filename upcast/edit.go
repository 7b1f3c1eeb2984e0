package upcast

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/reservoirhq/reservoir/event"
)

// Edit is one event while a rule changes it. Paths speak of places in the
// payload: customer.address.city, items[].sku for every element of a list,
// "a.b".c where a name needs quotes. It is valid only during the call that was
// given it.
type Edit struct {
	mapping  *names
	extract  *event.Extractor
	original *event.Event
	fields   []event.Field // what the event is by now; owned, its bytes are not

	env   *event.Envelope // of fields, unless stale
	own   event.Envelope  // what env points to after the first change
	shape *event.Shape
	stale bool

	payload []byte // not yet in fields when dirty
	dirty   bool
	valid   bool // payload was found to be JSON

	arena []byte // what was edited in the course of one event
}

// begin starts on an event.
func (d *Edit) begin(e *event.Event, env *event.Envelope, shape *event.Shape) {
	d.original = e
	d.fields = append(d.fields[:0], e.Fields...)
	d.env, d.shape = env, shape
	d.stale, d.dirty, d.valid = false, false, false
	d.payload, _ = env.Get(event.Payload)
	if cap(d.arena) > maxArena {
		d.arena = nil
	}
	d.arena = d.arena[:0]
}

// maxArena is how much memory is kept from one event to the next.
const maxArena = 1 << 20

// current is the event as it is by now; its payload may lie in d.payload.
func (d *Edit) current() event.Event {
	return event.Event{ID: d.original.ID, Fields: d.fields}
}

// ID returns the event's ID.
func (d *Edit) ID() event.ID { return d.original.ID }

// Attribute returns an attribute of the event's envelope as it is by now.
func (d *Edit) Attribute(a event.Attribute) ([]byte, bool) {
	d.sync()
	return d.env.Get(a)
}

// sync brings fields and envelope up to date.
func (d *Edit) sync() {
	if d.dirty {
		d.dirty = false
		if at := d.shape.Embedded; at >= 0 {
			if prefix, suffix, ok := d.env.Splice(); ok {
				d.fields[at].Value = d.keep(func(dst []byte) []byte {
					return append(append(append(dst, prefix...), d.payload...), suffix...)
				})
			}
		} else {
			d.fields[d.shape.Source[event.Payload]].Value = d.payload
		}
		d.stale = true
	}
	if d.stale {
		d.stale = false
		d.env = &d.own
		now := d.current()
		d.shape = d.extract.Extract(&now, d.env)
		d.payload, _ = d.env.Get(event.Payload)
	}
}

// keep gives bytes that stay as they are until the next event.
func (d *Edit) keep(add func(dst []byte) []byte) []byte {
	start := len(d.arena)
	d.arena = add(d.arena)
	return d.arena[start:len(d.arena):len(d.arena)]
}

var (
	errNoPayload  = errors.New("the event has no payload")
	errNotJSON    = errors.New("the payload is not JSON")
	errTargetUsed = errors.New("there is something already: drop that first")
)

// json returns the payload, which is JSON then.
func (d *Edit) json() ([]byte, error) {
	if d.stale {
		d.sync()
		d.valid = false
	}
	if d.valid {
		return d.payload, nil
	}
	switch _, ok := d.env.Get(event.Payload); {
	case !ok:
		return nil, errNoPayload
	case !json.Valid(d.payload):
		return nil, errNotJSON
	}
	d.valid = true
	return d.payload, nil
}

// Payload returns the payload as it is by now; nil when the event has none.
func (d *Edit) Payload() []byte {
	if d.stale {
		d.sync()
	}
	return d.payload
}

// SetPayload replaces the payload by another JSON text. An event without a
// payload takes none.
func (d *Edit) SetPayload(text []byte) error {
	if d.stale {
		d.sync()
	}
	if _, ok := d.env.Get(event.Payload); !ok {
		return errNoPayload
	}
	if !json.Valid(text) {
		return errNotJSON
	}
	d.replace(d.keep(func(dst []byte) []byte { return append(dst, text...) }))
	return nil
}

func (d *Edit) replace(payload []byte) {
	d.payload, d.dirty, d.valid = payload, true, true
}

// change edits every place that p leads to: do is given the document, or an
// element of the list, in which p.last() leads on.
func (d *Edit) change(p *path, do func(dst, element []byte) ([]byte, error)) error {
	doc, err := d.json()
	if err != nil {
		return err
	}
	start := len(d.arena)
	changed, err := each(d.arena, doc, p.groups, do)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	d.arena = changed
	d.replace(changed[start:len(changed):len(changed)])
	return nil
}

// Get returns the JSON at a path without wildcards; !ok when there is none.
func (d *Edit) Get(at string) (value []byte, ok bool, err error) {
	p, err := parsePath(at)
	if err != nil {
		return nil, false, err
	}
	if len(p.groups) > 1 {
		return nil, false, fmt.Errorf("%s names many places: get the list", p)
	}
	doc, err := d.json()
	if err != nil {
		return nil, false, err
	}
	from, to, ok, err := lookup(doc, p.last())
	if err != nil || !ok {
		return nil, false, err
	}
	return doc[from:to:to], true, nil
}

// Set puts a value, in JSON as encoding/json makes it, where at leads to: in the
// place of what is there, or as the last member of its object. Objects that are
// missing on the way are made; elements of lists are not.
func (d *Edit) Set(at string, value any) error {
	p, text, err := pathAndValue(at, value)
	if err != nil {
		return err
	}
	return d.set(p, text)
}

// Default is Set where there is nothing yet; a null is something.
func (d *Edit) Default(at string, value any) error {
	p, text, err := pathAndValue(at, value)
	if err != nil {
		return err
	}
	return d.setDefault(p, text)
}

// Rename moves the value at one path to another. Within one object the member
// keeps its place, else it becomes the last one of its new object. Where there
// is nothing, nothing happens; where the target is taken, that is an error.
func (d *Edit) Rename(from, to string) error {
	p, q, err := parsePaths(from, to)
	if err != nil {
		return err
	}
	return d.rename(p, q)
}

// Drop removes the members that a path leads to, if there are any.
func (d *Edit) Drop(at string) error {
	p, err := parsePath(at)
	if err == nil {
		err = namesMember(p)
	}
	if err != nil {
		return err
	}
	return d.drop(p)
}

func (d *Edit) set(p *path, value []byte) error {
	return d.change(p, func(dst, element []byte) ([]byte, error) { return set(dst, element, p.last(), value) })
}

func (d *Edit) setDefault(p *path, value []byte) error {
	return d.change(p, func(dst, element []byte) ([]byte, error) {
		if _, _, ok, err := lookup(element, p.last()); ok || err != nil {
			return append(dst, element...), err
		}
		return set(dst, element, p.last(), value)
	})
}

func (d *Edit) drop(p *path) error {
	return d.change(p, func(dst, element []byte) ([]byte, error) { return remove(dst, element, p.last()) })
}

func (d *Edit) rename(p, q *path) error {
	return d.change(p, func(dst, element []byte) ([]byte, error) {
		from, to, ok, err := lookup(element, p.last())
		if err != nil || !ok {
			return append(dst, element...), err
		}
		switch _, _, taken, err := lookup(element, q.last()); {
		case err != nil:
			return dst, err
		case taken:
			return dst, fmt.Errorf("cannot become %s: %w", q, errTargetUsed)
		}
		if p.sameParent(q) {
			return renameKey(dst, element, p.last(), q.last()[len(q.last())-1])
		}
		rest, err := remove(nil, element, p.last())
		if err != nil {
			return dst, err
		}
		return set(dst, rest, q.last(), element[from:to])
	})
}

// Field returns the value of the first field of that name of the entry.
func (d *Edit) Field(name string) ([]byte, bool) {
	d.sync()
	now := d.current()
	return now.Get(name)
}

// SetField gives the first field of that name a value, or adds one at the end.
func (d *Edit) SetField(name string, value []byte) {
	d.sync()
	d.stale, d.valid = true, false
	value = d.keep(func(dst []byte) []byte { return append(dst, value...) })
	if i := d.fieldIndex(name); i >= 0 {
		d.fields[i].Value = value
		return
	}
	d.fields = append(d.fields, event.Field{Name: []byte(name), Value: value})
}

// RenameField gives all fields of one name another name, where they are. That
// there is a field of the other name is an error.
func (d *Edit) RenameField(from, to string) error {
	d.sync()
	if d.fieldIndex(from) < 0 {
		return nil
	}
	if d.fieldIndex(to) >= 0 {
		return fmt.Errorf("field %q cannot become %q: %w", from, to, errTargetUsed)
	}
	d.stale, d.valid = true, false
	name := []byte(to)
	for i := range d.fields {
		if string(d.fields[i].Name) == from {
			d.fields[i].Name = name
		}
	}
	return nil
}

// DropField removes all fields of that name.
func (d *Edit) DropField(name string) {
	d.sync()
	d.stale, d.valid = true, false
	d.fields = slices.DeleteFunc(d.fields, func(f event.Field) bool { return string(f.Name) == name })
}

func (d *Edit) fieldIndex(name string) int {
	return slices.IndexFunc(d.fields, func(f event.Field) bool { return string(f.Name) == name })
}

// setAttribute writes an attribute where it lives, or adds it.
func (d *Edit) setAttribute(a event.Attribute, value string) error {
	d.sync()
	if old, ok := d.env.Get(a); string(old) == value && (ok || value == "") {
		return nil
	}
	if i := d.shape.Source[a]; i >= 0 {
		d.fields[i].Value = []byte(value)
		d.stale, d.valid = true, false
		return nil
	}
	if d.shape.Embedded >= 0 {
		return d.setMember(a, value)
	}
	name := d.mapping[a]
	if name == "" {
		return fmt.Errorf("the mapping has no field for %s to write %q to", a, value)
	}
	d.SetField(name, []byte(value))
	return nil
}

// setMember writes an attribute into the document that the event lies in. A
// number stays one.
func (d *Edit) setMember(a event.Attribute, value string) error {
	at := d.shape.Embedded
	doc := d.fields[at].Value
	quoted := appendText(nil, value)
	if from, to, ok := d.env.Member(a); ok {
		if doc[from] != '"' && json.Valid([]byte(value)) && endsAsNumber(value) {
			quoted = []byte(value)
		}
		d.fields[at].Value = slices.Concat(doc[:from], quoted, doc[to:])
	} else {
		name := d.mapping[a]
		if name == "" {
			return fmt.Errorf("the mapping has no field for %s to write %q to", a, value)
		}
		if _, _, cloudEvent, err := lookup(doc, []key{newKey("specversion")}); err == nil && cloudEvent {
			name = plain(name)
		}
		changed, err := set(nil, doc, []key{newKey(name)}, quoted)
		if err != nil {
			return err
		}
		d.fields[at].Value = changed
	}
	d.stale, d.valid = true, false
	return nil
}

func endsAsNumber(value string) bool {
	c := value[len(value)-1]
	return '0' <= c && c <= '9'
}

func pathAndValue(at string, value any) (*path, []byte, error) {
	p, err := parsePath(at)
	if err != nil {
		return nil, nil, err
	}
	text, err := marshal(value)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p, err)
	}
	return p, text, nil
}

// parsePaths reads the two paths of a rename.
func parsePaths(from, to string) (p, q *path, err error) {
	if p, err = parsePath(from); err != nil {
		return nil, nil, err
	}
	if q, err = parsePath(to); err != nil {
		return nil, nil, err
	}
	switch err := errors.Join(namesMember(p), namesMember(q)); {
	case err != nil:
		return nil, nil, err
	case !p.sameElement(q):
		return nil, nil, fmt.Errorf("%s and %s are in different lists: a value stays in its element", p, q)
	case p.within(q) || q.within(p):
		return nil, nil, fmt.Errorf("%s and %s: one is a part of the other", p, q)
	}
	return p, q, nil
}

func namesMember(p *path) error {
	if len(p.last()) == 0 {
		return fmt.Errorf("%s names elements of a list: name a member", p)
	}
	return nil
}
