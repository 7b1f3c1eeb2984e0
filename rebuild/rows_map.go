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
	mapper   projection.Mapper
	selector *selector
	reader   projection.Reader
	block    *projection.Rows
}

func newMapRows(sub *subject, s *selector) (*mapRows, error) {
	mapper, err := sub.set.Mapper(sub.def)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the projection
	}
	block, err := projection.NewRows(&sub.def.Table)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", sub.def.Name, err)
	}
	return &mapRows{mapper: mapper, selector: s, block: block}, nil
}

// make implements rowMaker.
func (r *mapRows) make(_ context.Context, b *batch, _ bool) (made, error) {
	r.block.Reset()
	var m made
	for _, run := range b.runs {
		err := r.selector.each(run.stream, run.incarnation, &b.events, run.from, run.to, &m.letters, func(e *event.Event, env *event.Envelope) error {
			if err := r.one(run, e, env); err != nil {
				m.letters = append(m.letters, letterOf(run.stream, run.incarnation, e.ID, env, err.Error()))
			}
			return nil
		})
		if err != nil {
			return m, err
		}
	}
	m.rows = uint64(r.block.Len()) //nolint:gosec // a length
	return m, nil
}

// one makes the rows of one event: all of them, or none.
func (r *mapRows) one(of run, e *event.Event, env *event.Envelope) error {
	var ev projection.Event
	r.reader.Read(&ev, of.stream, of.incarnation, e, env)
	rows, err := r.mapper(&ev)
	if err != nil {
		return err //nolint:wrapcheck // it is the reason as people see it
	}
	return r.block.Append(rows...) //nolint:wrapcheck // it is the reason as people see it
}

// insert implements rowMaker.
func (r *mapRows) insert(ctx context.Context, db *chstore.Store, load chstore.Load) (uint64, error) {
	if r.block.Len() == 0 {
		return 0, nil
	}
	return db.LoadRows(ctx, r.block.Block(), load) //nolint:wrapcheck // it says what
}
