package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/reservoirhq/reservoir/objectstore"
)

// letterSource gives the events of another replay's dead letters, under their
// positions there.
type letterSource struct {
	files   objectstore.Store // of the other replay
	keys    []string          // left, in order
	streams []StreamRange     // of both, by Position.Stream
}

// newLetterSource reads the letters with the given keys, or all, after a place.
func newLetterSource(ctx context.Context, files objectstore.Store, keys []string, streams []StreamRange, after Position) (*letterSource, error) {
	left, err := deadLetterKeys(ctx, files, deadLetterKey(after))
	if err != nil {
		return nil, err
	}
	chosen := chosenLetters(keys)
	left = slices.DeleteFunc(left, func(key string) bool { return !chosen(key) })
	return &letterSource{files: files, keys: left, streams: streams}, nil
}

// chosenLetters tells whether a letter is among those with the given keys, or all if
// there are none.
func chosenLetters(keys []string) func(key string) bool {
	among := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		among[key] = struct{}{}
	}
	return func(key string) bool {
		_, ok := among[key]
		return ok || len(among) == 0
	}
}

// Read implements source: one event at a time, so that the checkpoint tells which
// of them were taken. A letter that was removed meanwhile is left out.
func (s *letterSource) Read(ctx context.Context, c *chunk) error {
	for len(s.keys) > 0 {
		d, err := readDeadLetter(ctx, s.files, s.keys[0])
		s.keys = s.keys[1:]
		if errors.Is(err, objectstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := d.appendTo(&c.Batch.Batch); err != nil {
			return err
		}
		stream := d.Stream // the plan also holds names that are not UTF-8
		if i := d.Position.Stream; i >= 0 && i < len(s.streams) {
			stream = s.streams[i].Stream
		}
		c.Origins = append(c.Origins, Origin{Position: d.Position, Stream: stream})
		c.sourced()
		return nil
	}
	return io.EOF
}

// Close implements source.
func (s *letterSource) Close() {}

// taken asks the target how far it is with the letters of another replay: further
// than the job knows if a worker died.
func (r *run) taken(ctx context.Context) (position Position, err error) {
	if r.spec.DeadLettersOf == "" {
		return Position{}, nil
	}
	sink, err := r.kind.Open(ctx, r.opening)
	if err != nil {
		return Position{}, fmt.Errorf("open the sink: %w", err)
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if position, err = sink.Position(ctx); err != nil {
		return Position{}, fmt.Errorf("ask the sink for its position: %w", err)
	}
	return position, nil
}

// removeTaken removes the letters of another replay that were dealt with here, up
// to the mark and up to what the target has. It comes after the job was saved, so
// that a crash loses none.
func (r *run) removeTaken(ctx context.Context, has Position) error {
	if r.spec.DeadLettersOf == "" {
		return nil
	}
	files := r.svc.opts.Jobs.Files(r.spec.DeadLettersOf)
	keys, err := deadLetterKeys(ctx, files, "")
	if err != nil {
		return err
	}
	chosen := chosenLetters(r.spec.DeadLetters)
	last := max(deadLetterKey(r.cp.From), deadLetterKey(has))
	for _, key := range keys {
		if key > last {
			break
		}
		if !chosen(key) {
			continue
		}
		if err := deleteDeadLetter(ctx, files, key); err != nil {
			return err
		}
	}
	return nil
}
