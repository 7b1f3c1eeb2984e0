package archive

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/reservoirhq/reservoir/objectstore"
)

// Fetched returns how many bytes of segments the store has handed out so far,
// by all iterations of the plan: as they are stored, footers and indexes
// included, the commit log not. It only grows, and may be called at any time,
// from any goroutine. With a Filter it may stay far below Totals.Bytes; with
// many small reads of Parquet it may pass it, since blocks are read as a whole.
func (p *Plan) Fetched() int64 { return p.fetched.Load() }

// countingStore counts what is read of its objects.
type countingStore struct {
	objectstore.Reader
	bytes *atomic.Int64
}

// Get implements objectstore.Reader.
func (s countingStore) Get(ctx context.Context, key string, r objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	body, info, err := s.Reader.Get(ctx, key, r)
	if err != nil {
		return nil, info, err //nolint:wrapcheck // the caller says what it was reading
	}
	return &countingBody{body, s.bytes}, info, nil
}

type countingBody struct {
	io.ReadCloser
	bytes *atomic.Int64
}

// Read implements io.Reader.
func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	return n, err //nolint:wrapcheck // an io.Reader passes on what it got
}
