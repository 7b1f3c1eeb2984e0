//go:build unix

package objectstore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	lockStripes = 64 // lock files, never removed; part of the store's format
	lockWaitMax = 20 * time.Millisecond
)

// lock takes the lock of a key, exclusively between goroutines and processes.
// The operating system releases it when its holder dies.
func (l *Local) lock(ctx context.Context, key string) (unlock func() error, err error) {
	if err := l.prepare(); err != nil {
		return nil, err
	}
	hash := fnv.New32a()
	hash.Write([]byte(key))
	path := filepath.Join(l.lockDir(), fmt.Sprintf("%02d", hash.Sum32()%lockStripes))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, lockWaitMax) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil // closing it unlocks: no one else has this descriptor
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(rand.N(wait)):
		}
	}
}

// statETag tells versions of a file apart by where and when it was written.
func statETag(stat fs.FileInfo) string {
	var inode uint64
	if s, ok := stat.Sys().(*syscall.Stat_t); ok {
		inode = s.Ino
	}
	return fmt.Sprintf("%x-%x-%x", inode, stat.ModTime().UnixNano(), stat.Size())
}
