package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/tail"
)

const (
	followEvery    = 100 * time.Millisecond // how often streams are looked at
	followPatience = time.Second            // between attempts when one cannot be read
	lapBytes       = 4 << 20                // of events in one lap, and a batch
	// keepReaders is how many followed streams may each keep a connection.
	keepReaders = 16
)

// place is where a stream was read up to.
type place struct {
	Incarnation int      `json:"incarnation"`
	ID          event.ID `json:"id"`
}

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.Incarnation, o.Incarnation), p.ID.Compare(o.ID))
}

// lap is what was new in several live streams at one moment, merged by time. No
// event of it merges before Floor, which is behind the lap before: what arrives
// late is replayed late. The job's document has the lap before the sink has any
// of it, so that every attempt finds the same Positions.
type lap struct {
	Floor uint64  `json:"floor"`
	After []place `json:"after"` // by stream
	UpTo  []place `json:"up_to"`
}

// followSource goes on where the archive ended when the replay was created:
// through what was archived since, into the live streams, until their ranges end.
type followSource struct {
	arch    *archive.Archive
	redis   *redisstream.Client
	mapping event.Mapping
	filter  *event.Matcher
	streams []StreamRange
	order   Order
	waiting func(reason string)
	waits   string // the last reason

	tails  []*tail.Tail
	places []place
	last   Position // of the last event that was given
	resume *lap     // to be read first
	turn   int      // the stream to look at first
	floor  part     // with one stream: of the incarnation that is read

	begun  bool
	batch  event.Batch // of the lap
	events []Origin    // in its order, with the index in batch
	index  []int
	next   int
	lap    *lap // to be announced
	event  event.Event
}

// newFollowSource follows the streams behind a place, in that lap if there is one.
func newFollowSource(streams []StreamRange, after Position, l *lap) *followSource {
	s := &followSource{streams: streams, last: after, resume: l, tails: make([]*tail.Tail, len(streams)), places: make([]place, len(streams))}
	for i, r := range streams {
		s.places[i] = place{max(r.Incarnation, 1), r.Head}
		if p := (place{after.Incarnation, after.ID}); len(streams) == 1 && s.places[i].compare(p) < 0 {
			s.places[i] = p
		}
	}
	if l != nil {
		copy(s.places, l.After)
	}
	return s
}

// Read implements source. The first chunk is empty: it says that the replay
// follows now.
func (s *followSource) Read(ctx context.Context, c *chunk) error {
	c.live = true
	if !s.begun {
		s.begun = true
		return nil
	}
	for s.next == len(s.events) {
		more, err := s.gather(ctx)
		if err != nil {
			return err
		}
		if s.next < len(s.events) {
			break
		}
		if !more {
			return io.EOF
		}
		if err := wait(ctx, followEvery); err != nil {
			return err
		}
	}
	c.lap, s.lap = s.lap, nil
	for ; s.next < len(s.events) && !c.full(); s.next++ {
		s.batch.Event(s.index[s.next], &s.event)
		c.append(&s.event, s.events[s.next])
	}
	c.sourced()
	s.last = c.end
	return nil
}

// gather reads the next lap. It says whether anything can come after it.
func (s *followSource) gather(ctx context.Context) (more bool, err error) {
	s.batch.Reset()
	s.events, s.index, s.next = s.events[:0], s.index[:0], 0
	l := &lap{Floor: s.last.Ms + 1, After: slices.Clone(s.places)}
	if s.resume != nil {
		l = s.resume
	}
	for range s.streams {
		i := s.turn % len(s.streams)
		full, open, err := s.look(ctx, i, l)
		if err != nil {
			return false, err
		}
		if more = more || open; full {
			break // and go on with this one
		}
		s.turn++
	}
	if len(s.streams) > 1 && len(s.events) > 0 {
		s.merge(l)
	}
	if more = more || s.resume != nil; s.resume != nil {
		s.places, s.resume = slices.Clone(l.UpTo), nil
		s.dropRead()
	}
	return more, nil
}

// merge gives the events of a lap their order, and announces it.
func (s *followSource) merge(l *lap) {
	for i := range s.events {
		s.events[i].Ms = max(l.Floor, s.events[i].ID.Ms)
	}
	slices.SortFunc(s.index, func(a, b int) int { return s.events[a].Position.Compare(s.events[b].Position) })
	sorted := make([]Origin, len(s.events))
	for i, from := range s.index {
		sorted[i] = s.events[from]
	}
	s.events = sorted
	if s.resume == nil {
		l.UpTo = slices.Clone(s.places)
		s.lap = l
	}
}

