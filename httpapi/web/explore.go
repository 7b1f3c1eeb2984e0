package web

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/tail"
)

// Bounds of what is explored at once.
const (
	eventsPerPage = 50
	maxExplored   = 200 // streams
)

// foundEvent is an event that was found.
type foundEvent struct {
	event.View
	Incarnation int
}

// Place is its address, for what is in templates.
func (e foundEvent) Place() string {
	return "/event?" + string(query("stream", e.Stream, "incarnation", e.Incarnation, "id", e.ID))
}

// Aggregate is how filters name the event's aggregate.
func (e foundEvent) Aggregate() string {
	switch {
	case e.AggregateID == "":
		return ""
	case e.AggregateType == "":
		return e.AggregateID
	default:
		return e.AggregateType + "/" + e.AggregateID
	}
}

// explorePage is what Explore shows.
type explorePage struct {
	url.Values
	Streams []string // to choose from
	Asked   bool
	Events  []foundEvent
	Next    template.URL // the query of the next page
	Live    string       // the query of the live tail; "": there is none
	Replay  template.URL // the query of a replay of the same
	Problem *Problem
	Took    time.Duration
}

// exploration is what to look for.
type exploration struct {
	patterns []string
	from, to string
	filter   event.Filter
	// stream, incarnation and after are where the last page ended.
	stream      string
	incarnation int
	after       event.ID
}

func readExploration(caller Caller, f *form) (*exploration, error) {
	x := &exploration{patterns: f.list("stream"), from: f.text("from"), to: f.text("to"), stream: f.Get("at")}
	x.filter = event.Filter{
		Types: f.list("type"), Tenants: f.list("tenant"), AggregateTypes: f.list("aggregate_type"), Aggregates: f.list("aggregate"),
		EventIDs: f.list("event_id"), Where: f.text("where"),
	}
	var err error
	if x.filter.Tenants, err = caller.Narrow(x.filter.Tenants); err != nil {
		return nil, err //nolint:wrapcheck // it says what is not allowed
	}
	if text := f.text("after"); text != "" {
		if x.after, err = event.ParseID(text); err != nil {
			return nil, fmt.Errorf("%w: %w", errForm, err)
		}
		if x.incarnation, err = strconv.Atoi(f.text("incarnation")); err != nil {
			return nil, fmt.Errorf("%w: incarnation: %w", errForm, err)
		}
	}
	return x, nil
}

// find gives up to limit events, stream after stream.
func (s *Server) find(ctx context.Context, caller Caller, x *exploration, limit int) (found []foundEvent, more bool, err error) {
	within, err := event.ParseRange(x.from, x.to, s.opts.Clock())
	if err != nil {
		return nil, false, err //nolint:wrapcheck // it says what is wrong
	}
	matcher, err := x.filter.Compile()
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errForm, err)
	}
	listed, err := s.names(ctx, caller, x.patterns, true)
	if err != nil {
		return nil, false, err
	}
	names := listed.names
	if len(names) > maxExplored {
		return nil, false, fmt.Errorf("%w: %d streams are too many to look through at once: name some of them", errForm, len(names))
	}
	for _, name := range names {
		if name < x.stream {
			continue
		}
		spec := tail.Spec{Stream: name, Range: within, Filter: matcher, Mapping: s.opts.Mapping}
		if name == x.stream {
			spec.Incarnation, spec.After = x.incarnation, x.after
		}
		more, err := s.findIn(ctx, spec, limit, &found)
		if err != nil || more {
			return found, more, err
		}
	}
	return found, false, nil
}

// findIn looks through one stream. more says that it holds more than the limit.
func (s *Server) findIn(ctx context.Context, spec tail.Spec, limit int, found *[]foundEvent) (more bool, err error) {
	t := tail.New(s.opts.Archive, s.opts.Redis, spec)
	defer t.Close()
	extractor := s.opts.Mapping.Extractor()
	var e event.Event
	for batch, err := range t.Batches(ctx) {
		if err != nil {
			return false, err //nolint:wrapcheck // it names the stream
		}
		for i := range batch.Len() {
			if len(*found) == limit {
				return true, nil
			}
			batch.Event(i, &e)
			*found = append(*found, foundEvent{extractor.View(spec.Stream, &e), batch.Incarnation})
		}
	}
	return false, nil
}

func (s *Server) explore(r *request) error {
	p := &explorePage{Values: r.URL.Query(), Streams: s.suggest(r)}
	f := &form{Values: p.Values}
	p.Asked = len(p.Values) > 0
	if !p.Asked {
		return s.render(r, http.StatusOK, "explore", "Explore", p)
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	began := time.Now()
	x, err := readExploration(r.caller, f)
	more := false
	if err == nil {
		p.Events, more, err = s.find(ctx, r.caller, x, eventsPerPage)
	}
	p.Took = time.Since(began)
	if err != nil {
		if r.Context().Err() != nil {
			return err
		}
		problem := s.problem(err)
		p.Problem = &problem
	}
	p.links(f, x, more, s.opts.Redis != nil && r.caller.May("tailStream") == nil)
	status := http.StatusOK
	if p.Problem != nil {
		status = p.Problem.Status
	}
	return s.render(r, status, "explore", "Explore", p)
}

// links makes the addresses that go on from here.
func (p *explorePage) links(f *form, x *exploration, more, live bool) {
	same := url.Values{}
	for _, name := range []string{"stream", "type", "tenant", "aggregate_type", "aggregate", "event_id", "where"} {
		if f.text(name) != "" {
			same.Set(name, f.text(name))
		}
	}
	if x != nil && live && x.to == "" && len(x.patterns) == 1 {
		p.Live = same.Encode()
	}
	for _, name := range []string{"from", "to"} {
		if f.text(name) != "" {
			same.Set(name, f.text(name))
		}
	}
	p.Replay = template.URL(same.Encode()) //nolint:gosec // it is escaped
	if more && len(p.Events) > 0 {
		last := p.Events[len(p.Events)-1]
		same.Set("at", last.Stream)
		same.Set("after", last.ID.String())
		same.Set("incarnation", strconv.Itoa(last.Incarnation))
		p.Next = template.URL(same.Encode()) //nolint:gosec // it is escaped
	}
}

// eventPage is one event.
type eventPage struct {
	foundEvent
	May map[string]bool
}

func (s *Server) event(r *request) error {
	found, err := s.findEvent(r)
	if err != nil {
		return err
	}
	return s.render(r, http.StatusOK, "event", found.ID.String(), eventPage{*found, may(r.caller, "listAggregateEvents", "estimateReplay")})
}

func (s *Server) findEvent(r *request) (*foundEvent, error) {
	stream := r.FormValue("stream")
	id, err := event.ParseID(r.FormValue("id"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errForm, err)
	}
	missing := fmt.Errorf("there is no event %s in stream %q: %w", id, stream, errNotHere)
	if !r.caller.Stream(stream) {
		return nil, missing
	}
	x := &exploration{}
	if x.filter.Tenants, err = r.caller.Narrow(nil); err != nil {
		return nil, err //nolint:wrapcheck // it says what is not allowed
	}
	matcher, err := x.filter.Compile()
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	var found []foundEvent
	spec := tail.Spec{Stream: stream, Range: event.Range{From: id, To: id}, Filter: matcher, Mapping: s.opts.Mapping}
	if _, err := s.findIn(ctx, spec, maxExplored, &found); err != nil {
		return nil, err
	}
	for i := range found {
		if text := r.FormValue("incarnation"); text == "" || text == strconv.Itoa(found[i].Incarnation) {
			return &found[i], nil
		}
	}
	return nil, missing
}
