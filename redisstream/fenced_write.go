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

	streams []string // the names of those that have entries
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
// for that reason (ErrNotNow also when something changes a stream that is
// restored again and again), ErrUnreachable that it is not known: another writer finds
// out. See PartialError too. An event without fields must not be among them.
//
// next may be nil. Otherwise it is called when the batch is on its way, and may
// give the batch that will be written after it: its entries are sent ahead, for
// the server to take in and hold, so that it is not idle in between. They are
// added by the Write that is called with them, and by nothing else.
func (w *FencedWriter) Write(ctx context.Context, b *FencedBatch, next func() *FencedBatch) error {
	if w.ahead != nil && w.ahead != b {
		w.Rest() // throws the transaction that has begun away
	}
	err := w.do(ctx, func() error { return w.write(b, next) })
	if partial, ok := errors.AsType[*PartialError](err); ok {
		partial.PutBack = w.putBack(ctx, b, partial.Refused[0])
	}
	if errors.Is(err, errConflict) && len(b.streams) > 0 {
		err = fmt.Errorf("something else keeps changing stream %q or its groups: %w", b.streams[0], err)
		if n := len(b.streams); n > 1 {
			err = fmt.Errorf("one of %d streams: %w", n, err)
		}
	}
	if err != nil {
		return fmt.Errorf("write %d entries: %w", len(b.Entries), err)
	}
	return nil
}

// write is one try.
func (w *FencedWriter) write(b *FencedBatch, next func() *FencedBatch) error {
	ahead := w.ahead == b
	if !ahead {
		b.findStreams()
	}
	if err := w.look(b.streams); err != nil {
		return err
	}
	if !ahead {
		if err := w.sendEntries(b); err != nil {
			return err
		}
	}
	w.ahead = nil
	cn := w.cn
	position, last := b.Position(len(b.Entries)), w.lastOf(b, len(b.Entries))
	w.appendFence(position, last)
	cn.out = appendCommand(cn.out, "EXEC")
	likely := b.streams // the streams of the next batch
	var following *FencedBatch
	if next != nil {
		if err := cn.flush(); err != nil {
			return err
		}
		if following = next(); following != nil {
			following.findStreams()
			likely = following.streams
		}
	}
	looks := w.toLook(likely)
	w.appendWatch(looks)
	if following != nil {
		if err := w.sendEntries(following); err != nil {
			return err
		}
	}
	if err := cn.flush(); err != nil {
		return err
	}
	if err := w.outcome(b, position, last, looks); err != nil {
		return err
	}
	if w.cn != nil && w.cn.in.err == nil {
		w.ahead = following
	}
	return nil
}

