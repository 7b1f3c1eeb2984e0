package replay

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// source gives the events that are read for a replay, in its order.
type source interface {
	// Read fills c, which was reset, with the next events and says how many it
	// read: those of c, whose end is the last one. It returns io.EOF at the end
	// only, with an empty c.
	Read(ctx context.Context, c *chunk) error
	// Close ends all reading. It may be called twice.
	Close()
}

// part is what a replay reads of one incarnation of a stream.
type part struct {
	incarnation int
	span        event.Range
	// floor is the highest millisecond of the earlier incarnations: events of
	// this one do not merge before it. It is 0 in OrderStream.
	floor uint64
}

// streamReader reads one stream of the archive from a place on: as one run, or
// in windows of some bytes between which nothing is open. It knows a lower bound
// of the Position of its next event at any time, without having read it.
type streamReader struct {
	arch   *archive.Archive
	filter *event.Matcher
	order  Order

	name  string
	index int
	parts []part // what is left; the first is being read

	next  Position // of the next event, or less
	batch event.Batch
	at    int // in batch
	of    part

	pull    func() (archive.Batch, error, bool) // open reading
	stop    func()
	plan    *archive.Plan
	fetched *int64 // of the plans that are done with
}

// position returns the Position of an event of a part.
func (r *streamReader) position(p *part, id event.ID) Position {
	at := p.position(r.order, id)
	at.Stream = r.index
	return at
}

// begin sets next from what is left, without reading anything.
func (r *streamReader) begin() {
	if len(r.parts) > 0 {
		p := &r.parts[0]
		from := p.span.From
		if from.IsZero() {
			from = event.ID{Seq: 1}
		}
		r.next = r.position(p, from)
	}
}

// done reports whether nothing is left.
func (r *streamReader) done() bool { return r.left() == 0 && len(r.parts) == 0 }

// left returns how many events are in the batch.
func (r *streamReader) left() int { return r.batch.Len() - r.at }

// fill reads the next events into the empty batch: a run of the open reading, or
// with window > 0 about that many bytes, and at least one event. At the end of
// the stream the batch stays empty.
func (r *streamReader) fill(ctx context.Context, window int) (err error) {
	r.batch.Reset()
	r.at = 0
	for len(r.parts) > 0 {
		r.of = r.parts[0]
		if window > 0 {
			err = r.readWindow(ctx, window)
		} else {
			err = r.readRun(ctx)
		}
		if err != nil {
			return fmt.Errorf("read stream %q: %w", r.name, err)
		}
		if r.batch.Len() > 0 {
			r.next = r.position(&r.of, r.batch.ID(0))
			return nil
		}
	}
	return nil
}

// open plans the reading of the first part.
func (r *streamReader) open(ctx context.Context) error {
	plan, err := r.arch.Plan(ctx, archive.PlanSpec{
		Stream: r.name, Incarnation: r.of.incarnation, Range: r.of.span, Filter: r.filter,
	})
	r.plan = plan
	return err //nolint:wrapcheck // fill names the stream
}

// readRun takes the next run of the open reading.
func (r *streamReader) readRun(ctx context.Context) error {
	if r.pull == nil {
		if err := r.open(ctx); err != nil {
			return err
		}
		r.pull, r.stop = iter.Pull2(r.plan.Batches(ctx))
	}
	b, err, ok := r.pull()
	if err != nil {
		return err
	}
	if !ok {
		r.Close()
		r.parts = r.parts[1:]
		return nil
	}
	r.batch, *b.Batch = *b.Batch, r.batch
	r.parts[0].span.From = r.batch.ID(r.batch.Len() - 1).Next()
	return nil
}

// readWindow copies the next events, and closes what it opened for that.
func (r *streamReader) readWindow(ctx context.Context, window int) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	defer r.closePlan()
	var e event.Event
	for b, err := range r.plan.Batches(ctx) {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			if r.batch.Len() > 0 && r.batch.Bytes() >= window {
				r.parts[0].span.From = b.ID(i)
				return nil
			}
			b.Event(i, &e)
			r.batch.Append(&e)
		}
	}
	r.parts = r.parts[1:]
	return nil
}

// consumed says that the batch is used up: the next event is beyond it.
func (r *streamReader) consumed() {
	r.batch.Reset()
	r.at = 0
	r.begin()
}

// bytesRead returns how much was fetched by what is open.
func (r *streamReader) bytesRead() int64 {
	if r.plan == nil {
		return 0
	}
	return r.plan.Fetched()
}

func (r *streamReader) closePlan() {
	if r.plan != nil {
		*r.fetched += r.plan.Fetched()
		r.plan = nil
	}
}

// Close ends the open reading.
func (r *streamReader) Close() {
	if r.stop != nil {
		r.stop()
	}
	r.pull, r.stop = nil, nil
	r.closePlan()
}

