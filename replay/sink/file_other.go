//go:build !unix

package sink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
)

func lockFile(context.Context, *os.File) error {
	return fmt.Errorf("replays into files on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func unlockFile(*os.File) error { return nil }

func full(error) bool { return false }
