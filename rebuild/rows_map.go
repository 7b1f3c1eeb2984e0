package rebuild

import (
	"context"
	"fmt"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// mapRows makes rows with a function in Go.
type mapRows struct {
	selector *selector
	reader   projection.Reader
	event    projection.Event
	block    *projection.Rows
	add      func(*projection.Event) error // to the block
	wholly   bool                          // all of events is read, as letters need it
}

func newMapRows(sub *subject, s *selector) (*mapRows, error) {
	block, err := projection.NewRows(&sub.def.Table)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", sub.def.Name, err)
	}
	add, err := sub.set.Adder(sub.def, block)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the projection
	}
	reads, err := sub.set.Reads(sub.def)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the projection
	}
	return &mapRows{selector: s, reader: projection.Reader{Together: true, Only: reads}, block: block, add: add}, nil
}

// make implements rowMaker.
func (r *mapRows) make(_ context.Context, b *batch, _ bool) (made, error) {
	r.begin()
	var m made
	for _, run := range b.runs {
		if err := r.take(run, &b.events, &m.letters); err != nil {
			return m, err
		}
	}
	m.rows = uint64(r.block.Len()) //nolint:gosec // a length
	return m, nil
}

// begin implements blockMaker.
func (r *mapRows) begin() { r.block.Reset() }

// take implements blockMaker.
func (r *mapRows) take(of run, b *event.Batch, letters *[]Letter) error {
	return r.selector.each(of.stream, of.incarnation, b, of.from, of.to, letters, func(e *event.Event, env *event.Envelope) error {
		r.reader.Read(&r.event, of.stream, of.incarnation, e, env)
		if err := r.add(&r.event); err != nil {
			*letters = append(*letters, letterOf(of.stream, of.incarnation, e.ID, env, err.Error()))
		}
		return nil
	})
}

// needs implements blockMaker: what letters say of an event is not among them.
func (r *mapRows) needs() event.Attributes {
	if r.wholly || r.reader.Only == 0 || r.selector.upcaster != nil || r.selector.scope != nil || r.selector.wanted != nil || r.selector.near != nil {
		return 0
	}
	if r.selector.types != nil {
		return r.reader.Only | event.AttributesOf(event.Type)
	}
	return r.reader.Only
}

// full implements blockMaker.
func (r *mapRows) full() bool { return r.block.Len() >= blockRows || r.block.Bytes() >= rowsBytes }

// flush implements blockMaker.
func (r *mapRows) flush(ctx context.Context, db *chstore.Store, load chstore.Load, _ *[]Letter) (rows int, err error) {
	_, err = r.insert(ctx, db, load)
	rows = r.block.Len()
	r.block.Reset()
	return rows, err
}

// insert implements rowMaker.
func (r *mapRows) insert(ctx context.Context, db *chstore.Store, load chstore.Load) (uint64, error) {
	if r.block.Len() == 0 {
		return 0, nil
	}
	return db.LoadRows(ctx, r.block.Block(), load) //nolint:wrapcheck // it says what
}
