package archive

import (
	"context"
	"fmt"
	"iter"
)

// Backwards gives the commits of this incarnation, the last one first, as they
// were when the log was loaded.
func (l *Log) Backwards(ctx context.Context) iter.Seq2[*Commit, error] {
	return func(yield func(*Commit, error) bool) {
		dir := l.dir()
		for n := l.number(); n > 0; n-- {
			c, err := l.a.commit(ctx, dir, n)
			if err != nil {
				yield(nil, fmt.Errorf("read log of stream %q: %w", l.stream, err))
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}
