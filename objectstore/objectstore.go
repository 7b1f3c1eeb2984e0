// Package objectstore is conditional object storage: whole immutable objects
// under string keys, and the one primitive that the rest of Reservoir builds
// its guarantees on, a Put that succeeds only if the key is absent or still
// holds what the writer last saw. S3 and local directories implement it and
// run one conformance suite.
package objectstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

var (
	// ErrNotFound is wrapped by Get and Head for a key that does not exist, and
	// by Put with IfMatch on one.
	ErrNotFound = errors.New("object not found")
	// ErrPrecondition is wrapped by Put when the condition did not hold. The
	// object that is there may be the caller's own: a Put whose answer was lost
	// and that was sent again fails its own condition. Read it back and compare.
	ErrPrecondition = errors.New("precondition failed")
)

// Info describes an object, or (Prefix set) a common prefix of a listing.
type Info struct {
	Key     string
	Size    int64     // bytes of the whole object, also where a part of it is read
	ETag    string    // opaque; for IfMatch. May be empty in listings and where a part is read.
	ModTime time.Time // may be zero after Put
	Prefix  bool      // Key is a common prefix ending in "/", the rest is zero
}

// Reader is the read side of a Store.
type Reader interface {
	// Head describes one object.
	Head(ctx context.Context, key string) (Info, error)
	// Get opens an object, or the part of it that r names. The caller closes
	// the body, and keeps ctx alive until then. A body that ends early or is
	// damaged gives an error from Read, never a clean EOF.
	Get(ctx context.Context, key string, r ByteRange) (io.ReadCloser, Info, error)
	// List gives the objects whose keys begin with prefix, in no promised
	// order; it is no snapshot. The error comes once, last.
	List(ctx context.Context, prefix string, opts ListOptions) iter.Seq2[Info, error]
}

// Store is conditional object storage. Implementations are safe for concurrent
// use, by several processes too.
type Store interface {
	Reader
	// Put streams body into an object and makes it visible at once and whole,
	// or not at all: an error from body, or a cancelled ctx, leaves what was
	// there before. When Put fails for another reason than ErrPrecondition or
	// ErrNotFound, the object may or may not have been written. It may then
	// return before it has read all of body: the writer of a pipe must be told.
	// Keys are restricted as ValidateKey says.
	Put(ctx context.Context, key string, body io.Reader, cond Condition) (Info, error)
	// Delete removes an object; removing one that is absent is no error.
	Delete(ctx context.Context, key string) error
}

// Condition says when a Put may take effect. The zero value is "always".
type Condition struct {
	absent bool
	etag   string
}

// Always puts no condition.
var Always = Condition{}

// IfAbsent lets a Put succeed only when the key does not exist.
var IfAbsent = Condition{absent: true}

// IfMatch lets a Put succeed only when the object's ETag is still etag.
func IfMatch(etag string) Condition { return Condition{etag: etag} }

// Absent reports whether the condition is IfAbsent.
func (c Condition) Absent() bool { return c.absent }

// ETag returns the ETag of an IfMatch condition, and whether it is one.
func (c Condition) ETag() (string, bool) { return c.etag, c.etag != "" }

// ByteRange is the part [Offset, Offset+Length) of an object, as far as the
// object goes: a part beyond its end is empty. The zero value is the whole
// object. Length 0 with an Offset means "to the end". A negative Offset counts
// from the end: {Offset: -8} is the last eight bytes (or the whole object, if
// it is shorter).
type ByteRange struct {
	Offset int64
	Length int64
}

// within gives the part of an object of this size that the range covers.
func (r ByteRange) within(size int64) (start, end int64) {
	start = r.Offset
	if start < 0 {
		start += size
	}
	start = min(max(start, 0), size)
	if r.Length <= 0 || r.Length > size-start {
		return start, size
	}
	return start, start + r.Length
}

// ListOptions narrows a listing.
type ListOptions struct {
	// Delimited folds keys at the next "/" after the prefix: what lies deeper
	// comes once, as an Info with Prefix set.
	Delimited bool
	// After skips keys, and common prefixes, that do not sort after it.
	After string
}
