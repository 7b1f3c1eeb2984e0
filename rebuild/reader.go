package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/tail"
)

const (
	// A batch ends at the first of these that it passes; it is a block in the
	// memory of the server, and of this process.
	batchEvents = 50_000
	batchBytes  = 8 << 20
	// keepTails is how many streams may each keep a connection.
	keepTails = 16
)

// errReplaced is that a stream has to be archived before it can be read on.
var errReplaced = errors.New("it was deleted and made anew, and that is not archived yet: is an archiver running?")

// run is events [from, to) of a batch: of one incarnation of one stream.
type run struct {
	stream      string
	incarnation int
	from, to    int
}

// batch is events of several streams, each stream's in order, and where the
// streams are read up to with them.
type batch struct {
	events event.Batch
	runs   []run
	upTo   map[string]place // of the streams that have events in it
}

func (b *batch) reset() {
	b.events.Reset()
	b.runs, b.upTo = b.runs[:0], map[string]place{}
}

func (b *batch) full() bool { return b.events.Len() >= batchEvents || b.events.Bytes() >= batchBytes }

// add appends the first n events of what was read of a stream.
func (b *batch) add(stream string, read archive.Batch, n int) {
	if n == 0 {
		return
	}
	var e event.Event
	r := run{stream, read.Incarnation, b.events.Len(), 0}
	for i := range n {
		read.Event(i, &e)
		b.events.Append(&e)
	}
	r.to = b.events.Len()
	b.runs = append(b.runs, r)
	b.upTo[stream] = place{Incarnation: read.Incarnation, ID: read.ID(n - 1)}
}

// reader reads streams behind places: what the archive has, and then what is live.
// It is not safe for concurrent use; close it.
type reader struct {
	arch    *archive.Archive
	redis   *redisstream.Client // nil: the archive only
	mapping event.Mapping
	source  *projection.Source // see only; nil: all streams are followed
	// lost is told what was gone before it was read: once, whether it shows in the live
	// stream or the archive has recorded it; nil: nobody is.
	lost func(stream string, loss redisstream.Loss)

	places map[string]place // read up to
	losses map[string]told  // what lost was told of last
	tails  map[string]*tail.Tail
	names  []string // sorted
	turn   int
}

// follow adds a stream, to be read behind a place.
func (r *reader) follow(stream string, from place) {
	if _, ok := r.places[stream]; ok || r.source != nil && !r.source.MatchesStream(stream) {
		return
	}
	r.places[stream] = from
	r.names = append(r.names, stream)
	slices.Sort(r.names)
}

func newReader(arch *archive.Archive, redis *redisstream.Client, mapping event.Mapping, from map[string]place) *reader {
	r := &reader{arch: arch, redis: redis, mapping: mapping, places: map[string]place{}, losses: map[string]told{}, tails: map[string]*tail.Tail{}}
	for stream, at := range from {
		r.follow(stream, at)
	}
	return r
}

// told is a loss that was told of, and what it began with.
type told struct {
	after, upTo place
	lost        uint64
}

// knows has the reader leave out what lost was told of before, by others: losses are the
// last ones, by stream, and the reader notes there what it tells.
func (r *reader) knows(losses map[string]told) { r.losses = losses }

// only leaves the streams alone that are not the source's, whoever names them from here
// on. A table may have a place in a stream that its definition has not any more.
func (r *reader) only(source *projection.Source) {
	r.source = source
	r.names = slices.DeleteFunc(r.names, func(name string) bool { return !source.MatchesStream(name) })
}

// read fills b with what is new, from every stream in turn, until it is full. An
// empty batch says that there was nothing. Streams that cannot be read now are
// left out, and said in the error beside what others had.
func (r *reader) read(ctx context.Context, b *batch) error {
	b.reset()
	var errs []error
	for range r.names {
		name := r.names[r.turn%len(r.names)]
		full, err := r.stream(ctx, name, b)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, redisstream.ErrHistoryReplaced):
			r.forget(name)
			errs = append(errs, fmt.Errorf("stream %q: %w", name, errReplaced))
		default:
			errs = append(errs, err)
		}
		if full {
			break // and go on with this one
		}
		r.turn++
	}
	return errors.Join(errs...)
}

