package rebuild

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
)

// blockMaker is a rowMaker that takes the events of a chunk as they are read, and puts
// their rows into the table block by block.
type blockMaker interface {
	rowMaker
	// begin forgets what was taken.
	begin()
	// take takes events, and notes those that cannot be used.
	take(of run, b *event.Batch, letters *[]Letter) error
	// needs are all that rows are made of, but for letters; 0: all of an event.
	needs() event.Attributes
	// full says that what was taken is a block.
	full() bool
	// flush puts the rows of what was taken into a table, and forgets it. It returns how
	// many they are, or unknownRows.
	flush(ctx context.Context, db *chstore.Store, load chstore.Load, letters *[]Letter) (rows int, err error)
}

const unknownRows = -1

// errWholly is that there is an event to be put aside, which takes more of it than rows are
// made of.
var errWholly = errors.New("the events have to be read as a whole")

// A block is sent at the first of these that it passes: it is in the memory of this
// process, and of the server, and the larger blocks are the less the table has to merge.
// Events come with their payloads, and are sent with as much memory again. Chunks of a few
// hundred thousand rows are one block.
const (
	blockRows   = 500_000
	eventsBytes = 16 << 20
	rowsBytes   = 32 << 20
)

// stream sends the events of a chunk, block after block, and proves all of them.
func (c *chunkLoad) stream(ctx context.Context) (uint64, error) {
	rows, known, err := c.blocks(ctx)
	if errors.Is(err, errWholly) {
		if c.parts > 0 {
			if err := c.clean(ctx); err != nil {
				return 0, err
			}
		}
		c.begin()
		if maker, ok := c.rows.(*mapRows); ok { // nothing else needs a part only
			maker.wholly = true
		}
		rows, known, err = c.blocks(ctx)
	}
	if maker, ok := c.rows.(*sqlRows); ok && errors.Is(err, chstore.ErrData) {
		// The events on which the SELECT fails are looked for with all of them at hand.
		if err := c.clean(ctx); err != nil {
			return 0, err
		}
		c.begin()
		known, err = false, c.carefully(ctx, maker)
	}
	if err != nil || c.parts == 0 {
		return 0, err
	}
	there, err := c.b.db.Prove(ctx, c.into, c.b.number(c.index))
	if err == nil && known && c.kind == chstore.Keeping && there != rows {
		return 0, fmt.Errorf("%w: %d of %d", errNotThere, there, rows)
	}
	if err == nil {
		err = c.asWritten(there)
	}
	return there, err //nolint:wrapcheck // it says what
}

// blocks sends a chunk. It returns how many rows that were, where it is known.
func (c *chunkLoad) blocks(ctx context.Context) (rows uint64, known bool, err error) {
	known = true
	flush := func() error {
		n, err := c.rows.flush(ctx, c.b.db, c.part(), &c.letters)
		rows, known = rows+uint64(max(n, 0)), known && n != unknownRows
		return err
	}
	c.rows.begin()
	if c.strays != nil {
		c.strays.begin()
	}
	events := 0
	needs := c.rows.needs()
	if c.strays != nil {
		needs = 0
	}
	err = c.read(ctx, needs, func(of run, b *event.Batch) error {
		if err := c.takeStrays(ctx, of, b, events); err != nil {
			return err
		}
		events += of.to
		if err := c.rows.take(of, b, &c.letters); err != nil {
			return err
		}
		if err := allowed(c.b.sub.def, uint64(len(c.letters)), c.letters); err != nil {
			return err
		}
		switch {
		case len(c.letters) > 0 && needs != 0:
			return errWholly
		case c.rows.full():
			return flush()
		}
		return nil
	})
	if err == nil {
		err = c.lookAtStrays(ctx)
	}
	if err == nil {
		err = flush()
	}
	return rows, known, err
}

// part is the next statement of the chunk.
func (c *chunkLoad) part() chstore.Load {
	load := c.load()
	load.Unproved = true
	c.parts++
	return load
}

