package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/tail"
)

const (
	// checkpointWarm is how many events of the archive may have to be folded again after
	// a crash.
	checkpointWarm = 1_000_000
	// foldEvents and foldBytes bound the events that go to the workers at once.
	foldEvents = 16_000
	foldBytes  = 8 << 20
)

// warm brings the states to places, for whoever goes on with a table that is made up to
// there: from where they are, or from the first event on. What cannot be used, and was
// dealt with then, is given to letters.
func (r *foldRows) warm(ctx context.Context, places map[string]place, letters func([]Letter) error, progress func(ctx context.Context, events int) error) error {
	if r.states.Positions() == nil && slices.ContainsFunc(slices.Collect(maps.Values(places)), func(p place) bool { return p != place{} }) {
		r.svc.opts.Logger.Warn("there are no states of a fold on this machine: all events are folded again",
			"projection", r.sub.def.Name, "generation", r.generation)
	}
	if err := r.bring(ctx, places, letters, progress); err != nil {
		return err
	}
	return r.svc.forgetStates(ctx, r.sub.def.Name)
}

// bring is warm for whoever makes the table.
func (r *foldRows) bring(ctx context.Context, places map[string]place, letters func([]Letter) error, progress func(ctx context.Context, events int) error) error {
	at := maps.Clone(r.states.Positions())
	if at == nil {
		at = map[string]place{}
	}
	reader := newReader(r.svc.opts.Archive, r.svc.opts.Redis, r.svc.opts.Mapping, nil)
	for _, name := range slices.Sorted(maps.Keys(places)) {
		if at[name].Compare(places[name]) >= 0 || !r.sub.def.Source.MatchesStream(name) {
			continue
		}
		w := warming{foldRows: r, stream: name, at: at, upTo: places[name], letters: letters, progress: progress}
		if err := w.run(ctx, reader.newTail(name, at[name])); err != nil {
			return err
		}
		at[name] = places[name]
	}
	r.dealt = at
	return r.states.Checkpoint(at) //nolint:wrapcheck // it says what
}

// warming brings states up to a place of one stream.
type warming struct {
	*foldRows
	stream   string
	at       map[string]place
	upTo     place
	letters  func([]Letter) error
	progress func(ctx context.Context, events int) error
}

// run reads ahead while the workers fold.
func (w *warming) run(ctx context.Context, from *tail.Tail) error {
	defer from.Close()
	group, ctx := errgroup.WithContext(ctx)
	full, empty := make(chan *batch), make(chan *batch, 2)
	for range cap(empty) {
		empty <- &batch{}
	}
	group.Go(func() error {
		defer close(full)
		return w.read(ctx, from, empty, full)
	})
	group.Go(func() error {
		for b := range full {
			if err := w.take(ctx, b); err != nil {
				return err
			}
			empty <- b
		}
		return nil
	})
	return group.Wait() //nolint:wrapcheck // it is ours
}

// read fills batches.
func (w *warming) read(ctx context.Context, from *tail.Tail, empty <-chan *batch, full chan<- *batch) error {
	var b *batch
	send := func() error {
		if b == nil {
			return nil
		}
		select {
		case full <- b:
			b = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for read, err := range from.Batches(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		if b == nil {
			select {
			case b = <-empty:
				b.reset()
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		n := read.Len()
		for n > 0 && (place{Incarnation: read.Incarnation, ID: read.ID(n - 1)}).Compare(w.upTo) > 0 {
			n--
		}
		b.add(w.stream, read, n)
		last := n < read.Len() || b.upTo[w.stream].Compare(w.upTo) >= 0
		if last || b.events.Len() >= min(foldEvents, w.svc.foldEvery) || b.events.Bytes() >= foldBytes {
			if err := send(); err != nil || last {
				return err
			}
		}
	}
	return send()
}

// take folds a batch, and keeps the states now and then: all workers are done with it
// then, and none has begun with the next one.
func (w *warming) take(ctx context.Context, b *batch) error {
	letters, err := w.apply(b)
	if err != nil {
		return err
	}
	n := b.events.Len()
	if err := errors.Join(w.letters(letters), w.progress(ctx, n)); err != nil {
		return err
	}
	if n > 0 {
		w.at[w.stream] = b.upTo[w.stream]
	}
	if w.unsaved += n; w.unsaved < w.svc.foldEvery {
		return nil
	}
	w.unsaved = 0
	return w.states.Checkpoint(w.at) //nolint:wrapcheck // it says what
}

// stateDir is where the states of a generation of a fold lie.
func (s *Service) stateDir(name string, generation uint64) string {
	return filepath.Join(s.opts.StateDir, fmt.Sprintf("%s-g%d", name, generation))
}

// forgetStates removes the states of a projection's generations that are dropped.
func (s *Service) forgetStates(ctx context.Context, name string) error {
	doc, err := s.documents.Get(ctx, name)
	if errors.Is(err, projection.ErrNotBuilt) {
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	entries, err := os.ReadDir(s.opts.StateDir)
	if err != nil {
		return fmt.Errorf("look for old states of %s: %w", name, err)
	}
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), name+"-g")
		generation, err := strconv.ParseUint(text, 10, 64)
		if !ok || err != nil || generation >= doc.Live.Generation ||
			slices.ContainsFunc(doc.Previous, func(p projection.Previous) bool { return p.Generation.Generation == generation }) {
			continue
		}
		if err := os.RemoveAll(s.stateDir(name, generation)); err != nil {
			return fmt.Errorf("remove old states of %s: %w", name, err)
		}
	}
	return nil
}
