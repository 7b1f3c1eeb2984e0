package archive

import (
	"context"
	"fmt"
	"time"
)

// removesPerCommit bounds the segments that one expire commit removes.
const removesPerCommit = 1000

// Removed counts what a maintenance run took out of the archive's view. The
// objects stay until garbage collection comes by after the grace period.
type Removed struct {
	Events   uint64 `json:"events"`
	Segments uint64 `json:"segments"`
	Bytes    int64  `json:"bytes"`
}

// Expire drops every segment of a stream whose events are all older than
// before, going by the milliseconds of their IDs. It returns what was dropped,
// also when it fails half-way; running it again goes on.
func (a *Archive) Expire(ctx context.Context, stream string, before time.Time) (Removed, error) {
	var removed Removed
	err := a.eachIncarnation(ctx, stream, func(l *Log) error { return l.expire(ctx, before, &removed) })
	if err != nil {
		return removed, fmt.Errorf("expire segments of stream %q: %w", stream, err)
	}
	return removed, nil
}

// eachIncarnation calls do with the log of every incarnation that has commits.
func (a *Archive) eachIncarnation(ctx context.Context, stream string, do func(*Log) error) error {
	for inc, err := range a.Incarnations(ctx, stream) {
		if err != nil {
			return err
		}
		if inc.Last == nil {
			continue
		}
		if err := do(&Log{a: a, stream: stream, incarnation: inc.Number, pinned: true, last: inc.Last}); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) expire(ctx context.Context, before time.Time, removed *Removed) error {
	v, err := l.a.view(ctx, l.dir(), l.number())
	if err != nil {
		return err
	}
	var batch []Segment
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		done, err := Totals{}.after(&Commit{Adds: batch}, nil)
		if err != nil {
			return err
		}
		if _, err := l.commit(ctx, Commit{Kind: KindExpire}, batch); err != nil {
			return err
		}
		removed.Events += done.Events
		removed.Segments += done.Segments
		removed.Bytes += done.Bytes
		batch = nil
		return nil
	}
	for s, err := range v.spans(ctx) {
		if err != nil {
			return err
		}
		if before.UnixMilli() <= 0 || s.Last.Ms >= uint64(before.UnixMilli()) {
			break
		}
		batch = append(batch, s.Segments...)
		if len(batch) >= removesPerCommit {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
