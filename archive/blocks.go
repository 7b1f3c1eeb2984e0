package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/reservoirhq/reservoir/objectstore"
)

const (
	blockSize = 32 << 10
	maxBlocks = 128 // kept by one blockReader
)

// blockReader reads an object at any offset through ranged GETs of whole
// blocks, the last ones of which it keeps: small reads near each other cost one
// request, and what spans several blocks that it does not have costs one too.
type blockReader struct {
	ctx   context.Context //nolint:containedctx // io.ReaderAt has none; it is that of the reading step
	store objectstore.Reader
	key   string
	size  int64

	mu     sync.Mutex
	blocks map[int64][]byte
	recent []int64 // block numbers, least recently used first
	free   [][]byte
}

func newBlockReader(ctx context.Context, store objectstore.Reader, key string, size int64) *blockReader {
	return &blockReader{ctx: ctx, store: store, key: key, size: size, blocks: map[int64][]byte{}}
}

// ReadAt implements io.ReaderAt.
func (r *blockReader) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("read %s: negative offset", r.key)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(p) && offset < r.size {
		number := offset / blockSize
		if block, ok := r.cached(number); ok {
			read := copy(p[n:], block[offset-number*blockSize:])
			n, offset = n+read, offset+int64(read)
			continue
		}
		read, err := r.fetch(p[n:], offset)
		n, offset = n+read, offset+int64(read)
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *blockReader) cached(number int64) ([]byte, bool) {
	block, ok := r.blocks[number]
	if !ok {
		return nil, false
	}
	if i := slices.Index(r.recent, number); i != len(r.recent)-1 {
		r.recent = append(slices.Delete(r.recent, i, i+1), number)
	}
	return block, true
}

// fetch reads from offset, which no kept block holds, up to the next kept block
// or the end of p, in one request. Blocks that p holds whole go straight there;
// one that it begins or ends in is kept.
func (r *blockReader) fetch(p []byte, offset int64) (n int, err error) {
	first := offset / blockSize
	last := first
	for end := min(offset+int64(len(p)), r.size); (last+1)*blockSize < end; last++ {
		if _, ok := r.blocks[last+1]; ok {
			break
		}
	}
	from, to := first*blockSize, min((last+1)*blockSize, r.size)
	body, _, err := r.store.Get(r.ctx, r.key, objectstore.ByteRange{Offset: from, Length: to - from})
	if err != nil {
		return 0, goneIfNotFound(r.key, err)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	for number := first; number <= last; number++ {
		start := number * blockSize
		length := min(start+blockSize, r.size) - start
		if start >= offset && int64(len(p)-n) >= length {
			if _, err := io.ReadFull(body, p[n:n+int(length)]); err != nil {
				return n, fmt.Errorf("read %s: %w", r.key, err)
			}
			n += int(length)
			offset = start + length
			continue
		}
		block := r.buffer(int(length))
		if _, err := io.ReadFull(body, block); err != nil {
			return n, fmt.Errorf("read %s: %w", r.key, err)
		}
		r.keep(number, block)
		read := copy(p[n:], block[offset-start:])
		n, offset = n+read, offset+int64(read)
	}
	return n, nil
}

func (r *blockReader) buffer(size int) []byte {
	if k := len(r.free); k > 0 {
		block := r.free[k-1]
		r.free = r.free[:k-1]
		return block[:size]
	}
	return make([]byte, size, min(blockSize, r.size))
}

func (r *blockReader) keep(number int64, block []byte) {
	if len(r.recent) == maxBlocks {
		oldest := r.recent[0]
		r.free = append(r.free, r.blocks[oldest])
		delete(r.blocks, oldest)
		r.recent = slices.Delete(r.recent, 0, 1)
	}
	r.blocks[number] = block
	r.recent = append(r.recent, number)
}

// goneIfNotFound makes the absence of a segment that was there ErrSegmentGone.
func goneIfNotFound(key string, err error) error {
	if errors.Is(err, objectstore.ErrNotFound) {
		return fmt.Errorf("read %s: %w (compacted or expired since, and collected after the grace period): %w", key, ErrSegmentGone, err)
	}
	return fmt.Errorf("read %s: %w", key, err)
}