// dropRead leaves out what was given before the lap was taken up again.
func (s *followSource) dropRead() {
	for s.next < len(s.events) && s.events[s.next].Position.Compare(s.last) <= 0 {
		s.next++
	}
}

// look takes what is new in stream i. It says whether the lap is full, and
// whether more can come from the stream.
func (s *followSource) look(ctx context.Context, i int, l *lap) (full, open bool, err error) {
	if s.resume != nil && l.UpTo[i].compare(l.After[i]) <= 0 {
		return false, true, nil
	}
	for {
		full, err = s.read(ctx, i)
		if err == nil {
			break
		}
		reason := ""
		switch {
		case errors.Is(err, redisstream.ErrHistoryReplaced):
			s.forget(i)
			reason = fmt.Sprintf("stream %q was deleted and made anew, and that is not archived yet: is an archiver running?", s.streams[i].Stream)
		case errors.Is(err, redisstream.ErrUnreachable), errors.Is(err, redisstream.ErrLoading):
			reason = fmt.Sprintf("stream %q cannot be read: %v", s.streams[i].Stream, err)
		default:
			return false, false, err
		}
		s.tell(reason)
		if err := wait(ctx, followPatience); err != nil {
			return false, false, err
		}
	}
	s.tell("")
	open = !s.tails[i].Done()
	if s.resume != nil || len(s.streams) > keepReaders {
		s.tails[i].Close()
	}
	if s.resume != nil {
		s.forget(i) // it may have read beyond the lap
	}
	return full, open, nil
}

// read reads from the tail of stream i, which it makes if there is none.
func (s *followSource) read(ctx context.Context, i int) (full bool, err error) {
	if s.tails[i] == nil {
		s.tails[i] = tail.New(s.arch, s.redis, tail.Spec{
			Stream: s.streams[i].Stream, Range: s.streams[i].Range, Incarnation: s.places[i].Incarnation, After: s.places[i].ID,
			Filter: s.filter, Mapping: s.mapping,
		})
	}
	for b, err := range s.tails[i].Batches(ctx) {
		if err != nil {
			return false, err //nolint:wrapcheck // it names the stream
		}
		if err := s.enter(ctx, i, b.Incarnation); err != nil {
			return false, err
		}
		for k := range b.Len() {
			at := place{b.Incarnation, b.ID(k)}
			if s.resume != nil && at.compare(s.resume.UpTo[i]) > 0 {
				return false, nil
			}
			b.Event(k, &s.event)
			s.index = append(s.index, s.batch.Len())
			s.batch.Append(&s.event)
			o := Origin{Position: s.floor.position(s.order, at.ID), Stream: s.streams[i].Stream}
			o.Position.Stream = i
			s.events = append(s.events, o)
			s.places[i] = at
		}
		if s.resume == nil && s.batch.Bytes() >= lapBytes {
			return true, nil
		}
	}
	return false, nil
}

// enter finds out where an incarnation of stream i begins to merge. The laps of
// several streams have a floor of their own.
func (s *followSource) enter(ctx context.Context, i, incarnation int) error {
	if len(s.streams) > 1 || s.floor.incarnation == incarnation {
		s.floor.incarnation = incarnation
		return nil
	}
	s.floor = part{incarnation: incarnation}
	for inc, err := range s.arch.Incarnations(ctx, s.streams[i].Stream) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		if inc.Last != nil && inc.Number < incarnation {
			s.floor.floor = max(s.floor.floor, inc.Last.Head.Ms)
		}
	}
	return nil
}

// tell says why nothing can be read, if that has changed.
func (s *followSource) tell(reason string) {
	if s.waits != reason {
		s.waits = reason
		s.waiting(reason)
	}
}

// forget makes the next look at stream i begin anew, behind its place.
func (s *followSource) forget(i int) {
	s.tails[i].Close()
	s.tails[i] = nil
}

// Close implements source.
func (s *followSource) Close() {
	for i := range s.tails {
		if s.tails[i] != nil {
			s.forget(i)
		}
	}
}

// thenSource reads one source and then another, which is made when the first one
// has ended.
type thenSource struct {
	first source
	then  func(last Position) source
	last  Position
	ended bool
}

// Read implements source.
func (s *thenSource) Read(ctx context.Context, c *chunk) error {
	err := s.first.Read(ctx, c)
	if errors.Is(err, io.EOF) && !s.ended {
		s.first.Close()
		s.first, s.ended = s.then(s.last), true
		err = s.first.Read(ctx, c)
	}
	if err == nil && c.read > 0 {
		s.last = c.end
	}
	return err //nolint:wrapcheck // passed on
}

// Close implements source.
func (s *thenSource) Close() { s.first.Close() }
