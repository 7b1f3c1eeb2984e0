package objectstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"
)

// Observer is told of every operation when it is over: what it was ("head",
// "get", "put", "delete", "list"), how long it took, how many bytes of objects
// it read or wrote, and its error. A get is over when its body is closed, and
// has the first error of reading it; a list, when its loop ends.
type Observer func(op string, took time.Duration, bytes int64, err error)

// WithObserver gives the store with an observer, which is called from whichever
// goroutines use the store.
func WithObserver(store Store, observer Observer) Store { return &observed{store, observer} }

type observed struct {
	store   Store
	observe Observer
}

func (o *observed) Head(ctx context.Context, key string) (Info, error) {
	start := time.Now()
	info, err := o.store.Head(ctx, key)
	o.observe("head", time.Since(start), 0, err)
	return info, err
}

func (o *observed) Get(ctx context.Context, key string, r ByteRange) (io.ReadCloser, Info, error) {
	start := time.Now()
	body, info, err := o.store.Get(ctx, key, r)
	if err != nil {
		o.observe("get", time.Since(start), 0, err)
		return nil, Info{}, err
	}
	return &observedBody{ReadCloser: body, done: func(bytes int64, err error) {
		o.observe("get", time.Since(start), bytes, err)
	}}, info, nil
}

func (o *observed) Put(ctx context.Context, key string, body io.Reader, cond Condition) (Info, error) {
	start := time.Now()
	counted := &countingReader{Reader: body}
	info, err := o.store.Put(ctx, key, counted, cond)
	o.observe("put", time.Since(start), counted.n, err)
	return info, err
}

func (o *observed) Delete(ctx context.Context, key string) error {
	start := time.Now()
	err := o.store.Delete(ctx, key)
	o.observe("delete", time.Since(start), 0, err)
	return err
}

func (o *observed) List(ctx context.Context, prefix string, opts ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		start := time.Now()
		var failed error
		defer func() { o.observe("list", time.Since(start), 0, failed) }()
		for info, err := range o.store.List(ctx, prefix, opts) {
			failed = err
			if !yield(info, err) {
				return
			}
		}
	}
}

type countingReader struct {
	io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

type observedBody struct {
	io.ReadCloser
	n    int64
	err  error
	once sync.Once
	done func(bytes int64, err error)
}

func (b *observedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	if err != nil && err != io.EOF && b.err == nil { // only a bare EOF is the end
		b.err = err
	}
	return n, err
}

func (b *observedBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.done(b.n, errors.Join(b.err, err)) })
	return err
}
