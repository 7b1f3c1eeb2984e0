package rebuild

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/foldstore"
)

// foldRows makes rows with a fold: it takes events to the states of their aggregates,
// and gives the rows of every aggregate that an event is about. Aggregates are split
// among workers by their keys, so that each has its events in the order of the stream.
// States lie in a directory of this machine; where that is lost they are made again
// from the first event on.
type foldRows struct {
	svc        *Service
	sub        *subject
	generation uint64
	folder     projection.Folder
	states     *foldstore.Store
	workers    []*foldWorker // each has a part of the states
	block      *projection.Rows
	// scope and wanted are those of a selector: other events go to their aggregates too,
	// but make no rows.
	scope  *Scope
	wanted func(stream string, at place, within bool) bool
	// dealt is up to where letters are dealt with.
	dealt   map[string]place
	unsaved int // events since the last checkpoint
}

// foldWorker makes events of a run of a batch, and then folds the events of its part of
// the aggregates.
type foldWorker struct {
	states   *foldstore.Part
	selector *selector
	reader   projection.Reader
	events   []foldEvent
	fields   []event.Field // of events
	touched  map[string]bool
	letters  []Letter
}

// foldEvent is an event on its way to its aggregate.
type foldEvent struct {
	projection.Event
	key    string
	part   int
	wanted bool
}

const (
	// maxFoldWorkers bounds the workers of one fold.
	maxFoldWorkers = 16
	// foldAlone is how many events one worker does by itself.
	foldAlone = 1000
)

func newFoldRows(svc *Service, sub *subject, generation uint64, s *selector) (*foldRows, error) {
	folder, err := sub.set.Folder(sub.def)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the projection
	}
	r := &foldRows{svc: svc, sub: sub, generation: generation, folder: folder, scope: s.scope, wanted: s.wanted}
	s.scope, s.wanted = nil, nil
	if r.block, err = r.newBlock(); err != nil {
		return nil, err
	}
	for i := range min(runtime.GOMAXPROCS(0), maxFoldWorkers) {
		if i > 0 {
			if s, err = newSelector(sub.def, svc.opts.Mapping, svc.opts.Upcasters); err != nil {
				return nil, err
			}
		}
		r.workers = append(r.workers, &foldWorker{selector: s, touched: map[string]bool{}})
	}
	r.states, err = foldstore.Open(folder, foldstore.Options{
		Dir: svc.stateDir(sub.def.Name, generation), Identity: fmt.Sprintf("%s-g%d %s %s", sub.def.Name, generation, sub.digest, sub.build), Parts: len(r.workers),
	})
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", sub.def.Name, err)
	}
	for i, w := range r.workers {
		w.states = r.states.Part(i)
	}
	r.dealt = r.states.Positions()
	if why := r.states.Lost(); why != "" {
		svc.opts.Logger.Warn("states of a fold are thrown away", "projection", sub.def.Name, "generation", generation, "reason", why)
	}
	return r, nil
}

func (r *foldRows) newBlock() (*projection.Rows, error) {
	block, err := projection.NewRows(&r.sub.def.Table)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", r.sub.def.Name, err)
	}
	return block, nil
}

// close gives the directory of states back.
func (r *foldRows) close() error { return r.states.Close() } //nolint:wrapcheck // it says what

// apply takes the events of a batch to their aggregates, and returns those that cannot
// be used. It is done when all workers are.
func (r *foldRows) apply(b *batch) ([]Letter, error) {
	workers, n := len(r.workers), b.events.Len()
	for _, w := range r.workers {
		w.events, w.fields, w.letters = w.events[:0], w.fields[:0], w.letters[:0]
		clear(w.touched)
	}
	if n < foldAlone {
		if err := r.workers[0].read(r, b, 0, n); err != nil {
			return nil, err
		}
		for i := range r.workers {
			if err := r.fold(i); err != nil {
				return nil, err
			}
		}
		return r.letters(), nil
	}
	var reading, folding errgroup.Group
	for i, w := range r.workers {
		reading.Go(func() error { return w.read(r, b, n*i/workers, n*(i+1)/workers) })
	}
	if err := reading.Wait(); err != nil {
		return nil, err //nolint:wrapcheck // it is ours
	}
	for i := range r.workers {
		folding.Go(func() error { return r.fold(i) })
	}
	if err := folding.Wait(); err != nil {
		return nil, err //nolint:wrapcheck // it is ours
	}
	return r.letters(), nil
}

// letters gives what all workers could not use, in the order of the streams.
func (r *foldRows) letters() []Letter {
	var all []Letter
	for _, w := range r.workers {
		all = append(all, w.letters...)
	}
	slices.SortFunc(all, func(a, b Letter) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Incarnation, b.Incarnation), a.ID.Compare(b.ID))
	})
	return all
}

