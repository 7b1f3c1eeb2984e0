package rebuild

import (
	"context"
	"fmt"
	"iter"

	"github.com/reservoirhq/reservoir/objectstore"
)

// letterDir is where a job keeps its letters, among its files.
const letterDir = "letters/"

// countLetters counts what was put aside by the chunks and batches that are loaded:
// those that are loaded again put the same aside.
func (b *build) countLetters(ctx context.Context) error {
	var count uint64
	for letters, err := range readLetters(ctx, b.h.Files()) {
		if err != nil {
			return err
		}
		count += uint64(len(letters))
	}
	b.cp.Letters = count
	return nil
}

// readLetters gives the letters among a job's files.
func readLetters(ctx context.Context, files objectstore.Store) iter.Seq2[[]Letter, error] {
	return func(yield func([]Letter, error) bool) {
		for info, err := range files.List(ctx, letterDir, objectstore.ListOptions{}) {
			var letters []Letter
			if err == nil {
				err = readFile(ctx, files, info.Key, &letters)
			}
			if err != nil {
				yield(nil, fmt.Errorf("read the dead letters: %w", err))
				return
			}
			if !yield(letters, nil) {
				return
			}
		}
	}
}

// DeadLetters gives the events that a rebuild has put aside.
func (s *Service) DeadLetters(ctx context.Context, id string) iter.Seq2[*Letter, error] {
	return func(yield func(*Letter, error) bool) {
		for letters, err := range readLetters(ctx, s.opts.Jobs.Files(id)) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range letters {
				if !yield(&letters[i], nil) {
					return
				}
			}
		}
	}
}
