package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

// source gives the events of one segment in runs. Read resets b and fills it;
// it returns io.EOF at the clean end only.
type source interface {
	Read(b *event.Batch) error
	Close() error
}

// selection says which events of a segment are wanted.
type selection struct {
	span   event.Range
	filter *event.Matcher // nil: all
	// attributes that events have to give; 0: all, and all fields
	attributes event.Attributes
}

// openSegment opens a segment that lies on the store. The source may leave out
// events that the selection does not want, but need not: it reads less where
// the format can.
func (a *Archive) openSegment(ctx context.Context, store objectstore.Reader, dir string, seg *Segment, sel selection) (source, error) {
	key := dir + seg.Key
	if seg.Version > formatVersions[seg.Format] {
		return nil, &NewerVersionError{Object: key, Found: seg.Version, Supported: formatVersions[seg.Format]}
	}
	switch seg.Format {
	case JSONL:
		body, _, err := store.Get(ctx, key, objectstore.ByteRange{})
		if err != nil {
			return nil, goneIfNotFound(key, err)
		}
		return newJSONLSource(body, body)
	case Parquet:
		return newParquetSource(newBlockReader(ctx, store, key, seg.Bytes), seg.Bytes, parquet.ReadSpec{
			Range: sel.span, Matcher: sel.filter, Attributes: sel.attributes, Mapping: a.opts.Mapping, Memory: &a.memory,
		})
	default:
		return nil, fmt.Errorf("%w: segment %s has unknown format %q", ErrDamaged, key, seg.Format)
	}
}

type jsonlSource struct {
	*jsonl.Reader
	body io.Closer
}

// newJSONLSource reads from r, and closes body in the end.
func newJSONLSource(r io.Reader, body io.Closer) (source, error) {
	reader, err := jsonl.NewReader(r)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open segment: %w", err), body.Close())
	}
	return &jsonlSource{reader, body}, nil
}

func (s *jsonlSource) Close() error {
	if err := s.body.Close(); err != nil {
		return fmt.Errorf("close segment: %w", err)
	}
	return nil
}

func newParquetSource(r io.ReaderAt, size int64, spec parquet.ReadSpec) (source, error) {
	f, err := parquet.Open(r, size)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return f.Reader(spec), nil
}
