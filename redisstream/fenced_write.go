package redisstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// FencedBatch is what one FencedWriter.Write adds. It stays the caller's.
type FencedBatch struct {
	Events *event.Batch
	// Entries are the events to add, in order.
	Entries []FencedEntry
	// Streams are the names that Entries refer to.
	Streams []string
	// Extra adds fields to the i-th event of Events, unless it is nil. It appends
	// to e.Fields, and keeps the bytes until it is called again.
	Extra func(i int, e *event.Event)
	// Position gives the position after the first n entries, as a text.
	Position func(n int) string
}

// FencedEntry is one entry to add.
type FencedEntry struct {
	Event  int // its index in Events
	Stream int // that of its stream in Streams
}

// PartialError says that Redis executed a transaction but for some entries,
// which its checks before had let pass. The position was put back to before the
// first of them, unless the error says so: entries after it that were added
// would be added again.
type PartialError struct {
	Added   int   // entries of the batch that are in their streams
	Refused []int // indexes in Entries of those that are not
	Stream  string
	Err     error // why the first was refused
	// PutBack is nil when the position was put back; otherwise why it could not
	// be: then it stands after entries that are not there.
	PutBack error
}

func (e *PartialError) Error() string {
	text := fmt.Sprintf("redis added %d entries of a batch and refused %d, the first for stream %q: %v", e.Added, len(e.Refused), e.Stream, e.Err)
	if after := e.Added - e.Refused[0]; after > 0 {
		text += fmt.Sprintf(" (%d were added after it)", after)
	}
	if e.PutBack != nil {
		text += fmt.Sprintf("; the checkpoint could not be put back and counts them as written: %v", e.PutBack)
	}
	return text
}

// Unwrap gives what Redis said.
func (e *PartialError) Unwrap() error { return e.Err }

// errConflict: a transaction was not executed because a watched key changed.
var errConflict = errors.New("a watched key changed")

// Write adds the entries and sets the position in one transaction. It returns
// nil when the server has executed it, an empty batch sets the position only.
//
// ErrFenced says that nothing was written because another writer has the key,
// ErrNotNow, ErrNotStream, ErrPermission and ErrForeign that nothing was written
// for that reason, ErrUnreachable that it is not known: another writer finds
// out. See PartialError too. An event without fields must not be among them.
func (w *FencedWriter) Write(ctx context.Context, b *FencedBatch) error {
	w.touched = w.touched[:0]
	known := make(map[int]struct{}, 1)
	for i := range b.Entries {
		s := b.Entries[i].Stream
		if i > 0 && s == b.Entries[i-1].Stream {
			continue
		}
		if _, ok := known[s]; !ok {
			known[s] = struct{}{}
			w.touched = append(w.touched, b.Streams[s])
		}
	}
	streams := len(w.touched)
	err := w.do(ctx, func() error { return w.write(b) })
	if partial, ok := errors.AsType[*PartialError](err); ok {
		partial.PutBack = w.putBack(ctx, b, partial.Refused[0])
	}
	if err != nil {
		return fmt.Errorf("write to %d streams: %w", streams, err)
	}
	return nil
}

// write is one try.
func (w *FencedWriter) write(b *FencedBatch) error {
	if err := w.look(); err != nil {
		return err
	}
	position := b.Position(len(b.Entries))
	last := w.lastOf(b, len(b.Entries))
	if err := w.send(b, position, last); err != nil {
		return err
	}
	in := &w.cn.in
	if err := in.executed(len(b.Entries) + 1); err != nil {
		if errors.Is(err, errConflict) {
			w.watching = false
			return firstOf(w.watch(w.refreshed()), err)
		}
		return err
	}
	partial := &PartialError{}
	for i := range b.Entries {
		err := in.idOrError()
		switch {
		case in.err != nil:
			return in.err
		case err == nil:
			partial.Added++
		default:
			if partial.Err == nil {
				partial.Err, partial.Stream = classify(err), b.Streams[b.Entries[i].Stream]
			}
			partial.Refused = append(partial.Refused, i)
		}
	}
	if _, err := in.number(); err != nil {
		return in.fail(fmt.Errorf("set the position: %w", err))
	}
	if partial.Err != nil {
		w.position = position
		return partial
	}
	w.done(position, last)
	return nil
}

// done takes note of a transaction that was executed, and takes the replies to
// what was sent with it. What they say is for the next call to find.
func (w *FencedWriter) done(position string, last map[string]event.ID) {
	w.position, w.watching = position, false
	for stream, id := range last {
		w.last[stream] = id
	}
	if w.opts.KeepIDs {
		clear(w.seen)
	}
	err := w.watch(w.refreshed())
	switch {
	case err == nil:
	case w.cn.in.err == nil && (errors.Is(err, ErrFenced) || errors.Is(err, ErrCheckpointLost)):
		w.dead = err
		w.Rest()
	default:
		w.cn.in.spoil(err) // connect again
	}
}