// carefully sends a chunk without the events on which the SELECT fails.
func (c *chunkLoad) carefully(ctx context.Context, maker *sqlRows) error {
	flush := func() error {
		m, err := maker.make(ctx, &c.events, true)
		c.letters = append(c.letters, m.letters...)
		if err == nil {
			err = allowed(c.b.sub.def, uint64(len(c.letters)), c.letters)
		}
		if err != nil {
			return err
		}
		c.events.reset()
		_, err = maker.insert(ctx, c.b.db, c.part())
		return err
	}
	c.events.reset()
	err := c.read(ctx, 0, func(of run, b *event.Batch) error {
		c.events.add(of.stream, archive.Batch{Incarnation: of.incarnation, Batch: b}, of.to)
		if !c.events.full() {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return err
}

// read reads the events of a chunk from the archive as it is now: their segments may
// have been compacted since. It may read these attributes of them only; 0: all.
func (c *chunkLoad) read(ctx context.Context, attributes event.Attributes, take func(of run, b *event.Batch) error) error {
	stream := string(c.b.plan.Streams[c.chunk.Stream].Stream)
	plan, err := c.b.svc.opts.Archive.Plan(ctx, archive.PlanSpec{
		Stream: stream, Incarnation: c.chunk.Incarnation, Range: c.chunk.Range, Format: c.b.spec.Format,
		Attributes: attributes,
	})
	if err != nil {
		return err //nolint:wrapcheck // it names the stream
	}
	var events uint64
	for read, err := range plan.Batches(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		events += uint64(read.Len()) //nolint:gosec // a length
		c.shows(c.tries, events)
		if err := take(run{stream: stream, incarnation: read.Incarnation, to: read.Len()}, read.Batch); err != nil {
			return err
		}
	}
	want := c.chunk.Events
	switch {
	case !c.chunk.Whole: // how many are in a part of a segment was a guess
		events, want, err = c.ofSegment(ctx)
	case events > want: // there are segments between its own that the plan left out
		events, err = c.ofOwn(ctx, events)
	}
	if err != nil {
		return err
	}
	if events != want {
		return fmt.Errorf("the archive gives %d events, and its commit log said %d when the rebuild was planned: were they erased or expired? Create the rebuild anew", events, want)
	}
	return nil
}

// ofOwn gives how many of so many events are in the segments of a chunk, without those
// between them that have nothing of what is wanted; at most as many as were planned where
// a filter leaves some out, for they may lie in larger ones by now.
func (c *chunkLoad) ofOwn(ctx context.Context, events uint64) (own uint64, err error) {
	filter, err := planFilter(c.b.sub.def, &c.b.spec.Scope)
	if filter == nil || err != nil {
		return events, err
	}
	plan, err := c.b.svc.opts.Archive.Plan(ctx, archive.PlanSpec{
		Stream: string(c.b.plan.Streams[c.chunk.Stream].Stream), Incarnation: c.chunk.Incarnation, Range: c.chunk.Range, Format: c.b.spec.Format, Filter: filter,
	})
	if err != nil {
		return 0, err //nolint:wrapcheck // it names the stream
	}
	for s, err := range plan.Segments(ctx) {
		if err != nil {
			return 0, err //nolint:wrapcheck // it names the stream
		}
		own += s.Count
	}
	return min(own, c.chunk.Events), nil
}

// planned gives the segment that the chunk is a part of: its range, and how many events it
// had when the rebuild was planned.
func (c *chunkLoad) planned() (r event.Range, events uint64) {
	r = c.chunk.Range
	for i := range c.b.plan.Chunks {
		part := &c.b.plan.Chunks[i]
		if part.Whole || part.Stream != c.chunk.Stream || part.Incarnation != c.chunk.Incarnation || part.Objects[0] != c.chunk.Objects[0] {
			continue
		}
		events += part.Events
		if part.Range.From.Less(r.From) {
			r.From = part.Range.From
		}
		if r.To.Less(part.Range.To) {
			r.To = part.Range.To
		}
	}
	return r, events
}

// ofSegment gives how many events the archive has of the segment that the chunk is a part
// of, and how many it had when the rebuild was planned.
func (c *chunkLoad) ofSegment(ctx context.Context) (events, planned uint64, err error) {
	r, planned := c.planned()
	plan, err := c.b.svc.opts.Archive.Plan(ctx, archive.PlanSpec{
		Stream: string(c.b.plan.Streams[c.chunk.Stream].Stream), Incarnation: c.chunk.Incarnation, Range: r, Format: c.b.spec.Format,
	})
	if err != nil {
		return 0, 0, err //nolint:wrapcheck // it names the stream
	}
	if plan.Totals.Exact {
		return plan.Totals.Events, planned, nil
	}
	for read, err := range plan.Batches(ctx) { // it lies in a larger one by now
		if err != nil {
			return 0, 0, err //nolint:wrapcheck // it names the stream
		}
		events += uint64(read.Len()) //nolint:gosec // a length
	}
	return events, planned, nil
}
