package objectstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Local is a Store in a directory: an object is a file, whose path is its key.
// It is safe between processes on one machine, and what Put and Delete return
// success for survives a loss of power.
//
// A new object is written beside the others, synced, and then given its name
// in one step: with link(2) where it must be absent, else with rename(2) under
// a file lock, which also guards the comparison for IfMatch. All that is kept
// in the hidden directory .reservoir. A crash can leave a file there, which
// no List shows; the first Put of a later process removes those that are older
// than a day.
//
// The ETag of an object of up to 4 MiB is a hash of its contents, for which Head
// and a Get of the whole object read it once more.
//
// Because keys are paths, the store cannot hold both "a" and "a/b": the Put of
// the second fails.
type Local struct {
	root    string
	noSync  bool
	buffers sync.Pool // *[]byte, to copy with

	preparing sync.Mutex
	prepared  bool // under preparing
}

// LocalOptions tune a Local store. The zero value is the default.
type LocalOptions struct {
	// NoSync leaves it to the operating system when data reaches the disk:
	// faster, but a loss of power may take objects with it. For tests.
	NoSync bool
}

const (
	hiddenDir   = ".reservoir"
	copyBuffer  = 256 << 10
	hashedBytes = 4 << 20 // up to this size an ETag is the hash of the contents
)

// NewLocal opens the store in dir, an existing directory or a new one in an
// existing parent; it is made by the first Put.
func NewLocal(dir string, opts LocalOptions) (*Local, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store directory %s: %w", dir, err)
	}
	at := root
	info, err := os.Stat(at)
	if errors.Is(err, fs.ErrNotExist) {
		at = filepath.Dir(root)
		info, err = os.Stat(at)
		err = remedy.Wrapf(err, "create the directory %s, or choose another path", at)
	}
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: at, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, fmt.Errorf("open store directory %s: %w", dir, err)
	}
	l := &Local{root: root, noSync: opts.NoSync}
	l.buffers.New = func() any { b := make([]byte, copyBuffer); return &b }
	return l, nil
}

// Head implements Store.
func (l *Local) Head(_ context.Context, key string) (Info, error) {
	f, info, err := l.open(key, ByteRange{})
	if err != nil {
		return Info{}, fmt.Errorf("head %s: %w", key, err)
	}
	if err := f.Close(); err != nil {
		return Info{}, fmt.Errorf("head %s: %w", key, err)
	}
	return info, nil
}

// Get implements Store.
func (l *Local) Get(_ context.Context, key string, r ByteRange) (io.ReadCloser, Info, error) {
	f, info, err := l.open(key, r)
	if err != nil {
		return nil, Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	start, end := r.within(info.Size)
	return &localBody{f, io.NewSectionReader(f, start, end-start), end - start}, info, nil
}

// localBody reads a part of a file, and notices when the file was cut.
type localBody struct {
	file *os.File
	part *io.SectionReader
	left int64
}

func (b *localBody) Read(p []byte) (int, error) {
	n, err := b.part.Read(p)
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *localBody) Close() error { return b.file.Close() }

// open opens an object. Its ETag is found where the whole of it is asked for.
func (l *Local) open(key string, r ByteRange) (*os.File, Info, error) {
	path, err := l.path(key)
	if err != nil {
		return nil, Info{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, Info{}, missing(err)
	}
	info, err := l.describe(f, key, r == ByteRange{})
	if err != nil {
		return nil, Info{}, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func (l *Local) describe(f *os.File, key string, withETag bool) (Info, error) {
	stat, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	if !stat.Mode().IsRegular() { // a directory on the way to other keys
		return Info{}, ErrNotFound
	}
	info := Info{Key: key, Size: stat.Size(), ModTime: stat.ModTime()}
	switch {
	case !withETag:
	case stat.Size() > hashedBytes:
		info.ETag = statETag(stat)
	default:
		hash := sha256.New()
		if _, err := io.Copy(hash, io.NewSectionReader(f, 0, stat.Size())); err != nil {
			return Info{}, err
		}
		info.ETag = hex.EncodeToString(hash.Sum(nil))
	}
	return info, nil
}

// missing maps the errors of a file that is not there to ErrNotFound.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ErrNotFound
	}
	return err
}

// Delete implements Store.
func (l *Local) Delete(ctx context.Context, key string) error {
	if err := l.remove(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func (l *Local) remove(ctx context.Context, key string) (err error) {
	path, err := l.path(key)
	if err != nil {
		return err
	}
	if stat, err := os.Lstat(path); err != nil || stat.IsDir() {
		if err = missing(err); err == nil || errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	unlock, err := l.lock(ctx, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	if err := l.syncDir(dir); err != nil {
		return err
	}
	for dir != l.root && syscall.Rmdir(dir) == nil { // until one is not empty
		dir = filepath.Dir(dir)
	}
	return nil
}

// path gives the file of a key.
func (l *Local) path(key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", fmt.Errorf("key %w", err)
	}
	if first, _, _ := strings.Cut(key, "/"); first == hiddenDir {
		return "", fmt.Errorf("key begins with %q, which the store keeps for itself", hiddenDir)
	}
	return filepath.Join(l.root, filepath.FromSlash(key)), nil
}
