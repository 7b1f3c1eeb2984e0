package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

const (
	// maxIdle is after how many batches the checkpoint of a lane that they had
	// no events for is moved on.
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
	routes  []route // by Position.Stream
	targets []string

	origins []replay.Origin // of the batch at hand
	scratch []byte
	last    map[route]event.ID // KeepIDs: within the batch at hand
	uses    uint64
	writers int // lanes that keep a connection
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
	s := &redisSink{spec: spec, opening: o, client: client, release: release, last: map[route]event.ID{}}
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
	s.targets = append(s.targets, l.targets...)
	s.rest(l)
	l.writer, err = s.client.Fence(ctx, redisstream.FenceOptions{Key: l.key, Epoch: s.opening.Epoch, KeepIDs: s.spec.IDs == keepIDs})
	if err != nil {
		return err
	}
	if text := l.writer.Position(); text != "" {
		l.position, err = replay.ParsePosition(text)
	}
	return err
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

// Write implements replay.Sink.
func (s *redisSink) Write(ctx context.Context, b *replay.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	rejected := s.sort(b)
	for i := range s.lanes {
		l := &s.lanes[i]
		if l.idle++; len(l.entries) == 0 && !l.offered && l.idle < maxIdle {
			continue
		}
		if err := s.write(ctx, l, b); err != nil {
			return redisError(fmt.Errorf("replay to redis: %w", err))
		}
	}
	if rejected != nil {
		return rejected
	}
	return nil
}

// sort deals the events to the lanes, but for those that a lane has already and
// those that it can never have.
func (s *redisSink) sort(b *replay.Batch) *replay.RejectedError {
	s.origins = b.Origins
	for i := range s.lanes {
		l := &s.lanes[i]
		l.entries, l.ends, l.offered = l.entries[:0], l.ends[:0], false
	}
	clear(s.last)
	var rejected *replay.RejectedError
	var e event.Event
	for i := range b.Len() {
		r := s.routes[b.Origins[i].Position.Stream]
		l := &s.lanes[r.lane]
		if b.Origins[i].Position.Compare(l.position) <= 0 {
			continue
		}
		l.offered = true
		b.Event(i, &e)
		if err := s.reject(r, &e); err != nil {
			if rejected == nil {
				rejected = &replay.RejectedError{}
			}
			rejected.Events = append(rejected.Events, replay.Rejection{Index: i, Attempts: 1, Err: err})
			continue
		}
		l.entries = append(l.entries, redisstream.FencedEntry{Event: i, Stream: r.target})
		l.ends = append(l.ends, i+1)
	}
	return rejected
}

// maxValue is the longest string that Redis takes, by default.
const maxValue = 512 << 20

// reject returns why Redis would never take an event.
func (s *redisSink) reject(r route, e *event.Event) error {
	if len(e.Fields) == 0 {
		return remedy.Wrap(errors.New("the event has no fields: redis has no such entries"), "Let an upcaster give it a field.")
	}
	for _, f := range e.Fields {
		if len(f.Name) > maxValue || len(f.Value) > maxValue {
			return fmt.Errorf("field %.40q has %d bytes: redis takes 512 MiB", f.Name, len(f.Value))
		}
	}
	if s.spec.IDs != keepIDs {
		return nil
	}
	last, ok := s.last[r]
	if !ok {
		l := &s.lanes[r.lane]
		last = l.writer.Last(l.targets[r.target])
	}
	if !last.Less(e.ID) {
		return remedy.Wrap(fmt.Errorf("ID %s is not above %s, which is restored already: IDs of a stream must go up", e.ID, last), "Replay with ids new, or a range that does not span a stream that was deleted and made anew.")
	}
	s.last[r] = e.ID
	return nil
}

// write writes a lane's share of a batch.
func (s *redisSink) write(ctx context.Context, l *lane, b *replay.Batch) error {
	s.rest(l)
	batch := &redisstream.FencedBatch{
		Events: &b.Batch, Entries: l.entries, Streams: l.targets,
		Position: func(n int) string {
			switch {
			case n == len(l.entries):
				return b.Origins[b.Len()-1].Position.String()
			case n == 0:
				return l.writer.Position()
			}
			return b.Origins[l.ends[n-1]-1].Position.String()
		},
	}
	if s.spec.Provenance == "true" {
		batch.Extra = s.provenance
	}
	if err := l.writer.Write(ctx, batch); err != nil {
		return err
	}
	l.position, l.idle = b.Origins[b.Len()-1].Position, 0
	return nil
}

// provenance adds where an entry comes from.
func (s *redisSink) provenance(i int, e *event.Event) {
	o := &s.origins[i]
	s.scratch = append(s.scratch[:0], FieldReplay+FieldStream+FieldID...)
	ends := [3]int{len(FieldReplay), len(FieldReplay + FieldStream), len(s.scratch)}
	s.scratch = append(s.scratch, s.opening.Replay...)
	replayEnd := len(s.scratch)
	s.scratch = append(s.scratch, o.Stream...)
	streamEnd := len(s.scratch)
	s.scratch = o.ID.Append(s.scratch)
	e.Fields = append(e.Fields,
		event.Field{Name: s.scratch[:ends[0]], Value: s.scratch[ends[2]:replayEnd]},
		event.Field{Name: s.scratch[ends[0]:ends[1]], Value: s.scratch[replayEnd:streamEnd]},
		event.Field{Name: s.scratch[ends[1]:ends[2]], Value: s.scratch[streamEnd:]})
}

// Finish implements replay.Finisher: streams that were restored as a whole get
// their counters back.
func (s *redisSink) Finish(ctx context.Context) error {
	if s.spec.IDs != keepIDs || !s.opening.Whole {
		return nil
	}
	for i, source := range s.opening.Streams {
		if err := s.restore(ctx, i, source); err != nil {
			return redisError(fmt.Errorf("restore stream %q: %w", source.Stream, err))
		}
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
