package parquet

import (
	"fmt"

	pq "github.com/parquet-go/parquet-go"

	"github.com/reservoirhq/reservoir/event"
)

// outcome says which of a shape's fields are in columns and how: a bit per
// attribute that holds its field verbatim (or by its only codec), the
// TimeForm of occurred_at, and whether the payload is spliced out of a field
// that is a whole JSON event.
type outcome uint32

const (
	outcomeSplice    outcome = 1 << event.NumAttributes
	outcomeTimeShift         = uint(event.NumAttributes) + 1
)

func holds(a event.Attribute) outcome { return 1 << a }

// shapePlan is what a Writer knows of a shape: a variant per outcome.
type shapePlan struct {
	shape    *event.Shape
	variants map[outcome]*variant
	last     *variant
}

// variant is a shape with an outcome.
type variant struct {
	outcome outcome
	layout  pq.Value
	size    int   // of the layout's text
	group   int   // the last row group whose dictionary has the layout
	rest    []int // the fields whose values go to rest, in order
	spliced int   // the field that goes there as prefix and suffix, or -1
}

// variant returns the plan's variant for that outcome.
func (p *shapePlan) variant(o outcome) (*variant, error) {
	if p.last != nil && p.last.outcome == o {
		return p.last, nil
	}
	v, ok := p.variants[o]
	if !ok {
		var err error
		if v, err = newVariant(p.shape, o); err != nil {
			return nil, err
		}
		if p.variants == nil {
			p.variants = make(map[outcome]*variant)
		}
		p.variants[o] = v
	}
	p.last = v
	return v, nil
}

func newVariant(shape *event.Shape, o outcome) (*variant, error) {
	l := make(layout, len(shape.Names))
	for i, name := range shape.Names {
		l[i].name = name
	}
	for a := range event.NumAttributes {
		field := shape.Source[a]
		if field < 0 || o&holds(a) == 0 || l[field].source != fromRest {
			continue
		}
		s := &l[field]
		s.column = columnOf[a]
		switch a {
		case event.Version:
			s.source = fromNumber
		case event.OccurredAt:
			s.source, s.form = fromTime, event.TimeForm(o>>outcomeTimeShift)
		default:
			s.source = fromText
		}
	}
	v := &variant{outcome: o, spliced: -1}
	if o&outcomeSplice != 0 && l[shape.Embedded].source == fromRest {
		l[shape.Embedded].source, l[shape.Embedded].column = fromPayload, colPayload
		v.spliced = shape.Embedded
	}
	for i, s := range l {
		if s.source == fromRest || s.source == fromPayload {
			v.rest = append(v.rest, i)
		}
	}
	text, err := l.text()
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	v.size = len(text)
	v.layout = pq.ByteArrayValue(text)
	return v, nil
}
