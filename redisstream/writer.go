package redisstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/reservoirhq/reservoir/event"
)

const (
	writeCount = 1000    // entries in one transaction
	writeBytes = 1 << 20 // after which a transaction is full
)

// Writer adds entries to one stream, over a connection of its own: for imports
// and producers that are faster than a general client. A Writer is used by one
// goroutine at a time.
type Writer struct {
	client *Client
	stream string
	node   node
	asking bool
	cn     *conn
}

// IDTooLowError says that entries with IDs of their own were rejected because
// the stream has an entry with that ID or a higher one, or had. The others of
// the same call were added. It is an ErrIDTooLow.
type IDTooLowError struct {
	First    event.ID // the first that was rejected
	Last     event.ID // the last
	Rejected int
}

func (e *IDTooLowError) Error() string {
	return fmt.Sprintf("%d entries from %s to %s rejected: %v", e.Rejected, e.First, e.Last, ErrIDTooLow)
}

// Is makes errors.Is(err, ErrIDTooLow) hold.
func (e *IDTooLowError) Is(target error) bool { return target == ErrIDTooLow }

// Writer opens a Writer; it connects at once. The caller must Close it.
func (c *Client) Writer(ctx context.Context, stream string) (*Writer, error) {
	w := &Writer{client: c, stream: stream}
	if err := w.connect(ctx); err != nil {
		return nil, fmt.Errorf("write stream %q: %w", stream, err)
	}
	return w, nil
}

// Close gives the connection back. It can be called more than once.
func (w *Writer) Close() {
	if w.cn != nil {
		w.client.give(w.cn)
	}
	w.cn, w.node, w.asking = nil, node{}, false
}

// Add appends the events [from, to) of b to the stream, in order, and returns
// how many it added. With keepIDs the entries keep their IDs, otherwise Redis
// gives them new ones.
//
// They go in transactions of up to 1000 entries or 1 MiB: when the server
// refuses (out of memory, a read-only replica, a missing permission, a slot that
// moves), or the connection breaks, a transaction is there as a whole or not at
// all, and none after it is sent. With keepIDs it is therefore safe to add
// everything again after any error: what is there already is rejected, and
// counted in an IDTooLowError, and the rest is added. Without, the stream's
// Info.EntriesAdded tells whether the last transaction came through.
//
// An event without fields cannot be added: Redis has no such entries.
func (w *Writer) Add(ctx context.Context, b *event.Batch, from, to int, keepIDs bool) (added int, err error) {
	rejected := &IDTooLowError{}
	for from < to {
		until := chunkEnd(b, from, to)
		n, err := w.addChunk(ctx, b, from, until, keepIDs, rejected)
		added += n
		if err != nil {
			return added, fmt.Errorf("write stream %q: %w", w.stream, err)
		}
		from = until
	}
	if rejected.Rejected > 0 {
		return added, fmt.Errorf("write stream %q: %w", w.stream, rejected)
	}
	return added, nil
}

// chunkEnd returns the end of the transaction that begins with event from.
func chunkEnd(b *event.Batch, from, to int) int {
	end := from + 1
	for size := b.RangeBytes(from, end); end < min(to, from+writeCount); end++ {
		if size += b.RangeBytes(end, end+1); size > writeBytes {
			break
		}
	}
	return end
}

// addChunk adds one transaction, to the node that has the stream by now.
func (w *Writer) addChunk(ctx context.Context, b *event.Batch, from, to int, keepIDs bool, rejected *IDTooLowError) (int, error) {
	for try := 0; ; try++ {
		if err := w.connect(ctx); err != nil {
			return 0, err
		}
		end := w.cn.during(ctx)
		n, err := w.transact(b, from, to, keepIDs, rejected)
		end()
		failed, at := w.cn.in.err, w.node
		if err != nil || failed != nil || w.asking {
			w.Close()
		}
		if err == nil {
			return n, nil
		}
		if failed != nil && ctx.Err() != nil {
			return n, ctx.Err()
		}
		redirect, redirected := parseRedirection(err)
		if !redirected || try >= maxRedirects {
			return n, classify(err)
		}
		w.node, w.asking = w.client.follow(ctx, at, redirect), redirect.ask
	}
}