// streamParts finds out what is to be read of a stream after a place.
func streamParts(ctx context.Context, arch *archive.Archive, index int, s *StreamRange, order Order, after Position) ([]part, error) {
	lives, err := livesOf(ctx, arch, s)
	if err != nil {
		return nil, err
	}
	var parts []part
	floor, found := uint64(0), s.Head.IsZero()
	for _, l := range lives {
		p := part{incarnation: l.number, span: s.Range}
		if order != OrderStream {
			p.floor = floor
		}
		floor = max(floor, l.to.Ms)
		if l.number == s.Incarnation {
			if s.Head.IsZero() {
				continue
			}
			found = true
			l.to = s.Head
		} else if !s.LastOnly {
			l.to = event.ID{} // all of it
		}
		p.span = p.span.Intersect(event.Range{To: l.to})
		p.span = p.span.Intersect(rest(p, index, order, after))
		if !p.span.IsEmpty() {
			parts = append(parts, p)
		}
	}
	if !found {
		return nil, remedy.Wrap(fmt.Errorf("%w: stream %q had an incarnation %d when the replay was created, and has it no more", archive.ErrDamaged, s.Stream, s.Incarnation),
			"Run `reservoir streams` to see what the archive holds; cancel the replay, or restore the archive and retry it.")
	}
	return parts, nil
}

// life is what belongs to a replay of one incarnation of a stream.
type life struct {
	number int
	to     event.ID // its head; or, if only what was last counts, the last entry of it that did
}

// livesOf gives the incarnations of a stream up to that of s, oldest first. Where
// only what was last counts, an earlier one counts up to the lowest base of the
// seals since: that is what all later histories have in common with it. Where
// they have nothing in common it is left out.
func livesOf(ctx context.Context, arch *archive.Archive, s *StreamRange) ([]life, error) {
	var lives []life
	for inc, err := range arch.Incarnations(ctx, s.Stream) {
		if err != nil {
			return nil, fmt.Errorf("read the archive of stream %q: %w", s.Stream, err)
		}
		if inc.Last == nil || inc.Number > s.Incarnation {
			continue
		}
		lives = append(lives, life{inc.Number, inc.Last.Head})
		if seal := inc.Last.Seal; s.LastOnly && seal != nil && inc.Number < s.Incarnation {
			for i := range lives {
				if seal.Base.Less(lives[i].to) {
					lives[i].to = seal.Base
				}
			}
		}
	}
	if s.LastOnly {
		lives = slices.DeleteFunc(lives, func(l life) bool { return l.number < s.Incarnation && l.to.IsZero() })
	}
	return lives, nil
}

// Part is a range of one incarnation of a stream.
type Part struct {
	Incarnation int
	Range       event.Range
}

// LastHistory gives the parts of a stream's archive that make up the stream as it was
// last, oldest first: the last incarnation, and of the earlier ones what it has in
// common with them. IDs go up over all of them. A stream that was never archived has
// none.
func LastHistory(ctx context.Context, arch *archive.Archive, stream string) ([]Part, error) {
	s := StreamRange{Stream: stream, LastOnly: true}
	for inc, err := range arch.Incarnations(ctx, stream) {
		if err != nil {
			return nil, fmt.Errorf("read the archive of stream %q: %w", stream, err)
		}
		if inc.Last != nil {
			s.Incarnation = inc.Number
		}
	}
	lives, err := livesOf(ctx, arch, &s)
	if err != nil {
		return nil, err
	}
	parts := make([]Part, 0, len(lives))
	for _, l := range lives {
		p := Part{Incarnation: l.number, Range: event.Range{To: l.to}}
		if l.number == s.Incarnation {
			p.Range.To = event.ID{}
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// nothing is a range that holds no ID.
func nothing() event.Range { return event.Range{From: event.MaxID, To: event.ID{Seq: 1}} }

// rest is what of a part of stream number index comes after a place.
func rest(p part, index int, order Order, after Position) event.Range {
	if after.IsZero() {
		return event.Range{}
	}
	if index == after.Stream {
		switch {
		case p.incarnation < after.Incarnation:
			return nothing()
		case p.incarnation > after.Incarnation:
			return event.Range{}
		case after.ID == event.MaxID:
			return nothing()
		default:
			return event.Range{From: after.ID.Next()}
		}
	}
	if order == OrderStream {
		if index < after.Stream {
			return nothing()
		}
		return event.Range{}
	}
	// Of equal milliseconds the streams before that of after are done, and those
	// behind it are not.
	ms := after.Ms
	if index < after.Stream {
		if ms++; ms == 0 {
			return nothing()
		}
	}
	if p.floor >= ms {
		return event.Range{}
	}
	return event.Range{From: event.ID{Ms: ms}}
}
