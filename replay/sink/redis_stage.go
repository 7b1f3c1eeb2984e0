package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
)

// places gives the names that some of the keys which are written get in the end.
func (l *lane) places(from, to int) func(key string) string {
	names := make(map[string]string, to-from)
	for i := from; i < to; i++ {
		names[l.targets[i]] = l.names[i]
	}
	return func(key string) string { return names[key] }
}

// beginStaged makes sure, when a lane is opened, that the names which its streams
// are to get are free, and that nothing is left of what its checkpoint does not
// know of.
func (s *redisSink) beginStaged(ctx context.Context, l *lane) error {
	if err := s.placesFree(ctx, l); err != nil || l.writer.Position() != "" {
		return err
	}
	return drop(ctx, s.client, l.writer, l.targets)
}

// placesFree makes sure that nobody has used the names which streams are to get.
// Finish does so again, for each; this is to know it early.
func (s *redisSink) placesFree(ctx context.Context, l *lane) error {
	for from := 0; from < len(l.names); from += checkChunk {
		infos, err := s.client.Infos(ctx, l.names[from:min(from+checkChunk, len(l.names))])
		if err != nil {
			return err
		}
		for _, info := range infos {
			switch {
			case l.writer.Placed(info.Stream), errors.Is(info.Err, redisstream.ErrNoStream):
			case info.Err != nil:
				return info.Err
			case used(info):
				return placeTaken(info.Stream, fmt.Errorf("%w: its last ID is %s", redisstream.ErrForeign, info.LastGeneratedID))
			}
		}
	}
	return nil
}

// placeTaken is the error for a stream whose name was used meanwhile.
func placeTaken(stream string, err error) error {
	return remedy.Wrapf(fmt.Errorf("stream %q cannot be put in its place: %w", stream, err),
		"Delete or rename %q, and retry the replay: it goes on where it was. Let producers begin when it has ended.", stream)
}

// dropStaged deletes what a replay has restored and not put in its place.
func dropStaged(ctx context.Context, client *redisstream.Client, fence redisstream.FenceOptions, l *lane) error {
	fence.KeepIDs = true
	w, err := client.Fence(ctx, fence)
	if err != nil {
		return err
	}
	defer w.Close()
	return drop(ctx, client, w, l.targets)
}

// drop deletes those of the keys that there are.
func drop(ctx context.Context, client *redisstream.Client, w *redisstream.FencedWriter, keys []string) error {
	for from := 0; from < len(keys); from += checkChunk {
		infos, err := client.Infos(ctx, keys[from:min(from+checkChunk, len(keys))])
		if err != nil {
			return err
		}
		var there []string
		for _, info := range infos {
			switch {
			case info.Err == nil:
				there = append(there, info.Stream)
			case !errors.Is(info.Err, redisstream.ErrNoStream):
				return info.Err
			}
		}
		if len(there) > 0 {
			if err := w.Drop(ctx, there); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishStaged puts a stream that was restored in its place.
func (s *redisSink) finishStaged(ctx context.Context, r route) error {
	l := &s.lanes[r.lane]
	key, name := l.targets[r.target], l.names[r.target]
	if l.writer.Placed(name) || l.writer.Last(key).IsZero() { // nothing was in it
		return nil
	}
	s.rest(l)
	err := l.writer.Place(ctx, key, name)
	if errors.Is(err, redisstream.ErrForeign) {
		return placeTaken(name, err)
	}
	return err
}
