package jobs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/storetest"
)

// memory is an object store for tests on synthetic time.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	times   map[string]time.Time
}

func newMemory() *memory {
	return &memory{objects: map[string][]byte{}, times: map[string]time.Time{}}
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store { return newMemory() })
}

func (m *memory) info(key string, body []byte) objectstore.Info {
	sum := sha256.Sum256(body)
	return objectstore.Info{Key: key, Size: int64(len(body)), ETag: hex.EncodeToString(sum[:]), ModTime: m.times[key]}
}

func (m *memory) Head(ctx context.Context, key string) (objectstore.Info, error) {
	body, info, err := m.Get(ctx, key, objectstore.ByteRange{})
	if err != nil {
		return info, err
	}
	return info, body.Close()
}

func (m *memory) Get(ctx context.Context, key string, r objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	if err := objectstore.ValidateKey(key); err != nil {
		return nil, objectstore.Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	body, ok := m.objects[key]
	if !ok {
		return nil, objectstore.Info{}, fmt.Errorf("get %s: %w", key, objectstore.ErrNotFound)
	}
	if err := ctx.Err(); err != nil {
		return nil, objectstore.Info{}, err
	}
	size := int64(len(body))
	from := r.Offset
	if from < 0 {
		from = max(0, size+from)
	}
	from = min(from, size)
	to := size
	if r.Length > 0 {
		to = min(size, from+r.Length)
	}
	return io.NopCloser(bytes.NewReader(body[from:to])), m.info(key, body), nil
}

func (m *memory) Put(ctx context.Context, key string, r io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	if err := objectstore.ValidateKey(key); err != nil {
		return objectstore.Info{}, err
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return objectstore.Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return objectstore.Info{}, err
	}
	there, ok := m.objects[key]
	etag, match := cond.ETag()
	switch {
	case cond.Absent() && ok, match && ok && m.info(key, there).ETag != etag:
		return objectstore.Info{}, fmt.Errorf("put %s: %w", key, objectstore.ErrPrecondition)
	case match && !ok:
		return objectstore.Info{}, fmt.Errorf("put %s: %w", key, objectstore.ErrNotFound)
	}
	m.objects[key], m.times[key] = body, time.Now()
	return m.info(key, body), nil
}

func (m *memory) Delete(ctx context.Context, key string) error {
	if err := objectstore.ValidateKey(key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return ctx.Err()
}

func (m *memory) List(ctx context.Context, prefix string, opts objectstore.ListOptions) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		m.mu.Lock()
		found := map[string]objectstore.Info{}
		for key, body := range m.objects {
			rest, ok := strings.CutPrefix(key, prefix)
			if !ok {
				continue
			}
			info := m.info(key, body)
			if dir, _, deeper := strings.Cut(rest, "/"); opts.Delimited && deeper {
				info = objectstore.Info{Key: prefix + dir + "/", Prefix: true}
			}
			if info.Key > opts.After {
				found[info.Key] = info
			}
		}
		m.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(found)) {
			if err := ctx.Err(); err != nil {
				yield(objectstore.Info{}, err)
				return
			}
			if !yield(found[key], nil) {
				return
			}
		}
	}
}

// keys gives what is below a prefix.
func (m *memory) keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.objects {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// contents gives the objects below a prefix as text.
func (m *memory) contents(prefix string) string {
	var b strings.Builder
	for _, key := range m.keys(prefix) {
		m.mu.Lock()
		fmt.Fprintf(&b, "%s: %s", key, m.objects[key])
		m.mu.Unlock()
	}
	return b.String()
}
