package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

// defect is how a segment is not what its commit says.
type defect struct {
	kind    FindingKind
	problem string
}

func (d *defect) Error() string { return d.problem }

func defectf(kind FindingKind, format string, args ...any) error {
	return &defect{kind, fmt.Sprintf(format, args...)}
}

// checkedSource reads a segment whole and compares it with its commit: bytes,
// checksum, count, bounds, order, hour and raw bytes. What is wrong comes as an
// error that is a *defect from Read, at the latest instead of io.EOF.
type checkedSource struct {
	source
	seg   *Segment
	bytes *hashingReader // of the object; nil when it was checked before it was decoded
	last  event.ID
	count uint64
	raw   int64
}

// openChecked opens a segment for checked reading. A Parquet file is copied to
// a temporary file first, so that what is decoded is what was hashed.
func (a *Archive) openChecked(ctx context.Context, dir string, seg *Segment) (_ *checkedSource, err error) {
	key := dir + seg.Key
	body, _, err := a.store.Get(ctx, key, objectstore.ByteRange{})
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, defectf(FindingMissing, "the object does not exist")
	}
	if err != nil {
		return nil, fmt.Errorf("read segment %s: %w", key, err)
	}
	hashing := &hashingReader{r: body, sha: sha256.New()}
	c := &checkedSource{seg: seg}
	if seg.Format == JSONL {
		c.bytes = hashing
		if c.source, err = newJSONLSource(hashing, body); err != nil {
			return nil, decodeError(key, err)
		}
		return c, nil
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	file, err := spool(hashing)
	if err != nil {
		return nil, fmt.Errorf("read segment %s: %w", key, err)
	}
	if err := hashing.check(seg); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if c.source, err = newParquetSource(file, seg.Bytes, parquet.ReadSpec{}); err != nil {
		return nil, errors.Join(decodeError(key, err), file.Close())
	}
	c.source = &closing{c.source, file}
	return c, nil
}

// spool copies r to a temporary file that is gone when it is closed.
func spool(r io.Reader) (_ *os.File, err error) {
	file, err := os.CreateTemp("", "reservoir-segment-")
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	if err = os.Remove(file.Name()); err == nil {
		_, err = io.Copy(file, r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copy to temporary file: %w", err), file.Close())
	}
	return file, nil
}

// closing closes a file after the source that reads it.
type closing struct {
	source
	file io.Closer
}

func (c *closing) Close() error { return errors.Join(c.source.Close(), c.file.Close()) }

// decodeError makes what a decoder says a defect, unless the store failed.
func decodeError(key string, err error) error {
	var failed *readError
	if errors.As(err, &failed) {
		return fmt.Errorf("read segment %s: %w", key, failed.err)
	}
	return &defect{FindingUnreadable, err.Error()}
}

// Read implements source.
func (c *checkedSource) Read(b *event.Batch) error {
	err := c.source.Read(b)
	if errors.Is(err, io.EOF) {
		return c.end()
	}
	if err != nil {
		return decodeError(c.seg.Key, err)
	}
	for i := range b.Len() {
		id := b.ID(i)
		switch {
		case c.count == 0 && i == 0 && id != c.seg.First:
			return defectf(FindingContents, "it begins with event %s, and the commit says %s", id, c.seg.First)
		case !c.last.Less(id):
			return defectf(FindingContents, "event %s comes after %s", id, c.last)
		case Hour(id) != Hour(c.seg.First):
			return defectf(FindingContents, "event %s lies in another hour", id)
		}
		c.last = id
	}
	c.count += uint64(b.Len())
	c.raw += int64(b.Bytes())
	return nil
}

func (c *checkedSource) end() error {
	switch {
	case c.count != c.seg.Count:
		return defectf(FindingContents, "it holds %d events, and the commit says %d", c.count, c.seg.Count)
	case c.last != c.seg.Last:
		return defectf(FindingContents, "it ends with event %s, and the commit says %s", c.last, c.seg.Last)
	case c.raw != c.seg.Raw:
		return defectf(FindingContents, "its names and values have %d bytes, and the commit says %d", c.raw, c.seg.Raw)
	}
	if c.bytes != nil {
		if err := c.bytes.drain(); err != nil {
			return err
		}
		if err := c.bytes.check(c.seg); err != nil {
			return err
		}
	}
	return io.EOF
}

// hashingReader counts and hashes what is read, and marks errors of the store.
type hashingReader struct {
	r   io.Reader
	sha hash.Hash
	n   int64
}

// readError is an error of the store's, not of a decoder.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// Read implements io.Reader.
func (h *hashingReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.sha.Write(p[:n])
	h.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &readError{err}
	}
	return n, err
}

func (h *hashingReader) drain() error {
	_, err := io.Copy(io.Discard, h)
	return err
}

func (h *hashingReader) check(seg *Segment) error {
	if h.n != seg.Bytes {
		return defectf(FindingChecksum, "it has %d bytes, and the commit says %d", h.n, seg.Bytes)
	}
	if sum := hex.EncodeToString(h.sha.Sum(nil)); sum != seg.SHA256 {
		return defectf(FindingChecksum, "its SHA-256 is %s, and the commit says %s", sum, seg.SHA256)
	}
	return nil
}
