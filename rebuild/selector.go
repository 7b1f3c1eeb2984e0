package rebuild

import (
	"fmt"
	"slices"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/upcast"
)

// Letter is an event that a projection could not use, and was put aside.
type Letter struct {
	Stream      string   `json:"stream"`
	Incarnation int      `json:"incarnation"`
	ID          event.ID `json:"id"`
	EventID     string   `json:"event_id,omitempty"`
	Type        string   `json:"type,omitempty"`
	Tenant      string   `json:"tenant,omitempty"` // whose event it is, before any upcasting that failed
	Reason      string   `json:"reason"`
}

// String names the event and says why.
func (l *Letter) String() string {
	at := place{Incarnation: l.Incarnation, ID: l.ID}
	return fmt.Sprintf("event %s of stream %q: %s", showPlace(at), l.Stream, l.Reason)
}

// selector makes blocks of the events that a projection is made of: it takes them
// through the upcasters, and leaves out what is of other types or of another part
// of the table. It is not safe for concurrent use.
type selector struct {
	types     *event.Matcher   // nil: all
	upcaster  *upcast.Upcaster // nil: none
	extractor *event.Extractor
	scope     *Scope // nil: all
	// wanted, if set, says for events within and outside of the scope, by their
	// places, whether they are to be had; it takes the place of scope.
	wanted func(stream string, at place, within bool) bool
	// near, if set, selects the events within it that are not within scope.
	near *Scope

	event    event.Event
	env      event.Envelope
	upcasted event.Batch
	changed  event.Event
}

func newSelector(d *projection.Definition, mapping event.Mapping, upcasters *upcast.Set) (*selector, error) {
	s := &selector{extractor: mapping.Extractor()}
	if len(d.Source.Types) > 0 {
		filter := event.Filter{Types: d.Source.Types}
		types, err := filter.Compile()
		if err != nil {
			return nil, fmt.Errorf("select the events of %s: %w", d.Name, err)
		}
		s.types = types
	}
	if d.Upcast && upcasters.Len() > 0 {
		s.upcaster = upcasters.Upcaster(mapping)
	}
	return s, nil
}

// each calls take for the events [from, to) of a batch that are selected, as they
// are after the upcasters. What take is given is valid during the call.
func (s *selector) each(stream string, incarnation int, b *event.Batch, from, to int, letters *[]Letter, take func(*event.Event, *event.Envelope) error) error {
	for i := from; i < to; i++ {
		b.Event(i, &s.event)
		e, env := &s.event, &s.env
		shape := s.extractor.Extract(e, env)
		if s.upcaster != nil {
			s.upcasted.Reset()
			changed, err := s.upcaster.Apply(e, env, shape, &s.upcasted)
			if err != nil {
				*letters = append(*letters, letterOf(stream, incarnation, e.ID, env, err.Error()))
				continue
			}
			if changed {
				s.upcasted.Event(0, &s.changed)
				e = &s.changed
				s.extractor.Extract(e, env)
			}
		}
		if !s.selects(stream, incarnation, e.ID, env) {
			continue
		}
		if err := take(e, env); err != nil {
			return err
		}
	}
	return nil
}

func (s *selector) selects(stream string, incarnation int, id event.ID, env *event.Envelope) bool {
	if s.types != nil {
		kind, _ := env.Text(event.Type)
		if !s.types.MatchType(kind) {
			return false
		}
	}
	switch {
	case s.near != nil:
		return s.near.within(id, env) && !s.scope.within(id, env)
	case s.wanted != nil:
		return s.wanted(stream, place{Incarnation: incarnation, ID: id}, s.scope.within(id, env))
	case s.scope != nil:
		return s.scope.within(id, env)
	}
	return true
}

// within says whether an event is of the scope, by the values that the columns of
// the relation events have.
func (s *Scope) within(id event.ID, env *event.Envelope) bool {
	if len(s.Tenants) > 0 && !slices.Contains(s.Tenants, columnText(env, event.Tenant)) {
		return false
	}
	if len(s.Aggregates) > 0 && !slices.Contains(s.Aggregates, columnText(env, event.AggregateID)) {
		return false
	}
	if s.From.IsZero() && s.To.IsZero() {
		return true
	}
	micros, ok := env.Time(id)
	if !ok {
		micros = 0
	}
	return (s.From.IsZero() || micros >= s.From.UnixMicro()) && (s.To.IsZero() || micros < s.To.UnixMicro())
}

// columnText gives a text attribute as the relation events has it.
func columnText(env *event.Envelope, a event.Attribute) string {
	value, _ := env.Text(a)
	return string(value)
}

func letterOf(stream string, incarnation int, id event.ID, env *event.Envelope, reason string) Letter {
	return Letter{
		Stream: stream, Incarnation: incarnation, ID: id, Reason: reason,
		EventID: columnText(env, event.EventID), Type: columnText(env, event.Type), Tenant: columnText(env, event.Tenant),
	}
}
