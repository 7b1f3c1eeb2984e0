package jsonl

import (
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zstd"

	"github.com/reservoirhq/reservoir/event"
)

// DefaultFrameBytes is the default of Options.FrameBytes.
const DefaultFrameBytes = 1 << 20

// Options say how a Writer writes. The zero value is good.
type Options struct {
	// Stream and Incarnation go into the header.
	Stream      string
	Incarnation int
	// FrameBytes is how many bytes of lines a frame holds at most, unless one
	// line alone has more. Default: DefaultFrameBytes.
	FrameBytes int
	// Level of compression. Default: zstd.SpeedFastest, which makes events no
	// larger than the level above it does.
	Level zstd.EncoderLevel
}

// Writer writes one segment. It holds one frame in memory. After an error it
// stays failed: what it wrote is not a segment.
type Writer struct {
	out     io.Writer
	opts    Options
	encoder *zstd.Encoder
	lines   []byte // of the frame that is being filled
	packed  []byte // the frame, or the header or trailer, on its way out
	event   event.Event
	events  uint64
	bytes   int64
	begun   bool
	closed  bool
	err     error
}

// NewWriter returns a Writer that writes a segment to out, from its header at
// the first Write to its trailer at Close. It does not close out. The caller may
// drop a Writer at any time; it holds memory only, about 3 MiB with the default
// options. Reset recycles that.
func NewWriter(out io.Writer, opts Options) *Writer {
	w := &Writer{}
	w.Reset(out, opts)
	return w
}

// Reset makes w as good as new, and keeps its memory.
func (w *Writer) Reset(out io.Writer, opts Options) {
	if opts.FrameBytes <= 0 {
		opts.FrameBytes = DefaultFrameBytes
	}
	if opts.Level == 0 {
		opts.Level = zstd.SpeedFastest
	}
	encoder := w.encoder
	if encoder == nil || opts.FrameBytes != w.opts.FrameBytes || opts.Level != w.opts.Level {
		encoder = nil
	}
	*w = Writer{out: out, opts: opts, encoder: encoder, lines: w.lines[:0], packed: w.packed[:0], event: w.event}
}

// Write writes events [from, to) of the batch. It keeps nothing of the batch.
func (w *Writer) Write(b *event.Batch, from, to int) error {
	if w.closed && w.err == nil {
		return errors.New("write to a JSONL segment that is closed")
	}
	for i := from; i < to && w.err == nil; i++ {
		b.Event(i, &w.event)
		w.append()
	}
	return w.err
}

// append adds the line for w.event, and writes the frame out when it is full.
func (w *Writer) append() {
	start := len(w.lines)
	w.lines = AppendLine(w.lines, &w.event)
	w.events++
	if len(w.lines)-start > MaxLineBytes {
		w.err = fmt.Errorf("encode event %s: its line has %d bytes, the limit is %d", w.event.ID, len(w.lines)-start, MaxLineBytes)
		return
	}
	if len(w.lines) > w.opts.FrameBytes && start > 0 {
		w.flush(w.lines[:start])
		w.lines = w.lines[:copy(w.lines, w.lines[start:])]
	}
	if len(w.lines) >= w.opts.FrameBytes {
		w.flush(w.lines)
		w.lines = w.lines[:0]
	}
	if limit := 4 * w.opts.FrameBytes; cap(w.lines) > limit && len(w.lines) <= w.opts.FrameBytes {
		w.lines = append(make([]byte, 0, w.opts.FrameBytes), w.lines...)
	}
	if cap(w.event.Fields) > 4096 {
		w.event.Fields = nil
	}
}

// flush writes a frame.
func (w *Writer) flush(lines []byte) {
	if w.begin(); w.err != nil {
		return
	}
	w.packed = w.encoder.EncodeAll(lines, w.packed[:0])
	w.write(w.packed)
	if cap(w.packed) > 4*w.opts.FrameBytes {
		w.packed = nil
	}
}

// begin makes the encoder and writes the header, once.
func (w *Writer) begin() {
	if w.begun {
		return
	}
	w.begun = true
	if w.encoder == nil {
		w.encoder, w.err = newEncoder(w.opts)
	}
	if w.err == nil {
		header := Header{Version: Version, Stream: w.opts.Stream, Incarnation: w.opts.Incarnation}
		w.packed = appendHeader(w.packed[:0], header)
		w.write(w.packed)
	}
}

func newEncoder(opts Options) (*zstd.Encoder, error) {
	window := 1 << bits.Len(uint(opts.FrameBytes-1)) // a power of two that holds a frame
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(opts.Level),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(min(max(window, zstd.MinWindowSize), zstd.MaxWindowSize)),
	)
	if err != nil {
		return nil, fmt.Errorf("create zstd encoder: %w", err)
	}
	return encoder, nil
}

func (w *Writer) write(p []byte) {
	n, err := w.out.Write(p)
	w.bytes += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = fmt.Errorf("write JSONL segment: %w", err)
	}
}

// Close writes what is left, and the trailer. It does not close the underlying
// writer. Closing again returns the same again.
func (w *Writer) Close() error {
	if w.closed || w.err != nil {
		w.closed = true
		return w.err
	}
	w.closed = true
	w.begin()
	if len(w.lines) > 0 && w.err == nil {
		w.flush(w.lines)
	}
	if w.err == nil {
		w.packed = appendTrailer(w.packed[:0], w.events)
		w.write(w.packed)
	}
	return w.err
}

// Bytes returns how many bytes were written to the underlying writer so far. Up
// to one frame's lines are not among them before Close.
func (w *Writer) Bytes() int64 { return w.bytes }