// read makes events of [from, to) of a batch, and finds the aggregates that they are
// about.
func (w *foldWorker) read(r *foldRows, b *batch, from, to int) error {
	for _, run := range b.runs {
		first, end := max(run.from, from), min(run.to, to)
		if first >= end {
			continue
		}
		known := len(w.letters)
		err := w.selector.each(run.stream, run.incarnation, &b.events, first, end, &w.letters, func(e *event.Event, env *event.Envelope) error {
			w.events = append(w.events, foldEvent{wanted: r.wants(run, e.ID, env)})
			f := &w.events[len(w.events)-1]
			w.reader.Read(&f.Event, run.stream, run.incarnation, e, env)
			f.Fields = w.keep(e)
			if f.key = r.folder.Key(&f.Event); f.key == "" {
				w.events = w.events[:len(w.events)-1]
				return nil
			}
			f.part = r.states.PartOf(f.key)
			return nil
		})
		for i := range w.letters[known:] {
			err = errors.Join(err, r.refuse(&w.letters[known+i]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keep gives the fields of an event that stay as they are while others are read.
func (w *foldWorker) keep(e *event.Event) []event.Field {
	if e == &w.selector.changed {
		return e.Clone().Fields // an upcaster's memory is used again
	}
	first := len(w.fields)
	w.fields = append(w.fields, e.Fields...)
	return w.fields[first:len(w.fields):len(w.fields)]
}

// wants says whether rows are to be made of the aggregate of an event.
func (r *foldRows) wants(of run, id event.ID, env *event.Envelope) bool {
	switch {
	case r.wanted != nil:
		return r.wanted(of.stream, place{Incarnation: of.incarnation, ID: id}, r.scope.within(id, env))
	case r.scope != nil:
		return r.scope.within(id, env)
	}
	return true
}

// fold takes the events of one part to their aggregates: all workers have read.
func (r *foldRows) fold(part int) error {
	to := r.workers[part]
	for _, from := range r.workers {
		for i := range from.events {
			if e := &from.events[i]; e.part == part {
				if err := r.foldOne(to, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *foldRows) foldOne(to *foldWorker, e *foldEvent) error {
	applied, err := to.states.Apply(e.key, &e.Event)
	switch {
	case errors.Is(err, foldstore.ErrBroken):
		return err //nolint:wrapcheck // it says what
	case err != nil && e.wanted:
		l := Letter{Stream: e.Stream, Incarnation: e.Incarnation, ID: e.ID, EventID: e.EventID, Type: e.Type, Tenant: e.Tenant, Reason: err.Error()}
		to.letters = append(to.letters, l)
		return r.refuse(&l)
	case err != nil:
		return nil //nolint:nilerr // it was not used when the rest of the table was made, either
	case !applied:
		// The state may be ahead of an event that it could not use.
		note, err := r.states.Refusal(e.Stream, place{Incarnation: e.Incarnation, ID: e.ID})
		if err != nil {
			return err //nolint:wrapcheck // it says what
		}
		if note != nil {
			l, err := readNote(note)
			to.letters = append(to.letters, l)
			return err
		}
	}
	if e.wanted {
		to.touched[e.key] = true
	}
	return nil
}

// refuse notes an event that cannot be used beside the states.
func (r *foldRows) refuse(l *Letter) error {
	note, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("note %s: %w", l, err)
	}
	return r.states.Refuse(l.Stream, place{Incarnation: l.Incarnation, ID: l.ID}, note) //nolint:wrapcheck // it says what
}

func readNote(note []byte) (l Letter, err error) {
	if err := json.Unmarshal(note, &l); err != nil {
		return l, fmt.Errorf("read which event a fold cannot use: %w", err)
	}
	return l, nil
}

// make implements rowMaker. Aggregates whose states have seen the events already give
// their rows too: the table may not have them.
func (r *foldRows) make(_ context.Context, b *batch, _ bool) (made, error) {
	r.block.Reset()
	var m made
	letters, err := r.apply(b)
	if err != nil {
		return m, err
	}
	for _, l := range letters {
		if (place{Incarnation: l.Incarnation, ID: l.ID}).Compare(r.dealt[l.Stream]) > 0 {
			m.letters = append(m.letters, l)
		}
	}
	for _, w := range r.workers {
		for _, key := range slices.Sorted(maps.Keys(w.touched)) {
			rows, err := w.states.Rows(key)
			if err == nil {
				err = r.block.Append(rows...)
			}
			if err != nil {
				return m, fmt.Errorf("make the rows of aggregate %q: %w", key, err)
			}
		}
	}
	m.rows = uint64(r.block.Len()) //nolint:gosec // a length
	r.unsaved += b.events.Len()
	return m, nil
}

// insert implements rowMaker.
func (r *foldRows) insert(ctx context.Context, db *chstore.Store, load chstore.Load) (uint64, error) {
	if r.block.Len() == 0 {
		return 0, nil
	}
	return db.LoadRows(ctx, r.block.Block(), load) //nolint:wrapcheck // it says what
}

// checkpointFed is how many events of batches may have to be folded again after a
// crash.
const checkpointFed = 200_000

// fed takes note of how far the table is: the states are kept then and now.
func (r *foldRows) fed(places map[string]place) error {
	if r.unsaved < checkpointFed {
		return nil
	}
	r.unsaved = 0
	return r.states.Checkpoint(places) //nolint:wrapcheck // it says what
}
