package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

const (
	// maxIdle is after how many batches the checkpoint of a lane that they had
	// no events for is moved on, and names of streams that are restored are looked at.
	maxIdle = 256
	// maxWriters bounds the lanes that keep a connection.
	maxWriters = 64
)

// redisSink is a replay.Sink. See NewRedis.
type redisSink struct {
	spec    redisSpec
	opening replay.Opening
	client  *redisstream.Client
	release func() error
	lanes   []lane
	routes  []route  // by Position.Stream
	staged  bool     // see redisSpec.staged
	targets []string // of all lanes
	names   []string

	dealt   [2]deal // the batch at hand, and the one that is sent ahead
	scratch []byte
	uses    uint64
	writers int // lanes that keep a connection
	batches int // that were written
	sent    replay.Position
}

// Open implements replay.SinkKind.
func (k *redisKind) Open(ctx context.Context, o replay.Opening) (replay.Sink, error) {
	spec, err := k.spec(o.Options)
	if err != nil {
		return nil, err
	}
	client, release, err := k.reach(ctx, spec)
	if err != nil {
		return nil, err
	}
	s := &redisSink{spec: spec, opening: o, client: client, release: release, staged: spec.staged(o)}
	if err := k.notSource(ctx, spec, o, client); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.lanes, s.routes, err = lanesOf(spec, o, client.Clustered()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for i := range s.lanes {
		if err := s.takeOver(ctx, &s.lanes[i]); err != nil {
			return nil, errors.Join(redisError(err), s.Close())
		}
	}
	return s, nil
}

// takeOver opens a lane.
func (s *redisSink) takeOver(ctx context.Context, l *lane) (err error) {
	s.targets, s.names = append(s.targets, l.targets...), append(s.names, l.names...)
	s.rest(l)
	opts := redisstream.FenceOptions{Key: l.key, Epoch: s.opening.Epoch, KeepIDs: s.spec.IDs == keepIDs, Known: !s.opening.Written.IsZero()}
	l.writer, err = s.client.Fence(ctx, opts)
	if opts.Known && errors.Is(err, redisstream.ErrCheckpointLost) {
		blank, infoErr := s.blank(ctx, l.names) // what is not in its place yet is of no use
		if infoErr != nil || !blank {
			return errors.Join(infoErr, err)
		}
		opts.Known = false // Redis has lost everything: begin anew
		l.writer, err = s.client.Fence(ctx, opts)
	}
	if err != nil {
		return err
	}
	if s.staged {
		if err := s.beginStaged(ctx, l); err != nil {
			return err
		}
	}
	if text := l.writer.Position(); text != "" {
		l.position, err = replay.ParsePosition(text)
	}
	return err
}

// blank says whether nothing was ever added to any of the streams, as far as Redis
// knows.
func (s *redisSink) blank(ctx context.Context, streams []string) (bool, error) {
	infos, err := s.client.Infos(ctx, streams)
	if err != nil {
		return false, err
	}
	for i := range infos {
		switch info := &infos[i]; {
		case errors.Is(info.Err, redisstream.ErrNoStream):
		case info.Err != nil:
			return false, info.Err
		case !info.LastGeneratedID.IsZero():
			return false, nil
		}
	}
	return true, nil
}

// rest takes connections from lanes that were not used for long, so that l can
// have one.
func (s *redisSink) rest(l *lane) {
	s.uses++
	if l.used == 0 {
		s.writers++
	}
	l.used = s.uses
	for s.writers > maxWriters {
		var oldest *lane
		for i := range s.lanes {
			if c := &s.lanes[i]; c.used != 0 && (oldest == nil || c.used < oldest.used) {
				oldest = c
			}
		}
		oldest.writer.Rest()
		oldest.used = 0
		s.writers--
	}
}

// Position implements replay.Sink: the lowest of the lanes' positions, so that
// nothing is left out. Lanes that are further skip what they have.
func (s *redisSink) Position(context.Context) (replay.Position, error) {
	var lowest replay.Position
	for i := range s.lanes {
		if p := s.lanes[i].position; i == 0 || p.Compare(lowest) < 0 {
			lowest = p
		}
	}
	return lowest, nil
}

// Close implements replay.Sink.
func (s *redisSink) Close() error {
	for i := range s.lanes {
		if w := s.lanes[i].writer; w != nil {
			w.Close()
		}
	}
	release := s.release
	s.release = func() error { return nil }
	return release()
}

// Records implements replay.Recorder.
func (s *redisSink) Records() bool { return true }

// Write implements replay.Sink.
func (s *redisSink) Write(ctx context.Context, b *replay.Batch) error {
	return s.WriteAhead(ctx, b, nil)
}

// WriteAhead implements replay.AheadWriter. Batches are sent ahead where one
// lane takes all of them.
func (s *redisSink) WriteAhead(ctx context.Context, b *replay.Batch, next func() *replay.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	d := s.take(b)
	if d.rejected != nil {
		return d.rejected
	}
	if s.batches++; s.staged && s.batches%maxIdle == 0 {
		for i := range s.lanes {
			if err := s.placesFree(ctx, &s.lanes[i]); err != nil {
				return redisError(err)
			}
		}
	}
	var ahead func() *redisstream.FencedBatch
	if next != nil && len(s.lanes) == 1 {
		ahead = func() *redisstream.FencedBatch { return s.prepare(next()) }
	}
	for i := range s.lanes {
		l, share := &s.lanes[i], &d.shares[i]
		if l.idle++; len(share.Entries) == 0 && l.idle < maxIdle {
			continue
		}
		s.rest(l)
		if err := l.writer.Write(ctx, &share.FencedBatch, ahead); err != nil {
			return redisError(fmt.Errorf("replay to redis: %w", share.name(err, b)))
		}
		l.position, l.idle = furthest(l.position, b.Origins[b.Len()-1].Position), 0
	}
	s.sent = b.Origins[b.Len()-1].Position
	return nil
}

// Settle implements replay.Settler: lanes that had no events of the last batches
// are told that there were none.
func (s *redisSink) Settle(ctx context.Context) error {
	for i := range s.lanes {
		l := &s.lanes[i]
		if l.position.Compare(s.sent) >= 0 {
			continue
		}
		s.rest(l)
		nothing := &redisstream.FencedBatch{Events: &event.Batch{}, Position: func(int) string { return s.sent.String() }}
		if err := l.writer.Write(ctx, nothing, nil); err != nil {
			return redisError(fmt.Errorf("move a checkpoint: %w", err))
		}
		l.position, l.idle = s.sent, 0
	}
	return nil
}

func furthest(a, b replay.Position) replay.Position {
	if a.Compare(b) < 0 {
		return b
	}
	return a
}

// Finish implements replay.Finisher: streams that were restored as a whole get
// their counters back, and those that are staged come into their places, one
// after the other.
func (s *redisSink) Finish(ctx context.Context) error {
	if s.spec.IDs != keepIDs {
		return nil
	}
	for i, source := range s.opening.Streams {
		if err := s.finish(ctx, i, source); err != nil {
			return redisError(fmt.Errorf("restore stream %q: %w", source.Stream, err))
		}
	}
	return nil
}

func (s *redisSink) finish(ctx context.Context, i int, source replay.StreamRange) error {
	r := s.routes[i]
	if l := &s.lanes[r.lane]; s.opening.Whole && !(s.staged && l.writer.Placed(l.names[r.target])) {
		if err := s.restore(ctx, i, source); err != nil {
			return err
		}
	}
	if s.staged {
		return s.finishStaged(ctx, r)
	}
	return nil
}

// restore gives a target the last ID and the count of entries that its source
// had, if the replay went up to its end.
func (s *redisSink) restore(ctx context.Context, i int, source replay.StreamRange) error {
	to := source.Range.To
	if source.EntriesAdded == 0 || !to.IsZero() && to.Less(source.Head) {
		return nil
	}
	l := &s.lanes[s.routes[i].lane]
	target := l.targets[s.routes[i].target]
	info, err := s.client.Info(ctx, target)
	if errors.Is(err, redisstream.ErrNoStream) {
		return nil // nothing was in it
	}
	if err != nil {
		return err
	}
	last, added := info.LastGeneratedID, max(info.EntriesAdded, source.EntriesAdded)
	if last.Less(source.Head) {
		last = source.Head
	}
	if last == info.LastGeneratedID && added == info.EntriesAdded {
		return nil
	}
	s.rest(l)
	return l.writer.SetID(ctx, target, last, added, info.MaxDeletedID)
}
