package rebuild

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/foldstore"
)

// A statement puts so many rows of final states into a table, or so many bytes of them.
const (
	foldBlock      = 50_000
	foldBlockBytes = 96 << 20
)

// fold is the load of a projection of kind fold: all events up to where the plan goes
// are taken to their aggregates, stream after stream, and then the rows of the final
// states are written once. Rows replace each other, so that this can be done again.
//
// In a scoped rebuild all events are folded too, since the table will be fed from
// their states; rows are made of the aggregates within the scope.
func (b *build) fold(ctx context.Context) error {
	maker, err := b.svc.rows(b.sub, b.cp.Generation, &b.spec.Scope, nil)
	if err != nil {
		return err
	}
	r := maker.(*foldRows)
	err = b.foldInto(ctx, r)
	return errors.Join(err, r.close())
}

// folded is how many events of the plan are in the states, for display.
func (b *build) folded(ctx context.Context, r *foldRows) uint64 {
	at := r.states.Positions()
	if at == nil {
		return 0
	}
	var left uint64
	filter, err := planFilter(b.sub.def, &b.spec.Scope)
	for stream, head := range b.plan.heads() {
		from := at[stream]
		if from == head || err != nil {
			continue
		}
		spec := archive.PlanSpec{Stream: stream, Format: b.spec.Format, Filter: filter} // of a stream that was made anew since, all
		if max(from.Incarnation, 1) == head.Incarnation {
			spec.Incarnation, spec.Range = head.Incarnation, event.Range{From: from.ID.Next(), To: head.ID}
		}
		var plan *archive.Plan
		if plan, err = b.svc.opts.Archive.Plan(ctx, spec); err == nil {
			left += plan.Totals.Events
		}
	}
	if err != nil {
		b.h.Log("info", fmt.Sprintf("how much is in the states is not known: %v", err))
		return 0
	}
	return b.plan.Events - min(b.plan.Events, left)
}

func (b *build) foldInto(ctx context.Context, r *foldRows) error {
	b.cp.Letters = 0
	b.foldFrom(r)
	b.events = b.folded(ctx, r)
	err := r.bring(ctx, b.plan.heads(), func(some []Letter) error {
		return allowed(b.sub.def, uint64(r.states.Refusals()), some) //nolint:gosec // a count
	}, func(ctx context.Context, events int) error {
		b.mu.Lock()
		b.events += uint64(events) //nolint:gosec // a count
		err := b.progress()
		b.mu.Unlock()
		b.tempo.spend(uint64(events)) //nolint:gosec // a count
		return errors.Join(err, b.tempo.keep(ctx))
	})
	if err != nil {
		return err
	}
	if err := b.foldLetters(ctx, r); err != nil {
		return err
	}
	// Another attempt may give other blocks the same numbers: none is taken for one that
	// the table has had.
	first := rand.IntN(1 << 40) //nolint:gosec // no secret
	return r.write(ctx, b.spec.Concurrency, func(ctx context.Context, block *projection.Rows, n int) error {
		return patiently(ctx, b.holdsLocked, func(ctx context.Context) error {
			_, err := b.db.LoadRows(ctx, block.Block(), chstore.Load{Into: b.shadow(), Chunk: b.carried(), Attempt: first + n})
			return err //nolint:wrapcheck // it says what
		})
	})
}

// foldFrom says with which states the load begins.
func (b *build) foldFrom(r *foldRows) {
	switch {
	case r.states.Lost() != "":
		b.h.Log("warn", "states on this machine are thrown away, and the fold begins with the first event: "+r.states.Lost())
	case r.states.Positions() != nil:
		b.h.Log("info", "the fold goes on from its states on this machine")
	case b.h.Epoch() > 1:
		b.h.Log("warn", "there are no states on this machine: the fold begins with the first event")
	}
}

// foldLetters puts everything aside that could not be used.
func (b *build) foldLetters(ctx context.Context, r *foldRows) error {
	var letters []Letter
	for note, err := range r.states.Refused(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it says what
		}
		l, err := readNote(note)
		if err != nil {
			return err
		}
		letters = append(letters, l)
	}
	return b.aside(ctx, b.carried(), letters)
}

// write gives the rows of all aggregates to insert, by blocks with numbers from 0 on,
// which some workers make at once.
func (r *foldRows) write(ctx context.Context, workers int, insert func(ctx context.Context, block *projection.Rows, n int) error) error {
	var blocks []*projection.Rows
	for range workers {
		block, err := r.newBlock()
		if err != nil {
			return err
		}
		blocks = append(blocks, block)
	}
	var numbers atomic.Int64
	flush := func(ctx context.Context, block *projection.Rows) error {
		if err := insert(ctx, block, int(numbers.Add(1)-1)); err != nil {
			return err
		}
		block.Reset()
		return nil
	}
	err := r.states.Each(ctx, workers, func(ctx context.Context, worker int, a foldstore.Aggregate) error {
		err := a.Err
		if err == nil {
			err = blocks[worker].Append(r.inScope(a.Rows)...)
		}
		if err != nil {
			return fmt.Errorf("make the rows of aggregate %q: %w", a.Key, err)
		}
		if blocks[worker].Len() < foldBlock && blocks[worker].Bytes() < foldBlockBytes {
			return nil
		}
		return flush(ctx, blocks[worker])
	})
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	for _, block := range blocks {
		if block.Len() > 0 {
			if err := flush(ctx, block); err != nil {
				return err
			}
		}
	}
	return nil
}

// inScope leaves the rows out that are carried over.
func (r *foldRows) inScope(rows []projection.Row) []projection.Row {
	if r.scope == nil {
		return rows
	}
	return slices.DeleteFunc(slices.Clone(rows), func(row projection.Row) bool {
		return len(r.scope.Tenants) > 0 && !slices.Contains(r.scope.Tenants, fmt.Sprint(row[r.sub.def.Scope.Tenant])) ||
			len(r.scope.Aggregates) > 0 && !slices.Contains(r.scope.Aggregates, fmt.Sprint(row[r.sub.def.Scope.Aggregate]))
	})
}
