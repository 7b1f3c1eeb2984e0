package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/reservoirhq/reservoir/event"
)

// What a plan's readers may have in hand at once: segments are opened ahead
// while they are within the budget, many small ones or two large ones.
const (
	readBudget  = 16       // units
	readUnit    = 1 << 20  // bytes of a segment that cost one unit
	maxReadCost = 8        // units that one segment costs at most
	spareBatch  = 64 << 20 // a batch with a larger buffer is not used again
)

// Batch is a run of planned events.
type Batch struct {
	Incarnation int
	*event.Batch
}

// Batches gives the planned events in order, in runs of about a thousand or a
// MiB, while the next segments are read ahead. A batch is valid until the next
// step; to keep its events without copying them, swap it with another Batch.
// Breaking early ends all reading before the loop is left.
func (p *Plan) Batches(ctx context.Context) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		r := &planReader{p: p, tokens: make(chan struct{}, readBudget), spare: make(chan *event.Batch, readBudget)}
		fetches := make(chan *fetch, readBudget)
		defer r.wg.Wait()
		defer cancel()
		r.wg.Go(func() { r.schedule(ctx, fetches) })
		for f := range fetches {
			for b := range f.batches {
				if !yield(Batch{f.segment.Incarnation, b}, nil) {
					return
				}
				r.recycle(b)
			}
			if f.err != nil {
				yield(Batch{}, f.err)
				return
			}
		}
		if ctx.Err() != nil { // the scheduler may have stopped anywhere
			yield(Batch{}, fmt.Errorf("read plan: %w", context.Cause(ctx)))
		}
	}
}

// Events is Batches, event by event. An event is valid until the next step.
func (p *Plan) Events(ctx context.Context) iter.Seq2[*event.Event, error] {
	return func(yield func(*event.Event, error) bool) {
		var e event.Event
		for b, err := range p.Batches(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range b.Len() {
				b.Event(i, &e)
				if !yield(&e, nil) {
					return
				}
			}
		}
	}
}

// planReader reads the segments of a plan, several at once.
type planReader struct {
	p      *Plan
	wg     sync.WaitGroup
	tokens chan struct{}
	spare  chan *event.Batch
}

// fetch is the reading of one segment. err may be read when batches is closed.
type fetch struct {
	segment PlannedSegment
	batches chan *event.Batch
	err     error
}

// schedule starts the readers in order, as far as the budget goes.
func (r *planReader) schedule(ctx context.Context, fetches chan<- *fetch) {
	defer close(fetches)
	send := func(f *fetch) bool {
		select {
		case fetches <- f:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for seg, err := range r.p.Segments(ctx) {
		f := &fetch{segment: seg, batches: make(chan *event.Batch, 1), err: err}
		cost := 1 + int(min(seg.Bytes/readUnit, maxReadCost-1))
		if err == nil {
			f.err = r.acquire(ctx, cost)
		}
		if f.err != nil {
			close(f.batches)
			send(f)
			return
		}
		r.wg.Go(func() {
			f.err = r.read(ctx, f)
			close(f.batches)
			for range cost {
				<-r.tokens
			}
		})
		if !send(f) {
			return
		}
	}
}

func (r *planReader) acquire(ctx context.Context, n int) error {
	for range n {
		select {
		case r.tokens <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("read plan: %w", context.Cause(ctx))
		}
	}
	return nil
}

func (r *planReader) batch() *event.Batch {
	select {
	case b := <-r.spare:
		return b
	default:
		return &event.Batch{}
	}
}

func (r *planReader) recycle(b *event.Batch) {
	if cap(b.Buf) > spareBatch {
		return
	}
	select {
	case r.spare <- b:
	default:
	}
}

func (r *planReader) read(ctx context.Context, f *fetch) (err error) {
	spec := &r.p.spec
	dir := incarnationDir(spec.Stream, f.segment.Incarnation)
	store := countingStore{r.p.a.store, &r.p.fetched}
	attributes := spec.Attributes
	if spec.Filter != nil {
		attributes = 0 // it may look at all of them
	}
	src, err := r.p.a.openSegment(ctx, store, dir, &f.segment.Segment, selection{spec.Range, spec.Filter, attributes})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	pick := r.p.picker(&f.segment)
	for {
		b := r.batch()
		if err := src.Read(b); errors.Is(err, io.EOF) {
			r.recycle(b)
			return nil
		} else if err != nil {
			return fmt.Errorf("read segment %s: %w", f.segment.Path, err)
		}
		picked, err := pick(b, r.batch)
		if err != nil {
			return fmt.Errorf("read segment %s: %w", f.segment.Path, err)
		}
		if picked != b {
			r.recycle(b)
		}
		if picked.Len() == 0 {
			r.recycle(picked)
			continue
		}
		select {
		case f.batches <- picked:
		case <-ctx.Done():
			return fmt.Errorf("read plan: %w", context.Cause(ctx))
		}
	}
}

// picker returns a function that leaves only planned events of a batch: the
// batch itself when it wants all of them, else a copy of those that it wants.
func (p *Plan) picker(seg *PlannedSegment) func(b *event.Batch, spare func() *event.Batch) (*event.Batch, error) {
	var e event.Event
	var env event.Envelope
	var extract *event.Extractor
	if p.spec.Filter != nil {
		extract = p.a.opts.Mapping.Extractor()
	}
	return func(b *event.Batch, spare func() *event.Batch) (*event.Batch, error) {
		if p.spec.Filter == nil && (seg.Whole || p.holds(b)) {
			return b, nil
		}
		picked := spare()
		picked.Reset()
		for i := range b.Len() {
			if !seg.Whole && !p.spec.Range.Contains(b.ID(i)) {
				continue
			}
			b.Event(i, &e)
			if p.spec.Filter != nil {
				extract.Extract(&e, &env)
				if match, err := p.spec.Filter.Match(&e, &env); err != nil {
					return nil, err //nolint:wrapcheck // the caller names the segment, the matcher the event
				} else if !match {
					continue
				}
			}
			picked.Append(&e)
		}
		return picked, nil
	}
}

// holds reports whether the range holds all of the batch.
func (p *Plan) holds(b *event.Batch) bool {
	return b.Len() == 0 || p.spec.Range.Contains(b.ID(0)) && p.spec.Range.Contains(b.ID(b.Len()-1))
}
