package redisstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/reservoirhq/reservoir/event"
)

const (
	firstCount   = 16       // of a new Reader, and after an error: nothing is known of the entries' size
	growCount    = 8        // how much larger the next reply may be
	bigEntry     = 64 << 10 // bytes; above it, counters are asked for only now and then
	bigInfoEvery = 16       // reads
	maxReply     = 32 << 20 // bytes after which the rest of a reply is given up
)

// ReaderOptions tune a Reader. The zero value reads to the end of the stream.
type ReaderOptions struct {
	// Until bounds what is read: no entry above it is returned. Zero means no
	// bound.
	Until event.ID
	// MaxEntrySize bounds the bytes of an entry's names and values; a larger
	// entry is a TooLargeError. Default 64 MiB, at most 1 GiB.
	MaxEntrySize int64
	// MaxCount bounds the entries of a batch; default 1000.
	MaxCount int
	// BatchBytes is what a batch aims at; default 1 MiB. Entries that are much
	// larger than the ones before can exceed it, up to 32 MiB and one entry.
	BatchBytes int
}

func (o ReaderOptions) withDefaults() ReaderOptions {
	setDefault(&o.MaxEntrySize, 64<<20)
	o.MaxEntrySize = min(o.MaxEntrySize, 1<<30)
	setDefault(&o.MaxCount, 1000)
	setDefault(&o.BatchBytes, 1<<20)
	return o
}

// Snapshot describes the stream at the very moment at which a batch was read.
type Snapshot struct {
	// Info holds the stream's counters at that moment if HasInfo is set. It is
	// set on every read but those of streams with entries over 64 KiB, where
	// it is set on every 16th and at the end, and those that were cut short.
	Info    Info
	HasInfo bool
	// AtEnd says that there was nothing more to read: the end of the stream,
	// or ReaderOptions.Until, had been reached.
	AtEnd bool
	// Epoch numbers the server processes and their replication histories as
	// this Client meets them. When it changes between two reads of a stream,
	// Redis was restarted or failed over, or (for a user that may not run
	// INFO) the connection is another one: compare contents before going on.
	Epoch uint64
}

// Reader reads one stream in order, over a connection of its own. It keeps no
// position: the caller says after which ID to go on. While the caller deals
// with a full batch the request for what follows it is on its way already; a
// batch and its Snapshot can therefore be as old as the previous call to Read.
// A Reader is used by one goroutine at a time.
type Reader struct {
	client *Client
	stream string
	opts   ReaderOptions

	node   node // zero: not known
	asking bool // node serves the stream for one request only
	cn     *conn
	ahead  *request // sent, reply not read yet
	rest   []byte   // beginning of the reply to ahead
	count  int      // entries to ask for
	big    bool     // entries are over bigEntry on average
	noInfo int      // reads since counters were asked for
}

// request is one read of the stream.
type request struct {
	after event.ID
	count int
	info  bool // together with the counters, in a transaction
}

// Reader opens a Reader. It connects at once, so that an unreachable server or
// a missing permission to connect shows here; the stream is first looked at by
// Read. The caller must Close it.
func (c *Client) Reader(ctx context.Context, stream string, opts ReaderOptions) (*Reader, error) {
	r := &Reader{client: c, stream: stream, opts: opts.withDefaults()}
	r.count = min(firstCount, r.opts.MaxCount)
	if err := r.connect(ctx); err != nil {
		return nil, fmt.Errorf("read stream %q: %w", stream, err)
	}
	return r, nil
}

// Read resets b and fills it with the entries after the given ID, in order: at
// least one, unless Snapshot.AtEnd is set. The batch takes over the connection's
// buffer; it stays valid until it is Reset or read into again.
//
// Errors wrap ErrNoStream, ErrNotStream, ErrTooLarge (a TooLargeError; the
// entries before the large one were returned by earlier calls), ErrUnreachable,
// ErrLoading, ErrPermission or ctx.Err(). After any error b is empty and the
// Reader can be used again: the next Read makes a new connection if it must.
func (r *Reader) Read(ctx context.Context, after event.ID, b *event.Batch) (Snapshot, error) {
	for try := 0; ; try++ {
		snap, err := r.read(ctx, after, b)
		if err == nil && b.Len() == 0 && !snap.AtEnd {
			continue // the end needs the counters, which were not asked for
		}
		if err == nil {
			return snap, nil
		}
		b.Reset()
		r.count = min(r.count, firstCount) // a shorter reply may get through a bad network
		if ctx.Err() != nil {
			return Snapshot{}, fmt.Errorf("read stream %q: %w", r.stream, ctx.Err())
		}
		if try > maxRedirects || !r.again(ctx, err) {
			return Snapshot{}, fmt.Errorf("read stream %q: %w", r.stream, classify(err))
		}
	}
}

