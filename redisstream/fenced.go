package redisstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// What callers of a FencedWriter decide on, beside the errors of all others.
var (
	// ErrFenced: a FencedWriter with a higher epoch has taken over.
	ErrFenced = errors.New("a writer with a higher epoch has taken over")
	// ErrNotNow: the server takes no writes at present (out of memory, busy, a
	// disk that fails, a slot that moves): nothing was written, try again.
	ErrNotNow = errors.New("redis takes no writes at present")
	// ErrCheckpointLost: the key of a FencedWriter was deleted, evicted or
	// changed by somebody else while it was in use.
	ErrCheckpointLost = errors.New("checkpoint in redis is lost")
	// ErrForeign: somebody else adds to a stream that is being restored.
	ErrForeign = errors.New("somebody else adds to the stream")
)

// FenceOptions say who writes.
type FenceOptions struct {
	// Key is where the writer keeps its epoch and position, in a hash of its own.
	// In a cluster it must lie in the slot of the streams that are written.
	Key string
	// Epoch is higher than that of every writer of the key before this one. The
	// same epoch may come again after its last writer failed.
	Epoch uint64
	// Known says that the key was there before: Fence fails with ErrCheckpointLost,
	// and writes nothing, if it is not there any more.
	Known bool
	// KeepIDs restores streams: entries keep their IDs, and nobody else may add
	// to the streams meanwhile. Without it Redis gives entries new IDs.
	KeepIDs bool
	// Place gives for a stream that is restored the name that it gets in the end,
	// for TryFence to try that too; nil: it has its name already.
	Place func(stream string) string
}

// FencedWriter adds entries to streams together with the position that they end
// at: both are there or neither is, in whatever way the writer, the connection
// or the server ends. A writer with a lower epoch can do nothing any more once
// one with a higher epoch was opened.
//
// Every batch is one transaction that the server executes only if nobody wrote
// the key since this writer did (WATCH). The transaction of one batch and the
// watch for the next one travel together, so that a batch takes one round trip.
//
// What Redis itself loses, because it crashed before its append-only file was
// on disk or failed over to a replica that was behind, it loses of both, from
// some transaction on: the position tells what has to be written again.
//
// A FencedWriter is used by one goroutine at a time, over a connection of its
// own. It is of no use after an error.
type FencedWriter struct {
	client   *Client
	opts     FenceOptions
	node     node
	cn       *conn
	watching bool // the key is watched since this writer wrote it
	dead     error

	token    string // tells this writer from others with the same epoch
	position string
	last     map[string]event.ID // KeepIDs: what the writers of the key added last, by stream
	seen     map[string]sight    // streams that were looked at, and are watched if KeepIDs
	event    event.Event
	ahead    *FencedBatch // whose entries were sent, in a transaction that has begun
}

// sight is what a stream looked like.
type sight struct {
	last  event.ID
	there bool // known if KeepIDs
	err   error
}

const (
	fenceField = "fence" // of the hash: "epoch token position"
	lastField  = "last:" // and a stream's name: the last ID added to it, if IDs are kept

	// flushBytes is after how many bytes a transaction begins to be sent: the
	// server takes it in while the rest is encoded.
	flushBytes = 64 << 10
	// maxRefreshed bounds the streams that are looked at again with each batch.
	maxRefreshed = 16
	// maxConflicts is how often the key is tried again when others write it.
	maxConflicts = 5
	// maxTouches is how often a transaction is sent again that met a change of a
	// watched stream which did it no harm, such as a new group: after a pause that
	// doubles from the first to the last, more than a second in all.
	maxTouches = 12
	firstTouch = time.Millisecond
	lastTouch  = 250 * time.Millisecond
)

// Fence opens a FencedWriter and takes the key over: when it returns, every
// writer of the key that was opened before can write nothing more, whatever it
// has under way. It fails with ErrFenced if the key has met a higher epoch, and as
// FenceOptions.Known says. The caller must Close the writer.
func (c *Client) Fence(ctx context.Context, opts FenceOptions) (*FencedWriter, error) {
	w := &FencedWriter{client: c, opts: opts, token: rand.Text()[:8], last: map[string]event.ID{}, seen: map[string]sight{}}
	if err := w.do(ctx, w.takeOver); err != nil {
		w.Close()
		return nil, fmt.Errorf("take over %q: %w", opts.Key, err)
	}
	return w, nil
}

// Close ends the writer. It can be called more than once.
func (w *FencedWriter) Close() {
	w.Rest()
	if w.dead == nil {
		w.dead = errors.New("the writer is closed")
	}
}