// outcome takes the replies to a transaction and to what guards the next one.
func (w *FencedWriter) outcome(b *FencedBatch, position string, last map[string]event.ID, looks []string) error {
	in := &w.cn.in
	if err := in.executed(len(b.Entries) + 1); err != nil {
		if errors.Is(err, errConflict) {
			w.watching = false
			return firstOf(w.watch(looks), err)
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
	w.done(position, last, looks)
	return nil
}

// done takes note of a transaction that was executed, and takes the replies to
// what was sent with it. What they say is for the next call to find.
func (w *FencedWriter) done(position string, last map[string]event.ID, looks []string) {
	w.position, w.watching = position, false
	for stream, id := range last {
		w.last[stream] = id
	}
	if w.opts.KeepIDs {
		clear(w.seen)
	}
	err := w.watch(looks)
	switch {
	case err == nil:
	case w.cn.in.err == nil && (errors.Is(err, ErrFenced) || errors.Is(err, ErrCheckpointLost)):
		w.Rest()
		w.dead = err
	default:
		w.cn.in.spoil(err) // connect again
	}
}

// findStreams lists the streams of the batch's entries.
func (b *FencedBatch) findStreams() {
	b.streams = b.streams[:0]
	known := make(map[int]struct{}, 1)
	for i, entry := range b.Entries {
		if i > 0 && entry.Stream == b.Entries[i-1].Stream {
			continue
		}
		if _, ok := known[entry.Stream]; !ok {
			known[entry.Stream] = struct{}{}
			b.streams = append(b.streams, b.Streams[entry.Stream])
		}
	}
}

// look makes sure that the key and the streams of a batch are watched, and that
// entries can be added to them.
func (w *FencedWriter) look(streams []string) error {
	var unseen []string
	for _, stream := range streams {
		if _, ok := w.seen[stream]; !ok {
			unseen = append(unseen, stream)
		}
	}
	if !w.watching || len(unseen) > 0 {
		take := w.looks
		if w.watching {
			w.appendLooks(unseen)
		} else {
			take = w.watch
			w.appendWatch(unseen)
		}
		if err := w.cn.flush(); err != nil {
			return err
		}
		if err := take(unseen); err != nil {
			return err
		}
	}
	for _, stream := range streams {
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

// lastOf returns the last IDs of the streams after the first n entries.
func (w *FencedWriter) lastOf(b *FencedBatch, n int) map[string]event.ID {
	if !w.opts.KeepIDs {
		return nil
	}
	last := make(map[string]event.ID, len(b.streams))
	for _, entry := range b.Entries[:n] {
		last[b.Streams[entry.Stream]] = b.Events.ID(entry.Event)
	}
	return last
}

// toLook returns which of the streams of the next batch are looked at along with
// a transaction: those that were not before, and some of the others again.
// Streams that are restored were watched until the transaction.
func (w *FencedWriter) toLook(streams []string) []string {
	if w.opts.KeepIDs {
		return streams
	}
	var looks []string
	for _, stream := range streams {
		if _, ok := w.seen[stream]; !ok || len(looks) < maxRefreshed {
			looks = append(looks, stream)
		}
	}
	return looks
}

// sendEntries begins a transaction.
func (w *FencedWriter) sendEntries(b *FencedBatch) error {
	cn := w.cn
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
			if cap(cn.out) > keepConnBuffer { // a large entry
				cn.out = nil
			}
		}
	}
	return nil
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
		for _, stream := range b.streams {
			last[stream] = w.last[stream]
		}
		for stream, id := range w.lastOf(b, n) {
			last[stream] = id
		}
	}
	var err error
	for range maxConflicts {
		w.dead = nil
		err = w.do(ctx, func() error { return w.set(position, last) })
		if err == nil || !errors.Is(err, ErrUnreachable) {
			break
		}
	}
	return err
}

// set sets the position, and executes commands before it, in a transaction.
func (w *FencedWriter) set(position string, last map[string]event.ID, commands ...[]string) error {
	if err := w.look(nil); err != nil {
		return err
	}
	cn := w.cn
	cn.out = appendCommand(cn.out, "MULTI")
	for _, command := range commands {
		cn.out = appendCommand(cn.out, command...)
	}
	w.appendFence(position, last)
	cn.out = appendCommand(cn.out, "EXEC")
	w.appendWatch(nil)
	if err := cn.flush(); err != nil {
		return err
	}
	err := cn.in.executed(len(commands) + 1)
	if err != nil {
		if errors.Is(err, errConflict) {
			w.watching = false
			return firstOf(w.watch(nil), err)
		}
		return err
	}
	for range commands {
		failed := cn.in.statusOrNumber()
		if cn.in.err != nil {
			return cn.in.err
		}
		err = firstOf(err, failed)
	}
	if _, numErr := cn.in.number(); numErr != nil {
		return cn.in.fail(fmt.Errorf("set the position: %w", numErr))
	}
	w.done(position, last, nil)
	return err
}

// SetID restores a stream's counters as Client.SetID does, fenced.
func (w *FencedWriter) SetID(ctx context.Context, stream string, last event.ID, added uint64, maxDeleted event.ID) error {
	if w.ahead != nil {
		w.Rest()
	}
	command := setIDCommand(stream, last, added, maxDeleted)
	err := w.do(ctx, func() error {
		return w.set(w.position, map[string]event.ID{stream: last}, command)
	})
	if err != nil {
		return fmt.Errorf("set the last ID of stream %q to %s: %w", stream, last, err)
	}
	return nil
}