// look makes sure that the key and the streams of the batch are watched, and
// that entries can be added.
func (w *FencedWriter) look() error {
	unseen := make([]string, 0, 1)
	for _, stream := range w.touched {
		if _, ok := w.seen[stream]; !ok {
			unseen = append(unseen, stream)
		}
	}
	if !w.watching || len(unseen) > 0 {
		watching := w.watching
		if watching {
			w.appendLooks(unseen)
		} else {
			w.appendWatch(unseen)
		}
		if err := w.cn.flush(); err != nil {
			return err
		}
		var err error
		if watching {
			err = w.looks(unseen)
		} else {
			err = w.watch(unseen)
		}
		if err != nil {
			return err
		}
	}
	for _, stream := range w.touched {
		s := w.seen[stream]
		switch {
		case s.err != nil:
			return fmt.Errorf("stream %q: %w", stream, s.err)
		case w.opts.KeepIDs && s.last != w.last[stream]:
			return fmt.Errorf("stream %q: %w: its last ID is %s, the last one restored is %s", stream, ErrForeign, s.last, w.last[stream])
		}
	}
	return nil
}

// refreshed returns the streams that are looked at along with a transaction.
func (w *FencedWriter) refreshed() []string {
	if w.opts.KeepIDs {
		return w.touched
	}
	return w.touched[:min(len(w.touched), maxRefreshed)]
}

// lastOf returns the last IDs of the streams after the first n entries.
func (w *FencedWriter) lastOf(b *FencedBatch, n int) map[string]event.ID {
	if !w.opts.KeepIDs {
		return nil
	}
	last := make(map[string]event.ID, len(w.touched))
	for _, entry := range b.Entries[:n] {
		last[b.Streams[entry.Stream]] = b.Events.ID(entry.Event)
	}
	return last
}

// send sends one transaction, and what guards the next one.
func (w *FencedWriter) send(b *FencedBatch, position string, last map[string]event.ID) error {
	cn := w.cn
	cn.in.compact()
	cn.out = appendCommand(cn.out, "MULTI")
	e := &w.event
	for _, entry := range b.Entries {
		b.Events.Event(entry.Event, e)
		if b.Extra != nil {
			b.Extra(entry.Event, e)
		}
		cn.out = appendXAdd(cn.out, b.Streams[entry.Stream], e, w.opts.KeepIDs)
		if len(cn.out) >= flushBytes {
			if err := cn.flush(); err != nil {
				return err
			}
		}
	}
	w.appendFence(position, last)
	cn.out = appendCommand(cn.out, "EXEC")
	w.appendWatch(w.refreshed())
	return cn.flush()
}

// putBack sets the position to that after the first n entries, when those after
// it could not be added.
func (w *FencedWriter) putBack(ctx context.Context, b *FencedBatch, n int) error {
	// The entries are there or not, whether anybody still waits for this or not.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.client.cfg.ReadTimeout)
	defer cancel()
	died := w.dead
	defer func() { w.dead = died }()
	position, last := b.Position(n), map[string]event.ID{}
	if w.opts.KeepIDs {
		for _, stream := range w.touched {
			last[stream] = w.last[stream]
		}
		for stream, id := range w.lastOf(b, n) {
			last[stream] = id
		}
	}
	var err error
	for range maxConflicts {
		w.dead = nil
		err = w.do(ctx, func() error { return w.set(position, last, nil) })
		if err == nil || !errors.Is(err, ErrUnreachable) {
			break
		}
	}
	return err
}

// set sets the position, and executes one command before it, in a transaction.
func (w *FencedWriter) set(position string, last map[string]event.ID, command []string) error {
	w.touched = w.touched[:0]
	if err := w.look(); err != nil {
		return err
	}
	cn, n := w.cn, 1
	cn.out = appendCommand(cn.out, "MULTI")
	if command != nil {
		cn.out = appendCommand(cn.out, command...)
		n++
	}
	w.appendFence(position, last)
	cn.out = appendCommand(cn.out, "EXEC")
	w.appendWatch(nil)
	if err := cn.flush(); err != nil {
		return err
	}
	err := cn.in.executed(n)
	if err != nil {
		if errors.Is(err, errConflict) {
			w.watching = false
			return firstOf(w.watch(nil), err)
		}
		return err
	}
	if command != nil {
		_, _, err = cn.in.status()
	}
	if _, numErr := cn.in.number(); numErr != nil {
		return cn.in.fail(fmt.Errorf("set the position: %w", numErr))
	}
	w.done(position, last)
	return err
}

// SetID restores a stream's counters as Client.SetID does, fenced.
func (w *FencedWriter) SetID(ctx context.Context, stream string, last event.ID, added uint64, maxDeleted event.ID) error {
	command := setIDCommand(stream, last, added, maxDeleted)
	err := w.do(ctx, func() error {
		return w.set(w.position, map[string]event.ID{stream: last}, command)
	})
	if err != nil {
		return fmt.Errorf("set the last ID of stream %q to %s: %w", stream, last, err)
	}
	return nil
}
