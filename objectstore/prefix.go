package objectstore

import (
	"context"
	"io"
	"iter"
	"strings"
)

// WithPrefix gives the part of a store below prefix as a store of its own,
// whose keys leave the prefix out. Slashes around it do not matter; an empty
// prefix gives the store itself.
func WithPrefix(store Store, prefix string) Store {
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		return store
	}
	return &prefixed{store, prefix + "/"}
}

type prefixed struct {
	store  Store
	prefix string
}

func (p *prefixed) Head(ctx context.Context, key string) (Info, error) {
	info, err := p.store.Head(ctx, p.prefix+key)
	return p.strip(info), err
}

func (p *prefixed) Get(ctx context.Context, key string, r ByteRange) (io.ReadCloser, Info, error) {
	body, info, err := p.store.Get(ctx, p.prefix+key, r)
	return body, p.strip(info), err
}

func (p *prefixed) Put(ctx context.Context, key string, body io.Reader, cond Condition) (Info, error) {
	info, err := p.store.Put(ctx, p.prefix+key, body, cond)
	return p.strip(info), err
}

func (p *prefixed) Delete(ctx context.Context, key string) error {
	return p.store.Delete(ctx, p.prefix+key)
}

func (p *prefixed) List(ctx context.Context, prefix string, opts ListOptions) iter.Seq2[Info, error] {
	if opts.After != "" {
		opts.After = p.prefix + opts.After
	}
	return func(yield func(Info, error) bool) {
		for info, err := range p.store.List(ctx, p.prefix+prefix, opts) {
			if !yield(p.strip(info), err) {
				return
			}
		}
	}
}

func (p *prefixed) strip(info Info) Info {
	info.Key = strings.TrimPrefix(info.Key, p.prefix)
	return info
}