func (w *Writer) connect(ctx context.Context) (err error) {
	if w.cn != nil {
		return nil
	}
	if w.node.opts == nil {
		if w.node, err = w.client.owner(ctx, w.stream); err != nil {
			return err
		}
	}
	// A connection that had been idle could fail with the outcome in doubt.
	w.cn, err = w.client.dial(ctx, w.node)
	return err
}

// transact sends one transaction and looks at every reply.
func (w *Writer) transact(b *event.Batch, from, to int, keepIDs bool, rejected *IDTooLowError) (added int, err error) {
	in := &w.cn.in
	in.compact()
	if w.asking {
		w.cn.out = appendCommand(w.cn.out, "ASKING")
	}
	w.cn.out = appendCommand(w.cn.out, "MULTI")
	var e event.Event
	for i := from; i < to; i++ {
		b.Event(i, &e)
		w.cn.out = appendXAdd(w.cn.out, w.stream, &e, keepIDs)
	}
	w.cn.out = appendCommand(w.cn.out, "EXEC")
	if err := w.cn.flush(); err != nil {
		return 0, err
	}
	if w.asking {
		if _, _, err := in.status(); err != nil {
			return 0, in.fail(err)
		}
	}
	if err := in.queued(to - from); err != nil {
		return 0, err
	}
	var failed error
	for i := from; i < to; i++ {
		err := in.idOrError()
		switch {
		case in.err != nil:
			return added, in.err
		case err == nil:
			added++
		case keepIDs && isIDTooLow(err):
			rejected.add(b.ID(i))
		case failed == nil:
			failed = fmt.Errorf("entry %s: %w", b.ID(i), err)
		}
	}
	return added, failed
}

func (e *IDTooLowError) add(id event.ID) {
	if e.Rejected == 0 {
		e.First = id
	}
	e.Last = id
	e.Rejected++
}

func isIDTooLow(err error) bool {
	reply, ok := asReply(err)
	return ok && strings.Contains(string(reply), "smaller than the target stream top item")
}

// idOrError takes an ID, or an error reply, after which the input can be used on.
func (in *input) idOrError() error {
	if err := in.need(1); err != nil {
		return err
	}
	if in.buf[in.pos] != '-' {
		_, err := in.id()
		return err
	}
	_, from, to, err := in.line()
	if err != nil {
		return err
	}
	return replyError(in.buf[from:to])
}

// appendXAdd appends the command that adds e.
func appendXAdd(out []byte, stream string, e *event.Event, keepID bool) []byte {
	out = appendHeader(out, '*', 3+2*len(e.Fields))
	out = append(out, "$4\r\nXADD\r\n"...)
	out = appendHeader(out, '$', len(stream))
	out = append(out, stream...)
	if keepID {
		var text [2*maxNumber + 1]byte
		id := e.ID.Append(text[:0])
		out = append(out, "\r\n"...)
		out = appendHeader(out, '$', len(id))
		out = append(append(out, id...), "\r\n"...)
	} else {
		out = append(out, "\r\n$1\r\n*\r\n"...)
	}
	for _, f := range e.Fields {
		out = appendBytes(out, f.Name)
		out = appendBytes(out, f.Value)
	}
	return out
}

func appendBytes(out, b []byte) []byte {
	out = appendHeader(out, '$', len(b))
	out = append(out, b...)
	return append(out, "\r\n"...)
}

// SetID restores a stream's counters, as an import of a whole stream needs at
// its end: the last ID and the number of entries ever added, and the highest ID
// that XDEL removed. A last below an entry of the stream is an ErrIDTooLow, a
// stream that does not exist an ErrNoStream.
func (c *Client) SetID(ctx context.Context, stream string, last event.ID, added uint64, maxDeleted event.ID) error {
	err := c.rdb.Do(ctx, "XSETID", stream, last.String(), "ENTRIESADDED", strconv.FormatUint(added, 10), "MAXDELETEDID", maxDeleted.String()).Err()
	if isIDTooLow(err) {
		err = errors.Join(ErrIDTooLow, err)
	}
	if err != nil {
		return fmt.Errorf("set the last ID of stream %q to %s: %w", stream, last, classify(err))
	}
	return nil
}
