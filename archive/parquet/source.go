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

// ReadAt implements io.ReaderAt.
func (w *slidingWindow) ReadAt(p []byte, off int64) (int, error) {
	if !w.holds(off, len(p)) && off < w.end {
		to := min(w.end, off+max(w.step, int64(len(p))))
		if err := w.load(off, to); err != nil {
			return 0, err
		}
	}
	if off < w.offset || off >= w.offset+int64(len(w.data)) {
		return w.file.ReadAt(p, off) //nolint:wrapcheck // an io.ReaderAt passes on what it got
	}
	n := copy(p, w.data[off-w.offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
