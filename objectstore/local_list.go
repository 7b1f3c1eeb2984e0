package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// List implements Store. Keys come in ascending order; one directory at a time
// is in memory. ETags are left out.
func (l *Local) List(ctx context.Context, prefix string, opts ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		w := &walk{ctx: ctx, root: l.root, prefix: prefix, opts: opts, yield: yield}
		dir, _ := path.Split(prefix)
		if dir != "" && checkKey(strings.TrimSuffix(dir, "/")) != nil {
			return // no key begins like this
		}
		if _, err := w.dir(dir); err != nil {
			yield(Info{}, fmt.Errorf("list %s: %w", prefix, err))
		}
	}
}

// walk is one listing.
type walk struct {
	ctx    context.Context //nolint:containedctx // lives as long as the loop over the iterator
	root   string
	prefix string
	opts   ListOptions
	yield  func(Info, error) bool
}

// dir lists one directory; its key is "" or ends in a slash. It returns false
// when the caller of the iterator has had enough.
func (w *walk) dir(key string) (more bool, err error) {
	entries, err := os.ReadDir(w.path(key))
	if err = missing(err); errors.Is(err, ErrNotFound) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	sort.Slice(entries, func(i, j int) bool { return slashed(entries[i]) < slashed(entries[j]) })
	for _, entry := range entries {
		if err := w.ctx.Err(); err != nil {
			return false, err
		}
		if key == "" && entry.Name() == hiddenDir {
			continue
		}
		if more, err = w.entry(key+slashed(entry), entry); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *walk) entry(key string, entry fs.DirEntry) (more bool, err error) {
	if !strings.HasPrefix(key, w.prefix) {
		return true, nil
	}
	if !entry.IsDir() {
		if key <= w.opts.After {
			return true, nil
		}
		return w.file(key, entry)
	}
	if !w.opts.Delimited {
		if key <= w.opts.After && !strings.HasPrefix(w.opts.After, key) {
			return true, nil // all below it sorts before After too
		}
		return w.dir(key)
	}
	if key <= w.opts.After {
		return true, nil
	}
	if occupied, err := w.holds(key); err != nil || !occupied {
		return err == nil, err
	}
	return w.yield(Info{Key: key, Prefix: true}, nil), nil
}

func (w *walk) file(key string, entry fs.DirEntry) (more bool, err error) {
	stat, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if !stat.Mode().IsRegular() {
		return true, nil
	}
	return w.yield(Info{Key: key, Size: stat.Size(), ModTime: stat.ModTime()}, nil), nil
}

// holds says whether there is an object anywhere below a directory.
func (w *walk) holds(key string) (found bool, err error) {
	d, err := os.Open(w.path(key))
	if err = missing(err); errors.Is(err, ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for {
		entries, err := d.ReadDir(16)
		for _, entry := range entries {
			if entry.Type().IsRegular() {
				return true, nil
			}
			if entry.IsDir() {
				if found, err := w.holds(key + slashed(entry)); found || err != nil {
					return found, err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err = missing(err); errors.Is(err, ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
}

func (w *walk) path(key string) string { return filepath.Join(w.root, filepath.FromSlash(key)) }

// slashed is an entry's part of a key: keys sort by it, file names do not.
func slashed(entry fs.DirEntry) string {
	if entry.IsDir() {
		return entry.Name() + "/"
	}
	return entry.Name()
}
