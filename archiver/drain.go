package archiver

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

const (
	// readAhead is how many batches one drain has in memory: one that is being
	// read, and what waits for the encoders or is with them.
	readAhead = 5
	// keepBatchBytes is the largest buffer that is kept for the next batch; one
	// giant entry does not stay in memory.
	keepBatchBytes = 4 << 20
	// commitTimeout bounds finishing and committing what is in hand once the
	// archiver has been told to stop.
	commitTimeout = 30 * time.Second
	// yieldAfter is how long a busy stream keeps its place while others wait.
	yieldAfter = 10 * time.Second
	// readBeyond is how many batches a drain with a bound reads after it, if the
	// stream does not end before: what was deleted only shows at the end.
	readBeyond = 16
)

// errYield ends the drain of a busy stream early, in favour of another one.
var errYield = errors.New("yielded to another stream")

// errServerChanged ends a drain in the midst of which Redis was restarted or
// failed over: contents are compared before it goes on.
var errServerChanged = errors.New("redis was restarted or failed over in the midst of reading")

// drainSpec bounds one drain.
type drainSpec struct {
	until event.ID // read up to this ID, and a little more; zero: up to the end
	busy  bool     // in one of the places for busy streams
}

// drain archives what a stream holds beyond its head: it reads to the end,
// while the segments before are encoded and uploaded, and commits each segment
// as it is full. When ctx ends it commits what is in hand.
func (a *Archiver) drain(ctx context.Context, st *stream, spec drainSpec) error {
	if err := a.prepare(ctx, st); err != nil {
		return err
	}
	if !st.present {
		return nil
	}
	if !spec.busy && spec.until.IsZero() && st.pending() > busyPending {
		return errYield
	}
	d := &drain{Archiver: a, st: st, spec: spec, began: time.Now(), free: make(chan *heldBatch, readAhead)}
	d.ledger = redisstream.Ledger{Position: st.log.Head(), Added: st.log.EntriesAdded()}
	err := d.run(ctx)
	if errors.Is(err, redisstream.ErrHistoryReplaced) {
		// Begun anew, the stream is for the next drain.
		return errors.Join(err, a.replacedMeanwhile(ctx, st))
	}
	if err != nil {
		return err
	}
	return a.afterDrain(ctx, st)
}

// drain is one run over one stream.
type drain struct {
	*Archiver
	st    *stream
	spec  drainSpec
	began time.Time
	free  chan *heldBatch

	ledger redisstream.Ledger
	writer *archive.SegmentWriter // nil between segments
	digest string                 // of the last event sent to writer
	added  uint64                 // entries-added at that event
}

// chunk is one reply of the reader.
type chunk struct {
	batch *heldBatch
	snap  redisstream.Snapshot
	err   error
}

func (d *drain) run(ctx context.Context) (err error) {
	// Uploads and commits outlive a stop by commitTimeout; reading does not.
	work, cancelWork := detached(ctx, commitTimeout)
	defer cancelWork()
	readCtx, stopReading := context.WithCancel(ctx)
	chunks := make(chan chunk)
	go d.read(readCtx, chunks)
	defer func() {
		stopReading()
		for range chunks { // the reader has ended when this does
		}
		if d.writer != nil {
			d.writer.Abort()
			d.writer = nil
		}
	}()
	epoch := uint64(0)
	for c := range chunks {
		if c.err == nil && epoch != 0 && c.snap.Epoch != epoch {
			c.err = errServerChanged
		}
		epoch = c.snap.Epoch
		if c.err != nil {
			if err := d.commitSegment(work); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil // told to stop: what was in hand is committed
			}
			return c.err
		}
		if err := d.take(work, c); err != nil {
			return err
		}
		if d.writer == nil && d.mustYield() {
			return errYield
		}
	}
	return d.commitSegment(work)
}

// mustYield reports whether this drain has had its turn.
func (d *drain) mustYield() bool {
	return d.spec.busy && d.othersWait.Load() && time.Since(d.began) > yieldAfter
}

// read sends one chunk after the other until the end of the stream (or
// somewhat beyond spec.until), an error or the end of ctx; then it closes chunks.
func (d *drain) read(ctx context.Context, chunks chan<- chunk) {
	defer close(chunks)
	send := func(c chunk) bool {
		select {
		case chunks <- c:
			return true
		case <-ctx.Done():
			return false
		}
	}
	reader, err := d.redis.Reader(ctx, d.st.name, redisstream.ReaderOptions{MaxEntrySize: d.opts.MaxEntrySize})
	if err != nil {
		send(chunk{err: err})
		return
	}
	defer reader.Close()
	position := d.ledger.Position
	for made, beyond := 0, 0; ; {
		var batch *heldBatch
		if made < readAhead {
			batch = &heldBatch{free: d.free}
			made++
		} else {
			select {
			case batch = <-d.free:
			case <-ctx.Done():
				return
			}
		}
		snap, err := reader.Read(ctx, position, &batch.Batch)
		if n := batch.Len(); n > 0 {
			position = batch.ID(n - 1)
		}
		// Once it is sent, the batch is no longer the reader's.
		if !send(chunk{batch, snap, err}) || err != nil || snap.AtEnd {
			return
		}
		if !d.spec.until.IsZero() && !position.Less(d.spec.until) {
			if beyond++; beyond > readBeyond {
				return
			}
		}
	}
}