// Close gives the connection back. It can be called more than once.
func (r *Reader) Close() { r.release() }

// again prepares another try after an error, if that makes sense: where a
// cluster says that the stream is elsewhere, and when a connection that had
// been idle turns out dead.
func (r *Reader) again(ctx context.Context, err error) bool {
	stale := r.cn != nil && r.cn.reused && r.cn.in.err != nil && !errors.Is(err, ErrProtocol)
	from := r.node
	r.release()
	if to, redirected := parseRedirection(err); redirected {
		r.node, r.asking = r.client.follow(ctx, from, to), to.ask
		return true
	}
	if stale {
		r.client.dropIdle(from.addr)
	}
	return stale
}

// release ends the use of the connection and forgets the node.
func (r *Reader) release() {
	if r.cn != nil {
		if r.ahead != nil {
			r.cn.close()
		}
		r.client.give(r.cn)
	}
	r.cn, r.ahead, r.rest = nil, nil, r.rest[:0]
	r.node, r.asking = node{}, false
}

func (r *Reader) connect(ctx context.Context) (err error) {
	if r.cn != nil {
		return nil
	}
	if r.node.opts == nil {
		if r.node, err = r.client.owner(ctx, r.stream); err != nil {
			return err
		}
	}
	r.cn, err = r.client.take(ctx, r.node)
	return err
}

// read does one request and parses its reply into b.
func (r *Reader) read(ctx context.Context, after event.ID, b *event.Batch) (Snapshot, error) {
	b.Reset()
	if r.ahead != nil && r.ahead.after != after {
		r.release() // what is on its way is not what is wanted
	}
	if err := r.connect(ctx); err != nil {
		return Snapshot{}, err
	}
	end := r.cn.during(ctx)
	snap, err := r.exchange(after, b)
	end()
	if err != nil {
		return Snapshot{}, err
	}
	r.cn.reused = false
	if r.asking || r.cn.in.err != nil {
		r.release()
	}
	return snap, nil
}

// exchange sends a request, unless it is on its way already, and parses the
// reply. The buffer goes from b to the input and back.
func (r *Reader) exchange(after event.ID, b *event.Batch) (Snapshot, error) {
	req := r.ahead
	if req == nil {
		var err error
		if req, err = r.send(after); err != nil {
			return Snapshot{}, err
		}
	}
	r.ahead = nil
	in := &r.cn.in
	in.buf, in.pos = append(b.Buf[:0], r.rest...), 0
	snap, err := r.reply(req, b)
	r.rest = append(r.rest[:0], in.buf[in.pos:]...)
	b.Buf = in.buf[:in.pos]
	in.buf, in.pos = nil, 0
	return snap, err
}

// send requests what follows after. In one write, and together with the
// stream's counters unless its entries are big: XINFO STREAM carries two whole
// ones.
func (r *Reader) send(after event.ID) (*request, error) {
	req := &request{after: after, count: r.count, info: !r.big || r.noInfo >= bigInfoEvery-1}
	from, to := "("+after.String(), "+"
	if !r.opts.Until.IsZero() {
		to = r.opts.Until.String()
	}
	if after == event.MaxID {
		from, to = "+", "-" // an empty range; "(" and the highest ID would be an error
	}
	out := r.cn.out
	if r.asking {
		out = appendCommand(out, "ASKING")
	}
	if req.info {
		out = appendCommand(out, "MULTI")
	}
	out = appendCommand(out, "XRANGE", r.stream, from, to, "COUNT", strconv.Itoa(req.count))
	if req.info {
		out = appendCommand(out, "XINFO", "STREAM", r.stream)
		out = appendCommand(out, "EXEC")
	}
	r.cn.out = out
	return req, r.cn.flush()
}

// reply takes everything that answers req.
func (r *Reader) reply(req *request, b *event.Batch) (Snapshot, error) {
	in := &r.cn.in
	snap := Snapshot{Epoch: r.cn.epoch, HasInfo: req.info}
	if r.asking {
		if _, _, err := in.status(); err != nil {
			return Snapshot{}, in.fail(err)
		}
	}
	if req.info {
		if err := in.queued(2); err != nil {
			return Snapshot{}, err
		}
	}
	whole, err := r.entries(req, b)
	if err != nil && in.err != nil {
		return Snapshot{}, err
	}
	if !whole && err == nil {
		return Snapshot{Epoch: snap.Epoch}, nil
	}
	if req.info {
		info, infoErr := in.info()
		if err == nil {
			err = infoErr
		}
		snap.Info = info
	}
	if err != nil {
		return Snapshot{}, err
	}
	n := b.Len()
	short := n < req.count
	snap.AtEnd = short && req.info || n > 0 && !r.opts.Until.IsZero() && b.ID(n-1) == r.opts.Until
	r.noInfo++
	if req.info {
		r.noInfo = 0
	} else if short {
		r.noInfo = bigInfoEvery // the next read must tell
	}
	return snap, nil
}

