//go:build !unix

package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
)

func (l *Local) lock(context.Context, string) (func() error, error) {
	return nil, fmt.Errorf("stores in local directories on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func statETag(stat fs.FileInfo) string {
	return fmt.Sprintf("%x-%x", stat.ModTime().UnixNano(), stat.Size())
}
