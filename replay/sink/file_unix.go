//go:build unix

package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/reservoirhq/reservoir/replay"
)

// maxLockWait is how long a lock may be held by another process.
const maxLockWait = 10 * time.Second

// lockFile takes the lock of an open file, exclusively between everyone who
// opened it on this machine. The operating system releases it when its holder
// dies.
func lockFile(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, maxLockWait, fmt.Errorf("%w: another process holds the lock of the file", replay.ErrUnavailable))
	defer cancel()
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock: %w", err)
		}
		if err := sleep(ctx, rand.N(wait)); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
	}
}

// unlockFile gives the lock back.
func unlockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// full reports whether an error is that of a disk without space.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
