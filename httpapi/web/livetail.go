package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/tail"
)

// Bounds of a live tail: what a busy stream has more is counted and not shown.
const (
	liveEvery   = 500 * time.Millisecond
	livePerTurn = 20
)

// liveTail sends events of a stream as they are published, as rows of a table.
func (s *Server) liveTail(r *request) error {
	x, err := readExploration(r.caller, &form{Values: r.URL.Query()})
	if err != nil {
		return err
	}
	if len(x.patterns) != 1 || !r.caller.Stream(x.patterns[0]) || s.opts.Redis == nil {
		return fmt.Errorf("a live tail shows one stream: %w", errNotHere)
	}
	matcher, err := x.filter.Compile()
	if err != nil {
		return fmt.Errorf("%w: %w", errForm, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), liveFor)
	defer cancel()
	spec := tail.Spec{Stream: x.patterns[0], Filter: matcher, Mapping: s.opts.Mapping}
	number, id, _ := strings.Cut(r.Header.Get("Last-Event-ID"), "/")
	if spec.Incarnation, err = strconv.Atoi(number); err == nil {
		spec.After, err = event.ParseID(id)
	}
	if err != nil || spec.Incarnation < 1 { // it has seen nothing yet
		spec.Incarnation, spec.Range = 0, event.RangeOf(s.opts.Clock(), time.Time{})
		if last, ok := s.lastOf(ctx, x.patterns[0]); ok {
			spec.Range.From = last.Next()
		}
	}
	t := tail.New(s.opts.Archive, s.opts.Redis, spec)
	defer t.Close()
	return s.follow(ctx, r, x.patterns[0], t)
}

func (s *Server) follow(ctx context.Context, r *request, stream string, t *tail.Tail) error {
	out := r.events()
	if r.Method == http.MethodHead {
		return nil
	}
	if err := out.ping(); err != nil {
		return err
	}
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	said := s.opts.Clock()
	for {
		sent, err := s.turn(ctx, r, out, stream, t)
		if ctx.Err() != nil {
			return nil // the browser comes again
		}
		if err != nil {
			return err
		}
		if now := s.opts.Clock(); sent {
			said = now
		} else if now.Sub(said) > keepAlive/2 {
			said = now
			if err := out.ping(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// turn sends what has come since the last one.
func (s *Server) turn(ctx context.Context, r *request, out *eventStream, stream string, t *tail.Tail) (sent bool, err error) {
	var list []foundEvent
	skipped := 0
	extractor := s.opts.Mapping.Extractor()
	var e event.Event
	for batch, err := range t.Batches(ctx) {
		if err != nil {
			return false, err //nolint:wrapcheck // it names the stream
		}
		for i := range batch.Len() {
			if len(list) == livePerTurn {
				list = list[1:]
				skipped++
			}
			batch.Event(i, &e)
			list = append(list, foundEvent{extractor.View(stream, &e), batch.Incarnation})
		}
	}
	if len(list) == 0 {
		return false, nil
	}
	var b bytes.Buffer
	if err := s.execute(&b, r, "event-rows", "", map[string]any{"Events": list, "Skipped": skipped}); err != nil {
		return false, err
	}
	last := list[len(list)-1]
	return true, out.send("rows", fmt.Sprintf("%d/%s", last.Incarnation, last.ID), b.String())
}
