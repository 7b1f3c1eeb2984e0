package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/tail"
)

// TailStream implements api.StrictServerInterface.
func (s *Server) TailStream(ctx context.Context, r api.TailStreamRequestObject) (api.TailStreamResponseObject, error) {
	if s.opts.Redis == nil {
		return nil, notConfigured.problem("no Redis is configured").withRemedy("Set redis.url")
	}
	p := r.Params
	sel := &selection{nil, p.From, "", p.Type, p.Tenant, p.AggregateType, p.Aggregate, p.EventID, p.Where}
	within, filter, err := s.matcher(ctx, sel)
	if err != nil {
		return nil, err
	}
	spec := tail.Spec{Stream: r.Stream, Range: within, Filter: filter, Mapping: s.opts.Mapping}
	if p.LastEventID != "" {
		if spec.Incarnation, spec.After, err = parsePlace(p.LastEventID); err != nil {
			return nil, err
		}
	}
	if err := s.mustExist(ctx, s.opts.Redis, r.Stream); err != nil {
		return nil, err
	}
	if spec.Incarnation > 0 {
		log, err := s.opts.Archive.Log(ctx, r.Stream)
		if err != nil {
			return nil, err
		}
		if spec.Incarnation > log.Incarnation() {
			return nil, badPlace(p.LastEventID)
		}
	}
	if p.LastEventID == "" && p.From == "" {
		if spec.Range.From, err = s.end(ctx, r.Stream); err != nil {
			return nil, err
		}
	}
	leave, err := s.tails.take(ctx)
	if err != nil {
		return nil, err
	}
	return s.stream(ctx, leave, func(ctx context.Context, out *sseWriter) error {
		f := follower{server: s, sel: sel, out: out, x: s.opts.Mapping.Extractor(), stream: r.Stream}
		if !who(ctx).byTenant() {
			spec.Lost = f.lost
		}
		return f.run(ctx, spec)
	}), nil
}

// end gives the first ID that may come after what a stream holds now.
func (s *Server) end(ctx context.Context, stream string) (event.ID, error) {
	log, err := s.opts.Archive.Log(ctx, stream)
	if err != nil {
		return event.ID{}, err
	}
	last := log.Head()
	infos, err := s.opts.Redis.Infos(ctx, []string{stream})
	if err != nil {
		return event.ID{}, fmt.Errorf("look where stream %q ends: %w", stream, err)
	}
	if info := infos[0]; info.Err == nil && last.Less(info.LastGeneratedID) {
		last = info.LastGeneratedID
	}
	return last.Next(), nil
}

// place is the ID of a message: incarnation and ID of the event.
func placeText(incarnation int, id event.ID) string {
	return strconv.Itoa(incarnation) + "/" + id.String()
}

func parsePlace(text string) (incarnation int, id event.ID, err error) {
	number, rest, _ := strings.Cut(text, "/")
	incarnation, err = strconv.Atoi(number)
	if err == nil {
		id, err = event.ParseID(rest)
	}
	if err != nil || incarnation < 1 {
		return 0, id, badPlace(text)
	}
	return incarnation, id, nil
}

func badPlace(text string) error {
	return invalidRequest.field("header.Last-Event-ID", text, "is none that this server gave", "")
}

// follower sends the events of one stream as they come.
type follower struct {
	server *Server
	sel    *selection
	out    *sseWriter
	x      *event.Extractor
	stream string
	said   string // the last place that was told
	failed error  // of sending a loss
}

// lostMessage tells of entries that were gone before they were read.
type lostMessage struct {
	After event.ID `json:"after"`
	UpTo  event.ID `json:"up_to"`
	Lost  uint64   `json:"lost"`
	Cause string   `json:"cause"`
}

func (f *follower) lost(l redisstream.Loss) {
	f.failed = errors.Join(f.failed, f.out.send("", "lost", lostMessage{l.After, l.UpTo, l.Lost, string(l.Cause)}))
}

// run sends events until ctx ends. While Redis cannot be reached it waits.
func (f *follower) run(ctx context.Context, spec tail.Spec) error {
	t := tail.New(f.server.opts.Archive, f.server.opts.Redis, spec)
	defer t.Close()
	tick, beat := time.NewTicker(f.server.opts.Poll), time.NewTicker(f.server.opts.Beat)
	defer tick.Stop()
	defer beat.Stop()
	for {
		err := f.drain(ctx, t)
		if err != nil && !unreachable(err) {
			return predicateFailed(f.sel, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
			if err := f.place(t.Place()); err != nil {
				return err
			}
		case <-tick.C:
		}
	}
}

// place tells where to go on, where that is another place than what was said last.
func (f *follower) place(incarnation int, id event.ID) error {
	text := placeText(incarnation, id)
	if id.IsZero() || text == f.said {
		return nil
	}
	f.said = text
	return f.out.place(text)
}

func (f *follower) drain(ctx context.Context, t *tail.Tail) error {
	var e event.Event
	for b, err := range t.Batches(ctx) {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			b.Event(i, &e)
			view := f.x.View(f.stream, &e)
			f.said = placeText(b.Incarnation, e.ID)
			if err := f.out.send(f.said, "event", viewEvent(&view, b.Incarnation)); err != nil {
				return err
			}
		}
		if f.failed != nil {
			return f.failed
		}
	}
	return nil
}
