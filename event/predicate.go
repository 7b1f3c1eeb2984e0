package event

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
)

// Predicate is a compiled condition on events, in the language of
// expr-lang.org. It speaks of
//
//	id, ms                        the ID as text; its milliseconds
//	type, tenant, aggregate_type, aggregate_id, event_id,
//	correlation_id, causation_id, schema_version
//	                              texts, "" when the event has none
//	version                       the aggregate's version, a whole number or nil
//	occurred_at                   a time, the ID's where the event has none:
//	                              occurred_at > date("2026-11-21")
//	payload                       the payload's JSON, or nil when it is none
//	fields                        the first value of each field by its name, as
//	                              text, "" when there is none: fields["trace-id"]
//
// Payloads differ from event to event, so what a payload does not have is no
// error but nil: a member or an element that is not there, and those of values
// that have none. A sum with nil is nil, a list that is nil is an empty one.
// Nil is equal to nil only, neither less nor greater than anything, and false,
// so that a missing member does not match. Values of different kinds have no
// order, though: whether a text is less than a number is an error.
//
// Any number of goroutines may use a Predicate at once.
type Predicate struct {
	program *vm.Program
	loads   []func(*subject, *Event, *Envelope) // the names that it mentions
	payload bool                                // it mentions payload or fields
}

// subject is what an expression sees of an event. Payload and fields cost
// something to make: the compiler puts calls of the two functions in the place
// of their names, so that they are made when an evaluation gets there.
type subject struct {
	ID            string            `expr:"id"`
	Ms            int               `expr:"ms"`
	EventID       string            `expr:"event_id"`
	Type          string            `expr:"type"`
	Tenant        string            `expr:"tenant"`
	AggregateType string            `expr:"aggregate_type"`
	AggregateID   string            `expr:"aggregate_id"`
	Version       any               `expr:"version"`
	OccurredAt    time.Time         `expr:"occurred_at"`
	CorrelationID string            `expr:"correlation_id"`
	CausationID   string            `expr:"causation_id"`
	SchemaVersion string            `expr:"schema_version"`
	Payload       any               `expr:"payload"`
	Fields        map[string]string `expr:"fields"`

	LoadPayload func() any               `expr:"payload()"`
	LoadFields  func() map[string]string `expr:"fields()"`
}

// loaders fill in what the names stand for.
func loaders() map[string]func(*subject, *Event, *Envelope) {
	text := func(a Attribute, of func(*subject) *string) func(*subject, *Event, *Envelope) {
		return func(s *subject, _ *Event, env *Envelope) {
			value, _ := env.Get(a)
			*of(s) = string(value)
		}
	}
	return map[string]func(*subject, *Event, *Envelope){
		"id":             func(s *subject, e *Event, _ *Envelope) { s.ID = e.ID.String() },
		"ms":             func(s *subject, e *Event, _ *Envelope) { s.Ms = int(min(e.ID.Ms, math.MaxInt)) },
		"event_id":       text(EventID, func(s *subject) *string { return &s.EventID }),
		"type":           text(Type, func(s *subject) *string { return &s.Type }),
		"tenant":         text(Tenant, func(s *subject) *string { return &s.Tenant }),
		"aggregate_type": text(AggregateType, func(s *subject) *string { return &s.AggregateType }),
		"aggregate_id":   text(AggregateID, func(s *subject) *string { return &s.AggregateID }),
		"correlation_id": text(CorrelationID, func(s *subject) *string { return &s.CorrelationID }),
		"causation_id":   text(CausationID, func(s *subject) *string { return &s.CausationID }),
		"schema_version": text(SchemaVersion, func(s *subject) *string { return &s.SchemaVersion }),
		"version": func(s *subject, _ *Event, env *Envelope) {
			if version, ok := env.AggregateVersion(); ok {
				s.Version = int(version)
			}
		},
		"occurred_at": func(s *subject, e *Event, env *Envelope) {
			if micros, ok := env.Time(e.ID); ok {
				s.OccurredAt = time.UnixMicro(micros).UTC()
			}
		},
		"payload": func(s *subject, _ *Event, env *Envelope) {
			s.LoadPayload = func() any {
				if s.Payload == nil {
					value, _ := env.Get(Payload)
					s.Payload = decodeJSON(value)
				}
				return s.Payload
			}
		},
		"fields": func(s *subject, e *Event, _ *Envelope) {
			s.LoadFields = func() map[string]string {
				if s.Fields == nil {
					s.Fields = make(map[string]string, len(e.Fields))
					for _, f := range e.Fields {
						if _, ok := s.Fields[string(f.Name)]; !ok {
							s.Fields[string(f.Name)] = string(f.Value)
						}
					}
				}
				return s.Fields
			}
		},
	}
}

// CompilePredicate compiles a condition. Unknown names, wrong types and syntax
// are errors that show the position.
func CompilePredicate(text string) (*Predicate, error) {
	program, used, err := compile(text, expr.Env(&subject{}), expr.AsBool())
	if err != nil {
		return nil, fmt.Errorf("compile predicate: %w", err)
	}
	return &Predicate{program: program, loads: loadsOf(used), payload: used["payload"] || used["fields"]}, nil
}

// compile compiles a text in which nil is safe, and tells the names of a
// subject that it uses.
func compile(text string, options ...expr.Option) (program *vm.Program, used map[string]bool, err error) {
	// Once as it stands: calls that patches put in are not checked inside.
	if _, err := expr.Compile(text, options...); err != nil {
		return nil, nil, err
	}
	names := &nameCollector{loaders: loaders(), used: make(map[string]bool)}
	options = append(options, expr.Patch(names), expr.Patch(nilSafety{}))
	for name, f := range nilSafeFunctions() {
		options = append(options, expr.Function(name, f.call, f.signature))
	}
	program, err = expr.Compile(text, options...)
	if err == nil && names.wholeEnv {
		err = errors.New("unknown name $env: name what it should hold")
	}
	return program, names.used, err
}

// loadsOf returns the loaders of names.
func loadsOf(used map[string]bool) (loads []func(*subject, *Event, *Envelope)) {
	all := loaders()
	for name := range used {
		loads = append(loads, all[name])
	}
	return loads
}

// Match reports whether the condition holds for an event with that envelope.
// An error says what could not be evaluated, and where, and names the event.
func (p *Predicate) Match(e *Event, env *Envelope) (bool, error) {
	s := &subject{}
	for _, load := range p.loads {
		load(s, e, env)
	}
	result, err := expr.Run(p.program, s)
	if err != nil {
		return false, fmt.Errorf("evaluate predicate on event %s: %w", e.ID, err)
	}
	holds, err := truth(result)
	if err != nil {
		return false, fmt.Errorf("evaluate predicate on event %s: %w", e.ID, err)
	}
	return holds, nil
}

// nameCollector notes which names an expression uses, and makes calls of those
// that are functions.
type nameCollector struct {
	loaders  map[string]func(*subject, *Event, *Envelope)
	used     map[string]bool
	wholeEnv bool
}

// Visit implements ast.Visitor.
func (c *nameCollector) Visit(node *ast.Node) {
	name, ok := (*node).(*ast.IdentifierNode)
	switch {
	case !ok:
	case name.Value == "$env":
		c.wholeEnv = true
	case c.loaders[name.Value] != nil:
		c.used[name.Value] = true
		if name.Value == "payload" || name.Value == "fields" {
			ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: name.Value + "()"}})
		}
	}
}
