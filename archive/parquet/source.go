package parquet

import (
	"fmt"
	"io"
	"sync/atomic"
)

// Traffic counts what was read from a file.
type Traffic struct {
	Reads int64 // calls of ReadAt
	Bytes int64
}

// countingReaderAt counts the traffic to r.
type countingReaderAt struct {
	r            io.ReaderAt
	reads, bytes atomic.Int64
}

func (c *countingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.reads.Add(1)
	c.bytes.Add(int64(n))
	return n, err //nolint:wrapcheck // an io.ReaderAt passes on what it got
}

func (c *countingReaderAt) traffic() Traffic {
	return Traffic{Reads: c.reads.Load(), Bytes: c.bytes.Load()}
}

// window is a stretch of a file in memory. What lies in it costs no read; what
// does not is read directly, or through a window that slides over a section.
type window struct {
	file   io.ReaderAt
	offset int64
	data   []byte
}

// load reads [from, to) into the window, reusing its memory.
func (w *window) load(from, to int64) error {
	if cap(w.data) < int(to-from) {
		w.data = make([]byte, to-from)
	}
	w.data = w.data[:to-from]
	w.offset = from
	if n, err := w.file.ReadAt(w.data, from); n < len(w.data) {
		w.data = w.data[:0]
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes at %d: %w", to-from, from, err)
	}
	return nil
}

func (w *window) holds(off int64, n int) bool {
	return off >= w.offset && off+int64(n) <= w.offset+int64(len(w.data))
}

// ReadAt implements io.ReaderAt.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if !w.holds(off, len(p)) {
		return w.file.ReadAt(p, off) //nolint:wrapcheck // an io.ReaderAt passes on what it got
	}
	return copy(p, w.data[off-w.offset:]), nil
}

// view implements viewer, of what lies in the window.
func (w *window) view(off int64, n int, _ int64) ([]byte, error) {
	if !w.holds(off, n) {
		return nil, fmt.Errorf("%w: no %d bytes at %d", ErrInvalid, n, off)
	}
	return w.data[off-w.offset:][:n], nil
}

// slidingWindow reads a section, mostly from its beginning to its end, in
// steps.
type slidingWindow struct {
	window
	end  int64 // of the section
	step int64
}

// stepBytes is the most that is read ahead in one column of a row group too
// large to be read at once, sparseStepBytes where few of its rows are wanted.
const (
	stepBytes       = 1 << 20
	sparseStepBytes = 128 << 10
)

// view implements viewer.
func (w *slidingWindow) view(off int64, n int, ahead int64) ([]byte, error) {
	if !w.holds(off, n) {
		to := min(max(off+int64(n), min(ahead, off+w.step)), w.end)
		if err := w.load(off, to); err != nil {
			return nil, err
		}
	}
	return w.window.view(off, n, ahead)
}
