package redisstream

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/reservoirhq/reservoir/event"
)

// Range resets b and fills it with at most count entries of [from, to], in
// order, in one reply: it is meant for few entries; a Reader is for many. An
// entry larger than 1 GiB is a TooLargeError; a key that does not exist has no
// entries.
func (c *Client) Range(ctx context.Context, stream string, from, to event.ID, count int, b *event.Batch) error {
	err := c.with(ctx, stream, func(cn *conn, asking bool) error {
		b.Reset()
		if asking {
			cn.out = appendCommand(cn.out, "ASKING")
		}
		cn.out = appendCommand(cn.out, "XRANGE", stream, from.String(), to.String(), "COUNT", strconv.Itoa(count))
		if err := cn.flush(); err != nil {
			return err
		}
		in := &cn.in
		in.buf = b.Buf[:0]
		defer func() {
			b.Buf = in.buf[:in.pos]
			in.buf, in.pos = nil, 0
		}()
		if asking {
			if _, _, err := in.status(); err != nil {
				return in.fail(err)
			}
		}
		return in.fewEntries(b)
	})
	if err != nil {
		b.Reset()
		return fmt.Errorf("read stream %q from %s to %s: %w", stream, from, to, err)
	}
	return nil
}

func (in *input) fewEntries(b *event.Batch) error {
	n, err := in.length('*')
	if err != nil {
		return err
	}
	for range n {
		id, err := in.entryHeader()
		if err != nil {
			return err
		}
		if err := in.fields(id, 1<<30, b); err != nil {
			return err
		}
	}
	return nil
}

// Get returns one entry, and whether it is there.
func (c *Client) Get(ctx context.Context, stream string, id event.ID) (*event.Event, bool, error) {
	var b event.Batch
	if err := c.Range(ctx, stream, id, id, 1, &b); err != nil {
		return nil, false, err
	}
	if b.Len() == 0 {
		return nil, false, nil
	}
	var e event.Event
	b.Event(0, &e)
	return &e, true, nil
}

// Scan gives the entries after an ID, in order, up to the end that the stream
// has when it gets there. The event and its bytes are valid until the next step.
func (c *Client) Scan(ctx context.Context, stream string, after event.ID) iter.Seq2[*event.Event, error] {
	return func(yield func(*event.Event, error) bool) {
		r, err := c.Reader(ctx, stream, ReaderOptions{})
		if err != nil {
			yield(nil, err)
			return
		}
		defer r.Close()
		var b event.Batch
		var e event.Event
		for {
			snap, err := r.Read(ctx, after, &b)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range b.Len() {
				b.Event(i, &e)
				if !yield(&e, nil) {
					return
				}
				after = e.ID
			}
			if snap.AtEnd {
				return
			}
		}
	}
}
