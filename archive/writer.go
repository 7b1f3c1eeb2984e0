package archive

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

// laneDepth is how many runs of events may wait for one format's encoder: enough
// to keep it busy while the other one is behind for a moment.
const laneDepth = 2

// SegmentWriter writes one contiguous run of events of one incarnation as one
// segment in each format, side by side: every format has a goroutine that
// encodes and one that uploads what is encoded, so memory is bounded by the
// runs in flight, a row group and a few upload parts, not by the segment.
//
// What it uploads is garbage until a commit names it. A SegmentWriter that has
// failed stays failed: Abort it and begin again from the log's head.
type SegmentWriter struct {
	cancel context.CancelCauseFunc
	ctx    context.Context //nolint:containedctx // the life of the uploads, from creation to Close or Abort
	lanes  []*lane
	wg     sync.WaitGroup

	first, last event.ID
	count       uint64
	raw         int64
	closed      bool
}

// NewSegmentWriter begins segments of that incarnation. first is the ID of the
// first event that will be written; all events must lie in its hour. The caller
// ends it with Close or Abort.
func (a *Archive) NewSegmentWriter(ctx context.Context, stream string, incarnation int, formats []Format, first event.ID) *SegmentWriter {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &SegmentWriter{ctx: ctx, cancel: cancel, first: first}
	dir := incarnationDir(stream, incarnation)
	summary := &summarizer{mapping: a.mapping}
	for i, format := range formats {
		l := &lane{
			format: format,
			key:    segmentKey(format, first, rand.Text()),
			runs:   make(chan run, laneDepth),
		}
		pr, pw := io.Pipe()
		l.out = &countingHash{w: pw, sha: sha256.New()}
		var observe func(*event.Event, *event.Envelope)
		if i == summaryLane(formats) {
			l.summary, observe = summary, summary.add
		}
		l.encoder, l.recycle = a.newEncoder(format, l.out, stream, incarnation, observe)
		w.lanes = append(w.lanes, l)
		w.wg.Go(func() { w.encode(l, pw) })
		w.wg.Go(func() {
			_, err := a.store.Put(ctx, dir+l.key, pr, objectstore.IfAbsent)
			if err != nil {
				w.fail(fmt.Errorf("write segment %s: %w", l.key, err))
			}
			pr.CloseWithError(w.failure(err)) // frees an encoder that is still writing
		})
	}
	return w
}

// summaryLane picks the lane that makes the summary: the Parquet writer looks
// at every envelope anyway.
func summaryLane(formats []Format) int {
	for i, f := range formats {
		if f == Parquet {
			return i
		}
	}
	return 0
}

// encoder is what both segment formats' writers are.
type encoder interface {
	Write(b *event.Batch, from, to int) error
	Close() error
	Bytes() int64
}

// newEncoder returns an encoder, and what gives its memory back once it was
// closed without an error. Beginning one from nothing costs as much as a few
// hundred events.
func (a *Archive) newEncoder(format Format, out io.Writer, stream string, incarnation int, observe func(*event.Event, *event.Envelope)) (enc encoder, recycle func()) {
	if format == Parquet {
		enc, ok := a.parquets.Get().(*parquet.Writer)
		if !ok {
			enc = new(parquet.Writer)
		}
		enc.Reset(out, parquet.Options{Stream: stream, Incarnation: incarnation, Mapping: a.opts.Mapping, Observe: observe})
		return enc, func() { a.parquets.Put(enc) }
	}
	lines, ok := a.jsonls.Get().(*jsonl.Writer)
	if !ok {
		lines = new(jsonl.Writer)
	}
	lines.Reset(out, jsonl.Options{Stream: stream, Incarnation: incarnation})
	recycle = func() { a.jsonls.Put(lines) }
	if observe == nil {
		return lines, recycle
	}
	return &observed{encoder: lines, extract: a.opts.Mapping.Extractor(), observe: observe}, recycle
}

// observed looks at every event for a format that knows no envelopes.
type observed struct {
	encoder
	extract *event.Extractor
	observe func(*event.Event, *event.Envelope)
	e       event.Event
	env     event.Envelope
}

func (o *observed) Write(b *event.Batch, from, to int) error {
	for i := from; i < to; i++ {
		b.Event(i, &o.e)
		o.extract.Extract(&o.e, &o.env)
		o.observe(&o.e, &o.env)
	}
	return o.encoder.Write(b, from, to)
}

// lane is one format of a SegmentWriter. After the writer's goroutines have
// ended, everything in it may be read.
type lane struct {
	format  Format
	key     string
	runs    chan run
	out     *countingHash
	encoder encoder
	recycle func() // the encoder
	summary *summarizer
	bytes   atomic.Int64 // of the encoder, for Size
}

type run struct {
	batch    *event.Batch
	from, to int
	done     func()
}

