package sink

import (
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

// deal is a batch dealt to the lanes.
type deal struct {
	batch    *replay.Batch
	shares   []share // one for each lane
	last     map[route]event.ID
	rejected *replay.RejectedError
}

// share is what a lane gets of a batch.
type share struct {
	redisstream.FencedBatch
	ends []int // for each entry, the events of the batch up to and with it
}

// take returns the deal of a batch, which may have been dealt ahead.
func (s *redisSink) take(b *replay.Batch) *deal {
	if s.dealt[1].batch == b {
		s.dealt[0], s.dealt[1] = s.dealt[1], s.dealt[0]
		s.dealt[1].batch = nil
		return &s.dealt[0]
	}
	s.dealt[1].batch = nil
	s.deal(&s.dealt[0], b, nil)
	return &s.dealt[0]
}

// prepare deals the batch after the one at hand, to be sent ahead. One with
// events that are rejected waits for its turn.
func (s *redisSink) prepare(b *replay.Batch) *redisstream.FencedBatch {
	if b == nil || b.Len() == 0 {
		return nil
	}
	d := &s.dealt[1]
	s.deal(d, b, &s.dealt[0])
	if d.rejected != nil {
		d.batch = nil
		return nil
	}
	return &d.shares[0].FencedBatch
}

// deal deals a batch to the lanes, but for the events that a lane has already.
// before is the deal that will be written first, if any.
func (s *redisSink) deal(d *deal, b *replay.Batch, before *deal) {
	d.batch, d.rejected = b, nil
	if d.last == nil {
		d.last = map[route]event.ID{}
		d.shares = make([]share, len(s.lanes))
	}
	clear(d.last)
	for i := range d.shares {
		s.empty(&d.shares[i], &s.lanes[i], b)
	}
	var e event.Event
	for i := range b.Len() {
		position := b.Origins[i].Position
		r := s.routes[position.Stream]
		if position.Compare(s.lanes[r.lane].position) <= 0 {
			continue
		}
		b.Event(i, &e)
		if err := s.reject(d, before, r, &e); err != nil {
			if d.rejected == nil {
				d.rejected = &replay.RejectedError{Unwritten: true}
			}
			d.rejected.Events = append(d.rejected.Events, replay.Rejection{Index: i, Attempts: 1, Err: err})
			continue
		}
		sh := &d.shares[r.lane]
		sh.Entries = append(sh.Entries, redisstream.FencedEntry{Event: i, Stream: r.target})
		sh.ends = append(sh.ends, i+1)
	}
}

// empty makes a share ready for another batch.
func (s *redisSink) empty(sh *share, l *lane, b *replay.Batch) {
	sh.Events, sh.Streams = &b.Batch, l.targets
	sh.Entries, sh.ends = sh.Entries[:0], sh.ends[:0]
	if s.spec.Provenance == "true" {
		sh.Extra = func(i int, e *event.Event) { s.provenance(&b.Origins[i], e) }
	}
	sh.Position = func(n int) string {
		switch {
		case n == len(sh.Entries):
			return furthest(l.position, b.Origins[b.Len()-1].Position).String()
		case n == 0:
			return positionText(l.position)
		}
		return b.Origins[sh.ends[n-1]-1].Position.String()
	}
}

// name adds to an error which event of the batch was refused first.
func (sh *share) name(err error, b *replay.Batch) error {
	partial, ok := errors.AsType[*redisstream.PartialError](err)
	if !ok {
		return err
	}
	o := b.Origins[sh.Entries[partial.Refused[0]].Event]
	return fmt.Errorf("event %s of stream %q is the first that is not there: %w", o.ID, o.Stream, err)
}

// positionText is a position as a lane keeps it: "" for none.
func positionText(p replay.Position) string {
	if p.IsZero() {
		return ""
	}
	return p.String()
}

// maxValue is the longest string that Redis takes, by default.
const maxValue = 512 << 20

// reject returns why Redis would never take an event.
func (s *redisSink) reject(d, before *deal, r route, e *event.Event) error {
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
	last, ok := d.last[r]
	if !ok && before != nil {
		last, ok = before.last[r]
	}
	if !ok {
		l := &s.lanes[r.lane]
		last = l.writer.Last(l.targets[r.target])
	}
	if !last.Less(e.ID) {
		return remedy.Wrap(fmt.Errorf("ID %s is not above %s, which is restored already: IDs of a stream must go up", e.ID, last), "Replay with ids new, or a range that does not span a stream that was deleted and made anew.")
	}
	d.last[r] = e.ID
	return nil
}

// provenance adds where an entry comes from.
func (s *redisSink) provenance(o *replay.Origin, e *event.Event) {
	const names = FieldReplay + FieldStream + FieldID
	s.scratch = append(append(s.scratch[:0], names...), s.opening.Replay...)
	job := len(s.scratch)
	s.scratch = append(s.scratch, o.Stream...)
	stream := len(s.scratch)
	s.scratch = o.ID.Append(s.scratch)
	const first, second, third = len(FieldReplay), len(FieldReplay + FieldStream), len(names)
	b := s.scratch
	e.Fields = append(e.Fields,
		event.Field{Name: b[:first], Value: b[third:job]},
		event.Field{Name: b[first:second], Value: b[job:stream]},
		event.Field{Name: b[second:third], Value: b[stream:]})
}
