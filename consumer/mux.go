package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/event"
)

// Handler handles one event. What it writes through tx becomes visible together
// with the consumer's position, or not at all. It must not end tx itself, nor keep
// it. An error rolls back and tries again later: see Config.Retry and Permanent.
type Handler[Tx any] func(ctx context.Context, tx Tx, r *Record) error

// Mux finds the handler of an event by its type. It is filled before the consumer
// is made and read only after that. Events that no handler is for are skipped.
type Mux[Tx any] struct {
	exact    map[string]Handler[Tx]
	patterns []pattern[Tx]
	err      error
}

type pattern[Tx any] struct {
	pattern string
	handler Handler[Tx]
}

// NewMux returns a Mux without handlers.
func NewMux[Tx any]() *Mux[Tx] { return &Mux[Tx]{exact: map[string]Handler[Tx]{}} }

// Handle registers a handler for a type of events, or for a pattern of types as
// event.MatchPattern has them: "Order*". A whole name wins over patterns, and of
// these the one that was registered first. "*" also takes events without a type.
// Mistakes, such as a type with two handlers, are reported by New.
func (m *Mux[Tx]) Handle(types string, h Handler[Tx]) {
	switch {
	case h == nil:
		m.mistake(fmt.Errorf("handler for type %q is nil", types))
	case types == "":
		m.mistake(errors.New(`handler for type "": name a type, or "*" for all`))
	case strings.ContainsAny(types, `*?[\`):
		for _, p := range m.patterns {
			if p.pattern == types {
				m.mistake(fmt.Errorf("types %q have two handlers", types))
			}
		}
		m.patterns = append(m.patterns, pattern[Tx]{types, h})
	default:
		if m.exact[types] != nil {
			m.mistake(fmt.Errorf("type %q has two handlers", types))
		}
		m.exact[types] = h
	}
}

// On registers a handler for a type of events, or a pattern of types, whose payload
// is JSON and decodes into a P. A payload that does not is a Permanent error.
//
//	consumer.On(mux, "OrderPlaced", func(ctx context.Context, tx *sql.Tx, e consumer.Event[OrderPlaced]) error { … })
func On[P, Tx any](m *Mux[Tx], types string, h func(ctx context.Context, tx Tx, e Event[P]) error) {
	if h == nil {
		m.mistake(fmt.Errorf("handler for type %q is nil", types))
		return
	}
	m.Handle(types, func(ctx context.Context, tx Tx, r *Record) error {
		e := Event[P]{Record: r}
		if err := json.Unmarshal(r.Payload, &e.Data); err != nil {
			return Permanent(fmt.Errorf("decode the payload of %s %s as %T: %w", r.Type, r.ID, e.Data, err))
		}
		return h(ctx, tx, e)
	})
}

func (m *Mux[Tx]) mistake(err error) { m.err = errors.Join(m.err, err) }

// find returns the handler for a type, or nil.
func (m *Mux[Tx]) find(kind []byte) Handler[Tx] {
	if h := m.exact[string(kind)]; h != nil {
		return h
	}
	for _, p := range m.patterns {
		if event.MatchPattern(p.pattern, string(kind)) {
			return p.handler
		}
	}
	return nil
}

func (m *Mux[Tx]) validate() error {
	if len(m.exact) == 0 && len(m.patterns) == 0 && m.err == nil {
		return errors.New("no handler is registered")
	}
	return m.err
}
