package replay

import "context"

// outgoing is a batch on its way to the sink: events [from, to) of a chunk.
type outgoing struct {
	Batch
	chunk    *chunk
	from, to int
}

// take gives the next chunk, nil when there are no more.
func (r *run) take() *chunk {
	if c := r.peeked; c != nil {
		r.peeked = nil
		return c
	}
	return <-r.events
}

// batch gives events [from, to) of a chunk: the batch that was sent ahead, if it
// is that one.
func (r *run) batch(c *chunk, from, to int) *Batch {
	o := r.ahead
	r.ahead = nil // chunks are used again
	if o != nil && o.chunk == c && o.from == from && o.to == to {
		return &o.Batch
	}
	b := c.slice(from, to)
	return &b
}

// put writes events [from, to) of a chunk, and lets the sink know what comes
// after them where nothing keeps that from being sent at once.
func (r *run) put(ctx context.Context, c *chunk, from, to int) error {
	b := r.batch(c, from, to)
	w, ok := r.sink.(AheadWriter)
	if !ok || r.spec.Pace != (Pace{}) || r.spec.BackPressure != (BackPressure{}) {
		return r.sink.Write(ctx, b)
	}
	return w.WriteAhead(ctx, b, func() *Batch { return r.following(c, to) })
}

// following gives the batch after event to of a chunk, nil when it is not known
// yet, or something is to be done before it.
func (r *run) following(c *chunk, to int) *Batch {
	if r.ahead = nil; len(c.letters) > 0 {
		return nil
	}
	if to == c.Len() {
		if r.peeked == nil {
			select {
			case r.peeked = <-r.events:
			default:
			}
		}
		if c, to = r.peeked, 0; c == nil || c.Len() == 0 || c.lap != nil || len(c.letters) > 0 {
			return nil
		}
	}
	end := to + r.cut(c, to, c.Len())
	r.ahead = &outgoing{Batch: c.slice(to, end), chunk: c, from: to, to: end}
	return &r.ahead.Batch
}