// stream takes what is new in one stream.
func (r *reader) stream(ctx context.Context, name string, b *batch) (full bool, err error) {
	for read, err := range r.tail(name).Batches(ctx) {
		if err != nil {
			return false, err //nolint:wrapcheck // it names the stream
		}
		b.add(name, read, read.Len())
		if n := read.Len(); n > 0 {
			r.places[name] = place{Incarnation: read.Incarnation, ID: read.ID(n - 1)}
		}
		if b.full() {
			full = true
			break
		}
	}
	if len(r.names) > keepTails {
		r.tails[name].Close()
	}
	return full, nil
}

// exactly fills b with what lies between places of several streams, both known to
// have been read before. It returns an error where that cannot be read any more.
func (r *reader) exactly(ctx context.Context, after, upTo map[string]place, b *batch) error {
	b.reset()
	for _, name := range slices.Sorted(maps.Keys(upTo)) {
		if err := r.between(ctx, name, after[name], upTo[name], b); err != nil {
			return err
		}
		if b.upTo[name] != upTo[name] {
			return fmt.Errorf("stream %q cannot be read up to %s any more: it ends at %s", name, showPlace(upTo[name]), showPlace(b.upTo[name]))
		}
	}
	return nil
}

func (r *reader) between(ctx context.Context, name string, after, upTo place, b *batch) error {
	t := r.newTail(name, after)
	defer t.Close()
	for read, err := range t.Batches(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		n := read.Len()
		for n > 0 && (place{Incarnation: read.Incarnation, ID: read.ID(n - 1)}).Compare(upTo) > 0 {
			n--
		}
		b.add(name, read, n)
		if n < read.Len() || b.upTo[name] == upTo {
			return nil
		}
	}
	return nil
}

func (r *reader) tail(name string) *tail.Tail {
	t := r.tails[name]
	if t == nil {
		t = r.newTail(name, r.places[name])
		r.tails[name] = t
	}
	return t
}

func (r *reader) newTail(name string, from place) *tail.Tail {
	var t *tail.Tail
	t = tail.New(r.arch, r.redis, tail.Spec{
		Stream: name, Incarnation: from.Incarnation, After: from.ID, Mapping: r.mapping,
		Planned: func(ctx context.Context, plan *archive.Plan) error { return r.recorded(ctx, name, plan) },
		Lost: func(l redisstream.Loss) {
			incarnation, _ := t.Place()
			r.lose(name, incarnation, l)
		},
	})
	return t
}

// recorded tells of the losses that the archive has recorded in what is read next.
func (r *reader) recorded(ctx context.Context, name string, plan *archive.Plan) error {
	if plan.Totals.Gaps == 0 {
		return nil
	}
	for gap, err := range plan.Gaps(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		r.lose(name, gap.Incarnation, redisstream.Loss{
			After: gap.After, UpTo: gap.UpTo, Lost: gap.Lost, Exact: gap.Exact, Cause: redisstream.Cause(gap.Cause),
		})
	}
	return nil
}

// lose tells of a loss, or of that part of it that was not told of: a stream is read again
// after what was in doubt, what shows in Redis is recorded by the archiver, too, and one
// that nothing came after yet grows.
func (r *reader) lose(name string, incarnation int, l redisstream.Loss) {
	this := told{place{Incarnation: incarnation, ID: l.After}, place{Incarnation: incarnation, ID: l.UpTo}, l.Lost}
	before := r.losses[name]
	if r.lost == nil || this.upTo.Compare(before.upTo) <= 0 {
		return
	}
	r.losses[name] = this
	if before.lost > 0 && this.after == before.after {
		l.After, l.Lost = before.upTo.ID, this.lost-min(before.lost, this.lost)
		if l.Lost == 0 && l.Exact {
			return
		}
	}
	r.lost(name, l)
}

// lossText says of a loss what people want to know.
func lossText(l redisstream.Loss) string {
	more := ""
	if !l.Exact {
		more = " or more"
	}
	return fmt.Sprintf("%d entries%s after %s and up to %s (%s)", l.Lost, more, l.After, l.UpTo, l.Cause)
}

func (r *reader) forget(name string) {
	if t := r.tails[name]; t != nil {
		t.Close()
		delete(r.tails, name)
	}
}

// reset goes back to other places; streams that are not among them begin anew.
func (r *reader) reset(to map[string]place) {
	for _, name := range r.names {
		r.forget(name)
		r.places[name] = to[name]
	}
	for name, at := range to {
		r.follow(name, at)
	}
}

func (r *reader) close() {
	for name := range r.tails {
		r.forget(name)
	}
}
