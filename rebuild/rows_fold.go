package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/foldstore"
)

// foldRows makes rows with a fold: it takes events to the states of their aggregates,
// and gives the rows of every aggregate that an event is about. States lie in a
// directory of this machine; where that is lost they are made again from the first
// event on.
type foldRows struct {
	svc      *Service
	folder   projection.Folder
	states   *foldstore.Store
	selector *selector
	reader   projection.Reader
	block    *projection.Rows
	touched  map[string]bool
	unsaved  int // events since the last checkpoint
}

// checkpointEvents is how many events may have to be folded again after a crash.
const checkpointEvents = 200_000

func newFoldRows(svc *Service, sub *subject, generation uint64, s *selector) (*foldRows, error) {
	folder, err := sub.set.Folder(sub.def)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the projection
	}
	block, err := projection.NewRows(&sub.def.Table)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", sub.def.Name, err)
	}
	name := fmt.Sprintf("%s-g%d", sub.def.Name, generation)
	states, err := foldstore.Open(folder, foldstore.Options{Dir: filepath.Join(svc.opts.StateDir, name), Identity: name + " " + sub.digest})
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", sub.def.Name, err)
	}
	return &foldRows{svc: svc, folder: folder, states: states, selector: s, block: block, touched: map[string]bool{}}, nil
}

// close gives the directory of states back.
func (r *foldRows) close() error { return r.states.Close() } //nolint:wrapcheck // it says what

// apply takes events of a stream to their aggregates.
func (r *foldRows) apply(of run, b *event.Batch, letters *[]Letter) error {
	return r.selector.each(of.stream, of.incarnation, b, of.from, of.to, letters, func(e *event.Event, env *event.Envelope) error {
		var ev projection.Event
		r.reader.Read(&ev, of.stream, of.incarnation, e, env)
		_, err := r.states.Apply(&ev)
		if errors.Is(err, foldstore.ErrBroken) {
			return err
		}
		if err != nil {
			*letters = append(*letters, letterOf(of.stream, of.incarnation, e.ID, env, err.Error()))
			return nil
		}
		if key := r.folder.Key(&ev); key != "" {
			r.touched[key] = true
		}
		return nil
	})
}

// make implements rowMaker. Aggregates whose states have seen the events already give
// their rows too: the table may not have them.
func (r *foldRows) make(_ context.Context, b *batch, _ bool) (made, error) {
	r.block.Reset()
	clear(r.touched)
	var m made
	for _, run := range b.runs {
		if err := r.apply(run, &b.events, &m.letters); err != nil {
			return m, err
		}
	}
	r.states.ForgetChanged()
	for _, key := range slices.Sorted(maps.Keys(r.touched)) {
		rows, err := r.states.Rows(key)
		if err != nil {
			return m, fmt.Errorf("make the rows of aggregate %q: %w", key, err)
		}
		if err := r.append(key, rows); err != nil {
			return m, err
		}
	}
	m.rows = uint64(r.block.Len()) //nolint:gosec // a length
	r.unsaved += b.events.Len()
	return m, nil
}

func (r *foldRows) append(key string, rows []projection.Row) error {
	if err := r.block.Append(rows...); err != nil {
		return fmt.Errorf("make the rows of aggregate %q: %w", key, err)
	}
	return nil
}

// insert implements rowMaker.
func (r *foldRows) insert(ctx context.Context, db *chstore.Store, load chstore.Load) (uint64, error) {
	if r.block.Len() == 0 {
		return 0, nil
	}
	return db.LoadRows(ctx, r.block.Block(), load) //nolint:wrapcheck // it says what
}

// fed takes note of how far the table is: the states are kept then and now.
func (r *foldRows) fed(places map[string]place) error {
	if r.unsaved < checkpointEvents {
		return nil
	}
	r.unsaved = 0
	return r.states.Checkpoint(places) //nolint:wrapcheck // it says what
}