// Rest gives up the connection until the next Write.
func (w *FencedWriter) Rest() {
	if w.cn != nil {
		w.cn.close()
	}
	w.cn, w.watching, w.ahead = nil, false, nil
	clear(w.seen)
}

// Position returns the position of the last batch that was written with the key,
// by any writer: "" if there is none.
func (w *FencedWriter) Position() string { return w.position }

// Last returns the ID that was added last to a stream, by any writer of the key
// that keeps IDs.
func (w *FencedWriter) Last(stream string) event.ID { return w.last[stream] }

// EndFence ends the use of a key: it takes it over, and lets it expire after some
// time. Until then writers with a lower epoch that come late are still kept out.
func (c *Client) EndFence(ctx context.Context, opts FenceOptions, keep time.Duration) error {
	w, err := c.Fence(ctx, opts)
	if err != nil {
		return err
	}
	w.Close()
	if err := c.rdb.PExpire(ctx, opts.Key, keep).Err(); err != nil {
		return fmt.Errorf("let %q expire: %w", opts.Key, notNow(classify(err)))
	}
	return nil
}

// do runs f on the writer's connection, to which it must have the replies of all
// that it sent, and follows the key to where a cluster has it. An error is the
// writer's end.
func (w *FencedWriter) do(ctx context.Context, f func() error) error {
	if w.dead != nil {
		return w.dead
	}
	touches := 0
	for try := 0; ; try++ {
		err := w.on(ctx, f)
		if err == nil {
			return nil
		}
		w.Rest()
		to, moved := parseRedirection(err)
		switch {
		case moved && !to.ask && try < maxRedirects:
			w.node = w.client.follow(ctx, w.node, to)
			continue
		case errors.Is(err, errConflict) && touches < maxTouches && waitFor(ctx, min(firstTouch<<touches, lastTouch)):
			touches++
			continue
		case ctx.Err() != nil:
			err = ctx.Err()
		case errors.Is(err, errConflict):
			err = fmt.Errorf("%w: %w, %d times in a row", ErrNotNow, err, touches+1)
		default:
			err = notNow(classify(err))
		}
		w.dead = err
		return err
	}
}

// waitFor waits; false says that ctx ended before.
func waitFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// on runs f once.
func (w *FencedWriter) on(ctx context.Context, f func() error) (err error) {
	if w.cn == nil {
		if w.node.opts == nil {
			if w.node, err = w.client.owner(ctx, w.opts.Key); err != nil {
				return err
			}
		}
		if w.cn, err = w.client.dial(ctx, w.node); err != nil {
			return err
		}
	}
	end := w.cn.during(ctx)
	w.cn.in.compact()
	err = f()
	end()
	if err == nil && w.cn.in.err != nil {
		w.Rest() // what f did is done; the next call connects again
	}
	return err
}

// takeOver makes the key this writer's.
func (w *FencedWriter) takeOver() error {
	for range maxConflicts {
		if err := w.load(); err != nil {
			return err
		}
		w.cn.out = appendCommand(w.cn.out, "MULTI")
		w.appendFence(w.position, nil)
		w.cn.out = appendCommand(w.cn.out, "EXEC")
		w.appendWatch(nil)
		if err := w.cn.flush(); err != nil {
			return err
		}
		err := w.cn.in.executed(1)
		if err == nil {
			_, err = w.cn.in.number()
		}
		if err != nil && !errors.Is(err, errConflict) {
			return err
		}
		if err == nil {
			return w.watch(nil)
		}
		if err := w.watch(nil); w.cn.in.err != nil { // another writer was faster: whose is it now?
			return err
		}
	}
	return fmt.Errorf("%w: others keep writing it", ErrFenced)
}

// load watches the key and reads all that it holds.
func (w *FencedWriter) load() error {
	cn := w.cn
	cn.out = appendCommand(cn.out, "WATCH", w.opts.Key)
	cn.out = appendCommand(cn.out, "HGETALL", w.opts.Key)
	if err := cn.flush(); err != nil {
		return err
	}
	_, _, watchErr := cn.in.status()
	n, err := cn.in.length('*')
	if err = errors.Join(watchErr, err); err != nil {
		return err
	}
	w.position = ""
	clear(w.last)
	there := false
	for range n / 2 {
		name, err := cn.in.text()
		if err != nil {
			return err
		}
		value, err := cn.in.text()
		if err != nil {
			return err
		}
		if stream, isLast := strings.CutPrefix(name, lastField); isLast {
			if w.last[stream], err = event.ParseID(value); err != nil {
				return fmt.Errorf("%w: %q holds %q: %w", ErrCheckpointLost, w.opts.Key, name, err)
			}
		}
		if name != fenceField {
			continue
		}
		epoch, position, err := parseFence(value)
		if err != nil {
			return fmt.Errorf("%w: %q holds %.100q", ErrCheckpointLost, w.opts.Key, value)
		}
		if epoch > w.opts.Epoch {
			return fmt.Errorf("%w: %d is lower than %d", ErrFenced, w.opts.Epoch, epoch)
		}
		w.position, there = position, true
	}
	if w.opts.Known && !there {
		return fmt.Errorf("%w: key %q is gone", ErrCheckpointLost, w.opts.Key)
	}
	return nil
}

