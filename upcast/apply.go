package upcast

import (
	"errors"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/event"
)

// names are what attributes are called where an event does not have them yet.
type names [event.NumAttributes]string

// Upcaster applies a Set. It is not safe for concurrent use: each goroutine has
// its own.
type Upcaster struct {
	set  *Set
	edit Edit
}

// Upcaster returns one for events of a mapping, which must be that of the
// envelopes that it is given.
func (s *Set) Upcaster(m event.Mapping) *Upcaster {
	defaults := event.DefaultMapping()
	name := func(configured, otherwise []string) string {
		switch {
		case len(configured) == 0:
			return otherwise[0]
		case configured[0] == "-":
			return ""
		default:
			return configured[0]
		}
	}
	return &Upcaster{set: s, edit: Edit{
		extract: m.Extractor(),
		mapping: &names{
			event.Type:          name(m.EventType, defaults.EventType),
			event.SchemaVersion: name(m.SchemaVersion, defaults.SchemaVersion),
		},
	}}
}

// plain is a name without separators, in lower case, as CloudEvents want it;
// mappings take it for the same.
func plain(name string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_.: ", r) {
			return -1
		}
		return r
	}, name))
}

// Apply takes an event through its chain of rules and appends what becomes of
// it, under the same ID, to out. Without a rule for it nothing is appended and
// changed is false: the event is as it should be. env and shape are those of e;
// e may lie in out.
//
// An error is an *Error, and nothing is appended: the event cannot be brought
// into today's shape, however often that is tried.
func (u *Upcaster) Apply(e *event.Event, env *event.Envelope, shape *event.Shape, out *event.Batch) (changed bool, err error) {
	rule := u.set.rule(env)
	if rule == nil {
		return false, nil
	}
	d := &u.edit
	d.begin(e, env, shape)
	for ; rule != nil; rule = u.set.next(rule) {
		if err := d.apply(rule); err != nil {
			var step *stepError
			failed := &Error{Rule: rule.String(), Source: rule.Source(), ID: e.ID, Err: err}
			if errors.As(err, &step) {
				failed.Step, failed.Err = step.step, step.err
			}
			return false, failed
		}
	}
	now := d.current()
	out.Append(&now)
	return true, nil
}

// apply takes the event through one rule.
func (d *Edit) apply(r *Rule) error {
	if r.Func != nil {
		if err := r.Func(d); err != nil {
			return err
		}
	}
	for i := range r.steps {
		if err := r.steps[i].apply(d); err != nil {
			return &stepError{fmt.Sprintf("step %d, %s", i+1, &r.steps[i]), err}
		}
	}
	to := [...]struct {
		attribute event.Attribute
		old, now  string
	}{{event.Type, r.Type, r.toType()}, {event.SchemaVersion, r.From, r.toVersion()}}
	for _, t := range to {
		if got, _ := d.Attribute(t.attribute); string(got) != t.old && string(got) != t.now {
			return fmt.Errorf("a step changed what %s is read from: a rule changes that itself, by its to and its type step", t.attribute)
		}
	}
	for _, t := range to {
		if err := d.setAttribute(t.attribute, t.now); err != nil {
			return err
		}
	}
	// Else another replay of the event would take it through the rule again.
	for _, t := range to {
		if got, _ := d.Attribute(t.attribute); string(got) != t.now {
			return fmt.Errorf("%s does not read %q once that is written: another field or member counts first", t.attribute, t.now)
		}
	}
	return nil
}

// stepError is an error of one step.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// Error is an event that a rule could not change.
type Error struct {
	Rule   string   // which rule, as Rule.String names it
	Source string   // where that was declared
	Step   string   // which step of it, counted from 1; "" outside of steps
	ID     event.ID // the event
	Err    error
}

// Error names the rule, the step and the event.
func (e *Error) Error() string {
	step := ""
	if e.Step != "" {
		step = ", " + e.Step
	}
	return fmt.Sprintf("upcast event %s by %s (%s%s): %v", e.ID, e.Rule, e.Source, step, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