// warm brings the states to places: from where they are, or from the first event on.
// What cannot be used is given to letters.
func (r *foldRows) warm(ctx context.Context, places map[string]place, letters func([]Letter) error, progress func(events int) error) error {
	at := maps.Clone(r.states.Positions())
	if at == nil {
		at = map[string]place{}
	}
	reader := newReader(r.svc.opts.Archive, r.svc.opts.Redis, r.svc.opts.Mapping, nil)
	for _, name := range slices.Sorted(maps.Keys(places)) {
		if at[name].Compare(places[name]) >= 0 {
			continue
		}
		if err := r.warmStream(ctx, reader, name, at, places[name], letters, progress); err != nil {
			return err
		}
	}
	clear(r.touched)
	r.states.ForgetChanged()
	return r.states.Checkpoint(places) //nolint:wrapcheck // it says what
}

func (r *foldRows) warmStream(ctx context.Context, from *reader, name string, at map[string]place, upTo place, letters func([]Letter) error, progress func(events int) error) error {
	t := from.newTail(name, at[name])
	defer t.Close()
	for read, err := range t.Batches(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		n := read.Len()
		for n > 0 && (place{Incarnation: read.Incarnation, ID: read.ID(n - 1)}).Compare(upTo) > 0 {
			n--
		}
		var aside []Letter
		if err := r.apply(run{name, read.Incarnation, 0, n}, read.Batch, &aside); err != nil {
			return err
		}
		if err := errors.Join(letters(aside), progress(n)); err != nil {
			return err
		}
		clear(r.touched)
		r.states.ForgetChanged()
		if n > 0 {
			at[name] = place{Incarnation: read.Incarnation, ID: read.ID(n - 1)}
		}
		if r.unsaved += n; r.unsaved >= checkpointEvents {
			r.unsaved = 0
			if err := r.states.Checkpoint(at); err != nil {
				return err //nolint:wrapcheck // it says what
			}
		}
		if n < read.Len() || at[name].Compare(upTo) >= 0 {
			return nil
		}
	}
	return nil
}

// foldBlock is how many rows of final states go into one statement.
const foldBlock = 50_000

// all calls flush for blocks of the rows of all aggregates.
func (r *foldRows) all(ctx context.Context, flush func(block int) error) error {
	block := 0
	r.block.Reset()
	for aggregate, err := range r.states.All(ctx) {
		if err == nil {
			err = aggregate.Err
		}
		if err != nil {
			return fmt.Errorf("make the rows of aggregate %q: %w", aggregate.Key, err)
		}
		if err := r.append(aggregate.Key, aggregate.Rows); err != nil {
			return err
		}
		if r.block.Len() >= foldBlock || r.block.Bytes() >= chunkRaw {
			if err := flush(block); err != nil {
				return err
			}
			r.block.Reset()
			block++
		}
	}
	if r.block.Len() == 0 {
		return nil
	}
	return flush(block)
}

// fold is the load of a projection of kind fold: all events of the plan go to their
// aggregates, stream after stream, and then the rows of the final states are written
// once. Rows replace each other, so that this can be done again.
func (b *build) fold(ctx context.Context) error {
	maker, err := b.svc.rows(b.sub, b.cp.Generation, nil, nil)
	if err != nil {
		return err
	}
	r := maker.(*foldRows)
	err = b.foldInto(ctx, r)
	return errors.Join(err, r.close())
}

func (b *build) foldInto(ctx context.Context, r *foldRows) error {
	b.total = b.plan.Events
	b.cp.Letters = 0
	var letters []Letter
	err := r.warm(ctx, b.plan.heads(), func(some []Letter) error {
		letters = append(letters, some...)
		return allowed(b.sub.def, uint64(len(letters)), letters)
	}, func(events int) error {
		b.events += uint64(events) //nolint:gosec // a count
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return b.progress()
	})
	if err != nil {
		return err
	}
	if err := b.aside(ctx, b.carried(), letters); err != nil {
		return err
	}
	return r.all(ctx, func(block int) error {
		return patiently(ctx, b.holds, func(ctx context.Context) error {
			_, err := r.insert(ctx, b.db, chstore.Load{
				Into: b.shadow(), Chunk: b.carried(), Attempt: int(b.h.Epoch())*attemptsPerEpoch + block, //nolint:gosec // small
			})
			return err
		})
	})
}
