package parquet

import (
	"github.com/reservoirhq/reservoir/event"
)

// rowPlan is a layout made ready to put events together.
type rowPlan struct {
	slots   []rowSlot
	names   []byte       // of the fields that are kept, one after the other
	spans   []event.Span // of the event at hand
	columns []int        // that it needs
	active  bool         // the Reader reads them
	// generation is the batch that has the names already.
	generation uint64
}

// rowSlot is a slot without its name.
type rowSlot struct {
	column int
	source source
	form   event.TimeForm
	skip   int // values of the rest before its own, of fields that are left out
}

func (pc *planCache) newRowPlan(text []byte) (*rowPlan, error) {
	l, err := parseLayout(text)
	if err != nil {
		return nil, err
	}
	kept := pc.kept(l)
	p := &rowPlan{slots: make([]rowSlot, 0, len(l)), spans: make([]event.Span, 0, len(l)), active: pc.extractor == nil}
	skip := 0
	for i, s := range l {
		if kept != nil && !kept[i] {
			skip += s.source.rest()
			continue
		}
		p.slots = append(p.slots, rowSlot{s.column, s.source, s.form, skip})
		skip = 0
		p.spans = append(p.spans, event.Span{NameLen: uint32(len(s.name))})
		p.names = append(p.names, s.name...)
		if s.source != fromRest {
			p.columns = append(p.columns, s.column)
		}
	}
	return p, nil
}

// rest is how many values a field takes of the rest.
func (s source) rest() int {
	switch s {
	case fromRest:
		return 1
	case fromPayload:
		return 2
	default:
		return 0
	}
}

// kept says which fields of a layout's events are wanted; nil: all.
func (pc *planCache) kept(l layout) []bool {
	if pc.extractor == nil {
		return nil
	}
	names := make([][]byte, len(l))
	for i := range l {
		names[i] = l[i].name
	}
	return pc.extractor.Kept(names, pc.attributes)
}

// copyNames copies the names into b.
func (p *rowPlan) copyNames(b *event.Batch) {
	at := uint32(len(b.Buf))
	b.Buf = append(b.Buf, p.names...)
	for i := range p.spans {
		p.spans[i].Name = at
		at += p.spans[i].NameLen
	}
}

// maxPlans bounds the layouts that a Reader remembers.
const maxPlans = 4096

// planCache finds the plan of the layout k rows after a cursor's.
type planCache struct {
	byText  map[string]*rowPlan
	byIndex []*rowPlan // of the cursor's dictionary

	attributes event.Attributes // that fields are kept for
	extractor  *event.Extractor // nil: all are kept
}

func (pc *planCache) get(c *cursor, k int) (*rowPlan, error) {
	if c.indexes == nil {
		return pc.lookup(c.value(c.at + k))
	}
	if c.fresh {
		c.fresh = false
		pc.byIndex = append(pc.byIndex[:0], make([]*rowPlan, c.dictionary.len())...)
	}
	i := c.indexes[c.at+k]
	if p := pc.byIndex[i]; p != nil {
		return p, nil
	}
	p, err := pc.lookup(c.value(c.at + k))
	pc.byIndex[i] = p
	return p, err
}

func (pc *planCache) lookup(text []byte) (*rowPlan, error) {
	if p, ok := pc.byText[string(text)]; ok {
		return p, nil
	}
	p, err := pc.newRowPlan(text)
	if err != nil {
		return nil, err
	}
	if pc.byText == nil || len(pc.byText) >= maxPlans {
		pc.byText = make(map[string]*rowPlan)
	}
	pc.byText[string(text)] = p
	return p, nil
}

// timeCache writes times. It remembers the last second, which most events
// share with the one before.
type timeCache struct {
	form   event.TimeForm
	second int64
	text   []byte // of the time, in this form; empty at first
	digits int    // of its fraction that may be other than 0
}

// fractionAt is where the digits of a fraction are in RFC 3339.
const fractionAt = len("2006-01-02T15:04:05.")

func (tc *timeCache) append(b []byte, form event.TimeForm, micros int64) []byte {
	second := micros / 1e6
	if micros < 0 || form >= event.TimeUnix {
		return form.Append(b, micros)
	}
	if len(tc.text) == 0 || form != tc.form || second != tc.second {
		tc.form, tc.second = form, second
		tc.text = form.Append(tc.text[:0], micros)
		for tc.digits = 0; tc.digits < 6 && tc.text[fractionAt-1] == '.' && tc.text[fractionAt+tc.digits]-'0' <= 9; {
			tc.digits++
		}
		return append(b, tc.text...)
	}
	at := len(b) + fractionAt
	b = append(b, tc.text...)
	fraction := uint32(micros - second*1e6)
	if tc.digits == 3 { // the most common form
		milli := fraction / 1e3
		b[at], b[at+1], b[at+2] = byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10)
		return b
	}
	for i := range tc.digits {
		fraction *= 10
		b[at+i] = byte('0' + fraction/1e6)
		fraction %= 1e6
	}
	return b
}
