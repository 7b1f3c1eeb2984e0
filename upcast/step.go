package upcast

import (
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// step is one declared change of an event. It is about a place in the payload
// (path), or about a field of the entry.
type step struct {
	op      string
	path    *path
	to      *path
	field   string
	toField string
	value   []byte // JSON
	text    string // of expr
	expr    *event.Expression
}

// The operations.
const (
	opRename  = "rename"
	opDefault = "default"
	opDrop    = "drop"
	opSet     = "set"
	opExpr    = "expr"
)

// String names the step: "rename customer_name".
func (s *step) String() string { return s.op + " " + s.place() }

func (s *step) place() string {
	if s.path == nil {
		return fmt.Sprintf("field %q", s.field)
	}
	return s.path.text
}

func (s *step) canonical() canonicalStep {
	c := canonicalStep{Op: s.op, At: s.place(), Value: string(s.value) + s.text}
	switch {
	case s.to != nil:
		c.To = s.to.text
	case s.toField != "":
		c.To = fmt.Sprintf("field %q", s.toField)
	}
	return c
}

func (s *step) apply(d *Edit) error {
	if s.path == nil {
		return s.applyToField(d)
	}
	if s.op == opRename || s.op == opDrop {
		if len(d.Payload()) == 0 {
			return nil // nothing to rename or drop
		}
	}
	switch s.op {
	case opRename:
		return d.rename(s.path, s.to)
	case opDrop:
		return d.drop(s.path)
	case opDefault:
		return d.setDefault(s.path, s.value)
	case opSet:
		return d.set(s.path, s.value)
	default:
		return s.compute(d)
	}
}

// compute puts the result of the expression where path leads to. A result of
// nil changes nothing.
func (s *step) compute(d *Edit) error {
	if _, err := d.json(); err != nil {
		return err
	}
	d.sync()
	now := d.current()
	return d.change(s.path, func(dst, element []byte) ([]byte, error) {
		var item []byte
		if len(s.path.groups) > 1 {
			item = element
		}
		value, err := s.eval(&now, d.env, item)
		if err != nil || value == nil {
			return append(dst, element...), err
		}
		return set(dst, element, s.path.last(), value)
	})
}

// eval gives the JSON of the expression's result; nil when that is nil.
func (s *step) eval(e *event.Event, env *event.Envelope, item []byte) ([]byte, error) {
	result, err := s.expr.Eval(e, env, item)
	if err != nil || result == nil {
		return nil, err
	}
	value, err := marshal(result)
	if err != nil {
		return nil, fmt.Errorf("the result is not JSON: %w", err)
	}
	return value, nil
}

func (s *step) applyToField(d *Edit) error {
	switch s.op {
	case opRename:
		return d.RenameField(s.field, s.toField)
	case opDrop:
		d.DropField(s.field)
		return nil
	case opDefault:
		if _, ok := d.Field(s.field); !ok {
			d.SetField(s.field, fieldText(s.value))
		}
		return nil
	case opSet:
		d.SetField(s.field, fieldText(s.value))
		return nil
	case opExpr:
		d.sync()
		now := d.current()
		value, err := s.eval(&now, d.env, nil)
		if err == nil && value != nil {
			d.SetField(s.field, fieldText(value))
		}
		return err
	default:
		return errors.New("there is no such step")
	}
}

// fieldText is the value of a field: a text as it is, else JSON.
func fieldText(value []byte) []byte {
	if value[0] != '"' {
		return value
	}
	return textOf(value)
}