// queued takes the replies to MULTI and to n commands after it, and the header
// of EXEC's. An error of a command is that of the transaction.
func (in *input) queued(n int) error {
	if _, _, err := in.status(); err != nil {
		return in.fail(err) // what follows was not queued but executed
	}
	var failed error
	for range n {
		if _, _, err := in.status(); err != nil {
			if in.err != nil {
				return err
			}
			if failed == nil {
				failed = err
			}
		}
	}
	got, err := in.length('*')
	switch {
	case failed != nil && err != nil:
		return failed
	case err != nil:
		return err
	case got != n:
		return in.bad("%d replies of %d in a transaction", got, n)
	}
	return nil
}

// entries takes the reply of XRANGE. As soon as the last ID of a full reply is
// known it sends the next request. It gives up a reply that is far larger than
// was to be expected, or that holds a too large entry after others: what came
// before is in b, the connection is of no further use, and whole is false.
func (r *Reader) entries(req *request, b *event.Batch) (whole bool, err error) {
	in := &r.cn.in
	n, err := in.length('*')
	if err != nil {
		return false, err
	}
	if n < 0 || n > req.count {
		return false, in.bad("%d entries, wanted %d", n, req.count)
	}
	for i := range n {
		id, err := in.entryHeader()
		if err != nil {
			return false, err
		}
		if i == n-1 {
			r.adapt(n, in.pos)
			if err := r.sendAhead(req, n, id); err != nil {
				return false, err
			}
		}
		if err := in.fields(id, int(r.opts.MaxEntrySize), b); err != nil {
			b.Truncate(i)
			if i > 0 && errors.Is(err, ErrTooLarge) {
				r.adapt(i, in.pos)
				return false, nil
			}
			return false, err
		}
		if in.pos > maxReply && i < n-1 {
			r.adapt(i+1, in.pos)
			in.spoil(errCutShort)
			return false, nil
		}
	}
	return true, nil
}

// errCutShort marks a connection on which the rest of a reply was given up.
var errCutShort = errors.New("the rest of a reply was given up")

// sendAhead requests what follows the last entry of a full reply.
func (r *Reader) sendAhead(req *request, n int, last event.ID) (err error) {
	if n < req.count || r.asking || !r.opts.Until.IsZero() && !last.Less(r.opts.Until) {
		return nil
	}
	r.ahead, err = r.send(last)
	return err
}

// adapt sets the next COUNT from the size of the entries just read.
func (r *Reader) adapt(n, bytes int) {
	average := max(1, bytes/n)
	r.big = average > bigEntry
	r.count = max(1, min(r.opts.BatchBytes/average, r.opts.MaxCount, r.count*growCount))
}

// entryHeader takes what comes before an entry's fields.
func (in *input) entryHeader() (event.ID, error) {
	parts, err := in.length('*')
	if err != nil {
		return event.ID{}, in.fail(err)
	}
	if parts != 2 {
		return event.ID{}, in.bad("an entry of %d parts", parts)
	}
	return in.id()
}

// fields takes the fields of an entry and adds the event to b, whose Buf is the
// input's buffer. An entry of more than limit bytes is a TooLargeError; the rest
// of it is left in the input, which is of no further use then.
func (in *input) fields(id event.ID, limit int, b *event.Batch) error {
	n, err := in.length('*')
	if err != nil {
		return in.fail(err)
	}
	if n < 0 || n%2 != 0 {
		return in.bad("%d names and values", n)
	}
	b.Begin(id)
	left := limit
	for range n / 2 {
		name, nameLen, err := in.bulk(left)
		if err != nil {
			return in.overLimit(id, "", limit-left, limit, err)
		}
		left -= nameLen
		value, valueLen, err := in.bulk(left)
		if err != nil {
			return in.overLimit(id, string(in.buf[name:name+min(nameLen, 100)]), limit-left, limit, err)
		}
		left -= valueLen
		b.AddSpan(name, nameLen, value, valueLen)
	}
	return nil
}

// overLimit makes the error for a string that was refused; other errors pass.
func (in *input) overLimit(id event.ID, field string, before, limit int, err error) error {
	if size, ok := errors.AsType[errOverLimit](err); ok {
		err = &TooLargeError{ID: id, Field: field, Size: int64(before) + int64(size), Limit: int64(limit)}
	}
	return in.fail(err)
}
