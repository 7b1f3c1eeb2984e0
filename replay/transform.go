package replay

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/upcast"
)

// selector does with the events of a source what comes before the sink: the
// predicate, the upcasters, the limit. It counts.
type selector struct {
	source source
	spec   *Spec
	job    string
	svc    *Service

	where    *event.Predicate // nil: none
	upcaster *upcast.Upcaster // nil: none
	keys     bool             // the sink wants Origin.EventID and Key
	selected uint64           // so far, for the limit

	raw       chunk
	extractor *event.Extractor
	envelope  event.Envelope
	event     event.Event
}

// splitFilter gives the part of a filter that the archive applies, nil when
// there is none, and the predicate, which the replay applies: an event that it
// cannot be evaluated for is not the end of the replay.
func splitFilter(f event.Filter) (*event.Matcher, *event.Predicate, error) {
	var where *event.Predicate
	if f.Where != "" {
		var err error
		if where, err = event.CompilePredicate(f.Where); err != nil {
			return nil, nil, fmt.Errorf("compile the filter: %w", err)
		}
		f.Where = ""
	}
	if f.IsZero() {
		return nil, where, nil
	}
	lists, err := f.Compile()
	if err != nil {
		return nil, nil, fmt.Errorf("compile the filter: %w", err)
	}
	return lists, where, nil
}

// Read fills c with the next selected events, and the letters of those that
// cannot be sent. It returns io.EOF when there is nothing more, or the limit is
// reached.
func (s *selector) Read(ctx context.Context, c *chunk) error {
	left := ^uint64(0)
	if s.spec.Limit > 0 {
		if left = s.spec.Limit - min(s.selected, s.spec.Limit); left == 0 {
			return io.EOF
		}
	}
	if s.where == nil && s.upcaster == nil {
		return s.pass(ctx, c, left)
	}
	for !c.full() && len(c.letters) < maxBatchEvents && c.read < 64*maxBatchEvents && left > 0 {
		s.raw.reset()
		if err := s.source.Read(ctx, &s.raw); errors.Is(err, io.EOF) && c.read > 0 {
			return nil
		} else if err != nil {
			return err
		}
		c.fetched = s.raw.fetched
		c.live, c.lap = s.raw.live, s.raw.lap
		if left = s.pick(c, left); c.live {
			break
		}
	}
	return nil
}

// pass takes a chunk of the source as it is.
func (s *selector) pass(ctx context.Context, c *chunk, left uint64) error {
	if err := s.source.Read(ctx, c); err != nil {
		return err
	}
	if uint64(len(c.Origins)) > left {
		c.truncate(int(left))
	}
	for i := range c.Origins {
		if s.keys {
			c.Event(i, &s.event)
			s.extractor.Extract(&s.event, &s.envelope)
			s.setKeys(&c.Origins[i])
		}
	}
	c.countAll()
	s.selected += c.read
	return nil
}

// pick adds the selected events of the raw chunk to c, and returns how many more
// the limit allows.
func (s *selector) pick(c *chunk, left uint64) uint64 {
	for i := range s.raw.Origins {
		if left == 0 {
			break
		}
		o := s.raw.Origins[i]
		s.raw.Event(i, &s.event)
		selected := s.one(c, o)
		c.read++
		c.end = o.Position
		n := uint64(0)
		if selected {
			n = 1
			left--
			s.selected++
		}
		c.count(o.Position.Stream, 1, n)
	}
	return left
}

// one deals with the event in s.event, and says whether it is selected.
func (s *selector) one(c *chunk, o Origin) bool {
	shape := s.extractor.Extract(&s.event, &s.envelope)
	setAside := func(err error) bool {
		d := newDeadLetter(s.job, &o, &s.event, s.extractor, err, 0, s.svc.opts.Clock())
		c.letters = append(c.letters, letter{len(c.Origins), d})
		return true
	}
	if s.where != nil {
		match, err := s.where.Match(&s.event, &s.envelope)
		if err != nil {
			return setAside(fmt.Errorf("filter: %w", err))
		}
		if !match {
			return false
		}
	}
	if s.keys {
		s.setKeys(&o)
	}
	if s.upcaster != nil {
		changed, err := s.upcaster.Apply(&s.event, &s.envelope, shape, &c.Batch.Batch)
		if err != nil {
			return setAside(err)
		}
		if changed {
			c.Origins = append(c.Origins, o)
			return true
		}
	}
	c.append(&s.event, o)
	return true
}

// setKeys fills what sinks with keys want, from the envelope.
func (s *selector) setKeys(o *Origin) {
	if v, ok := s.envelope.Get(event.EventID); ok {
		o.EventID = string(v)
	}
	if v, ok := s.envelope.Get(event.AggregateID); ok {
		o.Key = string(v)
	}
}

// Close ends the reading of the source.
func (s *selector) Close() { s.source.Close() }