func parseFence(value string) (epoch uint64, position string, err error) {
	first, rest, _ := strings.Cut(value, " ")
	_, position, _ = strings.Cut(rest, " ")
	epoch, err = strconv.ParseUint(first, 10, 64)
	return epoch, position, err
}

func (w *FencedWriter) fence(position string) string {
	return strconv.FormatUint(w.opts.Epoch, 10) + " " + w.token + " " + position
}

// appendFence appends the command that sets the position, and the last IDs of
// streams.
func (w *FencedWriter) appendFence(position string, last map[string]event.ID) {
	out := appendHeader(w.cn.out, '*', 4+2*len(last))
	out = append(out, "$4\r\nHSET\r\n"...)
	out = appendText(out, w.opts.Key)
	out = appendText(out, fenceField)
	out = appendText(out, w.fence(position))
	for stream, id := range last {
		out = appendText(out, lastField+stream)
		out = appendText(out, id.String())
	}
	w.cn.out = out
}

func appendText(out []byte, s string) []byte {
	out = appendHeader(out, '$', len(s))
	out = append(out, s...)
	return append(out, "\r\n"...)
}

// appendWatch appends what guards the next transaction, and looks at streams
// that it may add to.
func (w *FencedWriter) appendWatch(streams []string) {
	w.cn.out = appendCommand(w.cn.out, "WATCH", w.opts.Key)
	w.cn.out = appendCommand(w.cn.out, "HGET", w.opts.Key, fenceField)
	w.appendLooks(streams)
}

func (w *FencedWriter) appendLooks(streams []string) {
	for _, stream := range streams {
		if w.opts.KeepIDs {
			w.cn.out = appendCommand(w.cn.out, "WATCH", stream)
			w.cn.out = appendCommand(w.cn.out, "XINFO", "STREAM", stream)
		} else {
			w.cn.out = appendCommand(w.cn.out, "TYPE", stream)
		}
	}
}

// watch takes the replies to appendWatch. From then on the next transaction is
// executed only if the key stays as this writer left it.
func (w *FencedWriter) watch(streams []string) error {
	in := &w.cn.in
	_, _, err := in.status()
	value, there, getErr := in.textOrNull()
	if err = errors.Join(err, getErr); in.err != nil {
		return in.err
	}
	if err := w.looks(streams); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	epoch, _, parseErr := parseFence(value)
	switch {
	case !there:
		return fmt.Errorf("%w: key %q is gone", ErrCheckpointLost, w.opts.Key)
	case parseErr == nil && epoch > w.opts.Epoch:
		return fmt.Errorf("%w: %d is lower than %d", ErrFenced, w.opts.Epoch, epoch)
	case value != w.fence(w.position):
		return fmt.Errorf("%w: key %q holds %.100q, not %q", ErrCheckpointLost, w.opts.Key, value, w.fence(w.position))
	}
	w.watching = true
	return nil
}

// looks takes the replies to appendLooks.
func (w *FencedWriter) looks(streams []string) error {
	in := &w.cn.in
	for _, stream := range streams {
		var s sight
		if w.opts.KeepIDs {
			_, _, err := in.status()
			info, infoErr := in.info()
			s.there = infoErr == nil
			if infoErr != nil && errors.Is(classify(infoErr), ErrNoStream) {
				infoErr = nil
			}
			s.last, s.err = info.LastGeneratedID, errors.Join(err, infoErr)
		} else {
			from, to, err := in.status()
			if err == nil && string(in.buf[from:to]) != "stream" && string(in.buf[from:to]) != "none" {
				err = fmt.Errorf("%w: it is a %s", ErrNotStream, in.buf[from:to])
			}
			s.err = err
		}
		if in.err != nil {
			return in.err
		}
		w.seen[stream] = s
	}
	return nil
}

// notNow joins err with ErrNotNow if the server may take the same some time later.
func notNow(err error) error {
	reply, ok := asReply(err)
	if !ok {
		return err
	}
	switch reply.code() {
	case "OOM", "BUSY", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "ASK", "MOVED", "UNKILLABLE":
		return fmt.Errorf("%w: %w", ErrNotNow, err)
	}
	return err
}