// take accounts for one chunk, records what was lost around it, and hands its
// events to the segment writer.
func (d *drain) take(ctx context.Context, c chunk) error {
	defer c.batch.hold()()
	added := d.ledger.Added
	before, after, err := d.ledger.Observe(c.snap, &c.batch.Batch)
	if err != nil {
		return errors.Join(d.commitSegment(ctx), err)
	}
	if before != nil {
		if err := d.commitSegment(ctx); err != nil {
			return err
		}
		if err := d.commitGap(ctx, d.st, before); err != nil {
			return err
		}
		added = before.Added
	}
	if err := d.send(ctx, c.batch, added); err != nil {
		return err
	}
	if after == nil {
		return nil
	}
	if err := d.commitSegment(ctx); err != nil {
		return err
	}
	return d.commitGap(ctx, d.st, after)
}

// send splits a batch at full hours and full segments. added is how many
// entries had been added to the stream before the batch's first one.
func (d *drain) send(ctx context.Context, b *heldBatch, added uint64) error {
	var e event.Event
	for from := 0; from < b.Len(); {
		first := b.ID(from)
		if d.writer != nil && archive.Hour(d.writer.First()) != archive.Hour(first) {
			if err := d.commitSegment(ctx); err != nil {
				return err
			}
		}
		if d.writer == nil {
			d.writer = d.archive.NewSegmentWriter(ctx, d.st.name, d.st.log.Incarnation(), d.opts.Formats, first)
		}
		to := d.cut(b, from)
		b.Event(to-1, &e)
		d.digest = event.Digest(&e)
		d.added = added + uint64(to)
		if err := d.writer.Send(&b.Batch, from, to, b.hold()); err != nil {
			return fmt.Errorf("archive %s: %w", d.st.name, err)
		}
		d.countRead(uint64(to-from), int64(b.RangeBytes(from, to)))
		if d.writer.Count() >= d.opts.Roll.Count || d.writer.Size() >= d.opts.Roll.Size {
			if err := d.commitSegment(ctx); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

func (d *drain) countRead(events uint64, bytes int64) {
	d.progress.read.Add(events)
	d.progress.readBytes.Add(bytes)
	known := min(events, d.st.counted) // more may have come since the last look
	d.st.counted -= known
	d.progress.pending.Add(-known)
}

// cut returns the end of the run of events from from on that belong into the
// segment at hand.
func (d *drain) cut(b *heldBatch, from int) int {
	end := b.Len()
	if room := d.opts.Roll.Count - d.writer.Count(); uint64(end-from) > room {
		end = from + int(room)
	}
	hour := archive.Hour(d.writer.First())
	if archive.Hour(b.ID(end-1)) == hour {
		return end
	}
	return from + sort.Search(end-from, func(i int) bool { return archive.Hour(b.ID(from+i)) != hour })
}

// commitSegment finishes the segment at hand, if there is one, and commits it.
func (d *drain) commitSegment(ctx context.Context) error {
	if d.writer == nil {
		return nil
	}
	w := d.writer
	d.writer = nil
	segments, err := w.Close()
	if err != nil {
		return err
	}
	return d.commit(ctx, d.st, archive.Commit{
		Kind: archive.KindAppend, Head: w.Last(), HeadDigest: d.digest, EntriesAdded: d.added, Adds: segments,
	})
}

// heldBatch is a batch that goes back to free when nobody holds it any more.
type heldBatch struct {
	event.Batch
	holders atomic.Int32
	free    chan<- *heldBatch
}

// hold returns the function that ends the hold.
func (b *heldBatch) hold() func() {
	b.holders.Add(1)
	return func() {
		if b.holders.Add(-1) > 0 {
			return
		}
		if cap(b.Buf) > keepBatchBytes {
			b.Batch = event.Batch{}
		}
		b.free <- b // never blocks: there is room for every batch that was made
	}
}

// detached returns a context that ends a while after ctx does, for what must be
// finished once begun.
func detached(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer atomic.Pointer[time.Timer]
	stop := context.AfterFunc(ctx, func() { timer.Store(time.AfterFunc(grace, cancel)) })
	return out, func() {
		stop()
		if t := timer.Load(); t != nil {
			t.Stop()
		}
		cancel()
	}
}
