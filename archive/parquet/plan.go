package parquet

import (
	"strconv"

	"github.com/reservoirhq/reservoir/event"
)

// rowPlan is a layout made ready to put events together.
type rowPlan struct {
	slots []rowSlot
	names []byte // of all slots, one after the other
	// generation is the batch that has the names already, and namesAt where.
	generation uint64
	namesAt    int
}

type rowSlot struct {
	slot
	nameAt int // in names
}

func newRowPlan(text []byte) (*rowPlan, error) {
	l, err := parseLayout(text)
	if err != nil {
		return nil, err
	}
	p := &rowPlan{slots: make([]rowSlot, len(l))}
	for i, s := range l {
		p.slots[i] = rowSlot{slot: s, nameAt: len(p.names)}
		p.names = append(p.names, s.name...)
	}
	return p, nil
}

// maxPlans bounds the layouts that a Reader remembers.
const maxPlans = 4096

// planCache finds the plan of the layout in the row where a cursor is.
type planCache struct {
	byText  map[string]*rowPlan
	byIndex []*rowPlan // of the cursor's dictionary
}

func (pc *planCache) get(c *cursor) (*rowPlan, error) {
	if c.indexes == nil {
		return pc.lookup(c.value(c.at))
	}
	if c.fresh {
		c.fresh = false
		pc.byIndex = append(pc.byIndex[:0], make([]*rowPlan, len(c.offsets)-1)...)
	}
	i := c.indexes[c.at]
	if p := pc.byIndex[i]; p != nil {
		return p, nil
	}
	p, err := pc.lookup(c.value(c.at))
	pc.byIndex[i] = p
	return p, err
}

func (pc *planCache) lookup(text []byte) (*rowPlan, error) {
	if p, ok := pc.byText[string(text)]; ok {
		return p, nil
	}
	p, err := newRowPlan(text)
	if err != nil {
		return nil, err
	}
	if pc.byText == nil || len(pc.byText) >= maxPlans {
		pc.byText = make(map[string]*rowPlan)
	}
	pc.byText[string(text)] = p
	return p, nil
}

// build appends the event in the row where the cursors are to b.
func (p *rowPlan) build(b *event.Batch, generation uint64, id event.ID, cursors *[numColumns]cursor) {
	if p.generation != generation {
		p.generation, p.namesAt = generation, len(b.Buf)
		b.Buf = append(b.Buf, p.names...)
	}
	b.Begin(id)
	rest := &cursors[colRest]
	restAt := rest.at
	for i := range p.slots {
		s := &p.slots[i]
		at := len(b.Buf)
		switch s.source {
		case fromText:
			c := &cursors[s.column]
			b.Buf = append(b.Buf, c.value(c.at)...)
		case fromRest:
			b.Buf = append(b.Buf, rest.value(restAt)...)
			restAt++
		case fromNumber:
			c := &cursors[s.column]
			b.Buf = strconv.AppendInt(b.Buf, c.numbers[c.at], 10)
		case fromTime:
			c := &cursors[s.column]
			b.Buf = s.form.Append(b.Buf, c.numbers[c.at])
		case fromPayload:
			c := &cursors[s.column]
			b.Buf = append(b.Buf, rest.value(restAt)...)
			b.Buf = append(b.Buf, c.value(c.at)...)
			b.Buf = append(b.Buf, rest.value(restAt+1)...)
			restAt += 2
		}
		b.AddSpan(p.namesAt+s.nameAt, len(s.name), at, len(b.Buf)-at)
	}
}
