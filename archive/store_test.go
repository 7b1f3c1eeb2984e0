package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// memStore is a Store in memory, for the properties that make thousands of them.
type memStore struct {
	mu      sync.Mutex
	objects map[string]memObject
	clock   func() time.Time
}

type memObject struct {
	body []byte
	time time.Time
}

func newMemStore() *memStore {
	return &memStore{objects: map[string]memObject{}, clock: time.Now}
}

func (s *memStore) info(key string, o memObject) objectstore.Info {
	return objectstore.Info{Key: key, Size: int64(len(o.body)), ETag: fmt.Sprintf("%p", o.body), ModTime: o.time}
}

func (s *memStore) Head(_ context.Context, key string) (objectstore.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return objectstore.Info{}, fmt.Errorf("head %s: %w", key, objectstore.ErrNotFound)
	}
	return s.info(key, o), nil
}

func (s *memStore) Get(ctx context.Context, key string, r objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, objectstore.Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return nil, objectstore.Info{}, fmt.Errorf("get %s: %w", key, objectstore.ErrNotFound)
	}
	size := int64(len(o.body))
	from, to := r.Offset, size
	if from < 0 {
		from = max(0, size+from)
	}
	from = min(from, size)
	if r.Length > 0 {
		to = min(size, from+r.Length)
	}
	return io.NopCloser(bytes.NewReader(o.body[from:to])), s.info(key, o), nil
}

func (s *memStore) List(_ context.Context, prefix string, opts objectstore.ListOptions) iter.Seq2[objectstore.Info, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]objectstore.Info{}
	for key, o := range s.objects {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok || key <= opts.After {
			continue
		}
		if dir, _, deeper := strings.Cut(rest, "/"); opts.Delimited && deeper {
			found[prefix+dir+"/"] = objectstore.Info{Key: prefix + dir + "/", Prefix: true}
			continue
		}
		found[key] = s.info(key, o)
	}
	var infos []objectstore.Info
	for _, info := range found {
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b objectstore.Info) int { return strings.Compare(a.Key, b.Key) })
	return func(yield func(objectstore.Info, error) bool) {
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s *memStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	b, err := io.ReadAll(body)
	if err = errors.Join(err, ctx.Err()); err != nil {
		return objectstore.Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[key]; ok && cond.Absent() {
		return objectstore.Info{}, fmt.Errorf("put %s: %w", key, objectstore.ErrPrecondition)
	}
	o := memObject{b, s.clock()}
	s.objects[key] = o
	return s.info(key, o), nil
}

func (s *memStore) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return nil
}

func readerOf(b []byte) io.Reader { return bytes.NewReader(b) }
