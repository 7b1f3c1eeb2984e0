package objectstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	fileMode     = 0o644 // engines of other users read the archive in place
	dirMode      = 0o755
	temporaryAge = 24 * time.Hour
)

// Put implements Store.
func (l *Local) Put(ctx context.Context, key string, body io.Reader, cond Condition) (Info, error) {
	info, err := l.put(ctx, key, body, cond)
	if err != nil {
		return Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	return info, nil
}

func (l *Local) put(ctx context.Context, key string, body io.Reader, cond Condition) (info Info, err error) {
	path, err := l.path(key)
	if err != nil {
		return Info{}, err
	}
	if err := l.prepare(); err != nil {
		return Info{}, err
	}
	f, err := os.OpenFile(filepath.Join(l.temporaryDir(), rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return Info{}, err
	}
	defer func() {
		if removed := os.Remove(f.Name()); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}()
	info, err = l.write(ctx, f, body)
	if err = errors.Join(err, f.Close()); err != nil {
		return Info{}, err
	}
	info.Key = key
	return info, l.publish(ctx, f.Name(), path, key, cond)
}

// write fills the file and makes it last.
func (l *Local) write(ctx context.Context, f *os.File, body io.Reader) (Info, error) {
	buffer := l.buffers.Get().(*[]byte)
	defer l.buffers.Put(buffer)
	w := &contentWriter{ctx: ctx, file: f, hash: sha256.New()}
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{body}, *buffer); err != nil {
		return Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if !l.noSync {
		if err := f.Sync(); err != nil {
			return Info{}, err
		}
	}
	stat, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	info := Info{Size: w.size, ModTime: stat.ModTime(), ETag: statETag(stat)}
	if w.size <= hashedBytes {
		info.ETag = hex.EncodeToString(w.hash.Sum(nil))
	}
	return info, nil
}

// contentWriter writes and hashes, the latter only as long as the hash will count.
type contentWriter struct {
	ctx  context.Context //nolint:containedctx // io.Copy has no other way to stop between reads
	file *os.File
	hash hash.Hash
	size int64
}

func (w *contentWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.size += int64(len(p)); w.size <= hashedBytes {
		w.hash.Write(p)
	}
	return w.file.Write(p)
}

// publish gives a finished file its name, if the condition holds.
func (l *Local) publish(ctx context.Context, temporary, path, key string, cond Condition) (err error) {
	if !cond.Absent() { // link needs no lock: where IfMatch holds, the file is there
		unlock, err := l.lock(ctx, key)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
		if err := l.compare(key, cond); err != nil {
			return err
		}
	}
	for made := 0; ; {
		more, err := l.makeDirs(filepath.Dir(path))
		if made = max(made, more); err != nil {
			return err
		}
		if cond.Absent() {
			err = os.Link(temporary, path)
		} else {
			err = os.Rename(temporary, path)
		}
		switch {
		case err == nil:
			return l.syncDirs(filepath.Dir(path), made)
		case errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EISDIR):
			return occupied(path, err)
		case !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil:
			return err
		}
		// A Delete has just removed the empty directory: once more.
		if _, missing := os.Stat(temporary); missing != nil {
			return missing
		}
	}
}

// occupied tells an object that is there from a directory of other objects.
func occupied(path string, err error) error {
	if stat, statErr := os.Lstat(path); statErr == nil && stat.IsDir() {
		return fmt.Errorf("there are keys below this one, which a directory cannot hold: %w", syscall.EISDIR)
	}
	if errors.Is(err, fs.ErrExist) {
		return ErrPrecondition
	}
	return err
}

// compare holds an IfMatch condition against the object, under its lock.
func (l *Local) compare(key string, cond Condition) error {
	want, conditional := cond.ETag()
	if !conditional {
		return nil
	}
	f, info, err := l.open(key, ByteRange{})
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if info.ETag != want {
		return ErrPrecondition
	}
	return nil
}

// makeDirs makes dir and what is missing above it, and returns how many it made.
func (l *Local) makeDirs(dir string) (made int, err error) {
	for {
		err := os.Mkdir(dir, dirMode)
		switch {
		case err == nil:
			return made + 1, nil
		case errors.Is(err, fs.ErrExist):
			if stat, err := os.Stat(dir); err == nil && !stat.IsDir() {
				return made, fmt.Errorf("%s is an object, which cannot have keys below it: %w", dir, syscall.ENOTDIR)
			}
			return made, nil
		case !errors.Is(err, fs.ErrNotExist) || dir == l.root:
			return made, err
		}
		above, err := l.makeDirs(filepath.Dir(dir))
		if made += above; err != nil {
			return made, err
		}
	}
}

// syncDirs makes the name of a new file last: in its directory, and that of
// every directory that was made for it in the one above.
func (l *Local) syncDirs(dir string, made int) error {
	for ; made >= 0; made-- {
		if err := l.syncDir(dir); err != nil {
			return err
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

func (l *Local) syncDir(dir string) error {
	if l.noSync {
		return nil
	}
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what was in it is deleted already
	}
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // a file system that syncs directories by itself, or cannot
	}
	return errors.Join(err, d.Close())
}

func (l *Local) temporaryDir() string { return filepath.Join(l.root, hiddenDir, "tmp") }
func (l *Local) lockDir() string      { return filepath.Join(l.root, hiddenDir, "locks") }

// prepare makes the hidden directories, and removes what crashed writers left
// there, once.
func (l *Local) prepare() error {
	l.preparing.Lock()
	defer l.preparing.Unlock()
	if l.prepared {
		return nil
	}
	for _, dir := range []string{l.temporaryDir(), l.lockDir()} {
		made, err := l.makeDirs(dir)
		if err != nil {
			return err
		}
		if err := l.syncDirs(dir, made); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(l.temporaryDir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		stat, err := entry.Info()
		if err == nil && time.Since(stat.ModTime()) > temporaryAge {
			err = os.Remove(filepath.Join(l.temporaryDir(), entry.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	l.prepared = true
	return nil
}