func (w *SegmentWriter) encode(l *lane, pw *io.PipeWriter) {
	var err error
	for r := range l.runs {
		if err == nil {
			if err = l.encoder.Write(r.batch, r.from, r.to); err != nil {
				w.fail(fmt.Errorf("encode %s segment: %w", l.format, err))
			}
			l.bytes.Store(l.encoder.Bytes())
		}
		r.done()
	}
	if err == nil && w.ctx.Err() == nil {
		if err = l.encoder.Close(); err != nil {
			w.fail(fmt.Errorf("finish %s segment: %w", l.format, err))
		}
	}
	// An upload only becomes an object when its body ends cleanly.
	pw.CloseWithError(w.failure(err))
}

func (w *SegmentWriter) fail(err error) { w.cancel(err) }

func (w *SegmentWriter) failure(err error) error {
	if cause := context.Cause(w.ctx); cause != nil {
		return cause
	}
	return err
}

// Send hands events [from, to) of the batch to the encoders and returns without
// waiting for them, unless they are behind. done is called exactly once, when
// the writer needs the batch no longer, from any goroutine and also when Send
// fails. IDs must go up from call to call.
func (w *SegmentWriter) Send(b *event.Batch, from, to int, done func()) error {
	if err := w.failure(nil); err != nil {
		done()
		return err
	}
	for i := from; i < to; i++ {
		if id := b.ID(i); !w.last.Less(id) || id.Less(w.first) {
			done()
			return fmt.Errorf("write segment: event %s does not follow %s", id, w.last)
		}
		w.last = b.ID(i)
	}
	w.count += uint64(to - from)
	w.raw += int64(b.RangeBytes(from, to))
	release := countdown(len(w.lanes), done)
	for _, l := range w.lanes {
		l.runs <- run{b, from, to, release}
	}
	return nil
}

// Write is Send, and waits until the events are encoded.
func (w *SegmentWriter) Write(b *event.Batch, from, to int) error {
	encoded := make(chan struct{})
	if err := w.Send(b, from, to, func() { close(encoded) }); err != nil {
		return err
	}
	<-encoded
	return w.failure(nil)
}

// First returns the ID of the first event, as it was announced.
func (w *SegmentWriter) First() event.ID { return w.first }

// Count returns the number of events sent so far.
func (w *SegmentWriter) Count() uint64 { return w.count }

// Raw returns the sum of the sizes of the events sent so far.
func (w *SegmentWriter) Raw() int64 { return w.raw }

// Last returns the ID of the last event sent.
func (w *SegmentWriter) Last() event.ID { return w.last }

// Size returns the bytes of the largest of the objects so far; it lags behind
// what was sent by what is still being encoded.
func (w *SegmentWriter) Size() int64 {
	var size int64
	for _, l := range w.lanes {
		size = max(size, l.bytes.Load())
	}
	return size
}

// Close finishes the segments and waits until they are stored. What it returns
// goes into a commit. After an error nothing may be committed.
func (w *SegmentWriter) Close() ([]Segment, error) {
	if w.closed {
		return nil, errors.New("segment writer is closed")
	}
	w.finish()
	err := w.failure(nil)
	w.cancel(nil)
	if err != nil {
		return nil, err
	}
	var summary Summary
	for _, l := range w.lanes {
		l.recycle()
		if l.summary != nil {
			summary = l.summary.summary()
		}
	}
	segments := make([]Segment, 0, len(w.lanes))
	for _, l := range w.lanes {
		segments = append(segments, Segment{
			Format: l.format, Version: formatVersions[l.format], Key: l.key,
			First: w.first, Last: w.last, Count: w.count, Bytes: l.out.n, Raw: w.raw,
			SHA256: hex.EncodeToString(l.out.sha.Sum(nil)), Summary: summary,
		})
	}
	return segments, nil
}

// errAborted ends the uploads of a SegmentWriter that was aborted.
var errAborted = errors.New("segment writer aborted")

// Abort throws the segments away and waits until nothing of the writer runs
// any more. Objects that were stored already stay behind as garbage. It may be
// called after Close, and then does nothing.
func (w *SegmentWriter) Abort() {
	if w.closed {
		return
	}
	w.fail(errAborted)
	w.finish()
}

func (w *SegmentWriter) finish() {
	w.closed = true
	for _, l := range w.lanes {
		close(l.runs)
	}
	w.wg.Wait()
}

// countdown returns a function that calls done at its nth call.
func countdown(n int, done func()) func() {
	left := atomic.Int32{}
	left.Store(int32(n))
	return func() {
		if left.Add(-1) == 0 {
			done()
		}
	}
}

// countingHash counts and hashes what passes on to w.
type countingHash struct {
	w   io.Writer
	sha hash.Hash
	n   int64
}

func (c *countingHash) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.sha.Write(p[:n])
	c.n += int64(n)
	return n, err //nolint:wrapcheck // an io.Writer passes on what it got
}
