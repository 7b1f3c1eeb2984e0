package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/tail"
)

// unreachable reports whether Redis does not answer just now.
func unreachable(err error) bool {
	return errors.Is(err, redisstream.ErrUnreachable) || errors.Is(err, redisstream.ErrLoading)
}

// maxPage bounds the bytes of the events of one page, which is then shorter than its
// limit.
const maxPage = 8 << 20

// selection is what events are asked for.
type selection struct {
	streams                                             []string // patterns; none: all
	from, to                                            string
	types, tenants, aggregateTypes, aggregates, eventID []string
	where                                               string
}

// matcher narrows a selection to what the caller may see, and compiles it.
func (s *Server) matcher(ctx context.Context, sel *selection) (within event.Range, m *event.Matcher, err error) {
	if within, err = s.within(sel.from, sel.to); err != nil {
		return within, nil, err
	}
	tenants, err := who(ctx).narrow("query.tenant", sel.tenants)
	if err != nil {
		return within, nil, err
	}
	f := event.Filter{
		Types: sel.types, Tenants: tenants, AggregateTypes: sel.aggregateTypes, Aggregates: sel.aggregates, EventIDs: sel.eventID, Where: sel.where,
	}
	if f.IsZero() {
		return within, nil, nil
	}
	if m, err = f.Compile(); err != nil {
		return within, nil, &problemError{kind: invalidSpec, detail: err.Error(), err: err, remedy: s.remedy(err), fields: []api.FieldError{{Field: "query.where", Message: err.Error()}}}
	}
	return within, m, nil
}

// predicateFailed says of an error of reading that the condition cannot be evaluated on
// an event.
func predicateFailed(sel *selection, err error) error {
	if sel.where == "" || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	var known *problemError
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return err
		}
	}
	if errors.As(err, &known) {
		return err
	}
	return &problemError{kind: invalidSpec, detail: err.Error(), err: err, fields: []api.FieldError{{Field: "query.where", Message: err.Error()}}}
}

// streamPlace is a place in one stream.
type streamPlace struct {
	Incarnation int      `json:"i"`
	After       event.ID `json:"a"`
}

// ListStreamEvents implements api.StrictServerInterface.
func (s *Server) ListStreamEvents(ctx context.Context, r api.ListStreamEventsRequestObject) (api.ListStreamEventsResponseObject, error) {
	p := r.Params
	sel := &selection{nil, p.From, p.To, p.Type, p.Tenant, p.AggregateType, p.Aggregate, p.EventID, p.Where}
	within, filter, err := s.matcher(ctx, sel)
	if err != nil {
		return nil, err
	}
	var place streamPlace
	if err := decodeCursor(p.Cursor, &place); err != nil {
		return nil, err
	}
	spec := tail.Spec{Stream: r.Stream, Range: within, Incarnation: place.Incarnation, After: place.After, Filter: filter, Mapping: s.opts.Mapping}
	client := s.opts.Redis
	if !p.Live {
		client = nil
	}
	if err := s.mustExist(ctx, client, r.Stream); err != nil {
		return nil, err
	}
	t := tail.New(s.opts.Archive, client, spec)
	defer t.Close()
	list, x, size := api.EventList{Events: []api.Event{}}, s.opts.Mapping.Extractor(), 0
	var e event.Event
	for b, err := range t.Batches(ctx) {
		if errors.Is(err, tail.ErrPlace) {
			return nil, badCursor()
		}
		if err != nil {
			return nil, predicateFailed(sel, err)
		}
		for i := range b.Len() {
			if n := len(list.Events); n == p.Limit || size > maxPage {
				list.Next, err = encodeCursor(place)
				return api.ListStreamEvents200JSONResponse{EventsAnswerJSONResponse: api.EventsAnswerJSONResponse(list)}, err
			}
			b.Event(i, &e)
			place = streamPlace{b.Incarnation, e.ID}
			size += sizeOf(&e)
			view := x.View(r.Stream, &e)
			list.Events = append(list.Events, viewEvent(&view, b.Incarnation))
		}
	}
	return api.ListStreamEvents200JSONResponse{EventsAnswerJSONResponse: api.EventsAnswerJSONResponse(list)}, nil
}

// mustExist refuses streams that the caller may not see, and those that are neither in
// the archive nor, unless client is nil, in Redis.
func (s *Server) mustExist(ctx context.Context, client *redisstream.Client, stream string) error {
	err := s.archived(ctx, stream)
	if p := asProblem(err); client == nil || p == nil || p.kind != notFound || !who(ctx).stream(stream) {
		return err
	}
	infos, asked := client.Infos(ctx, []string{stream})
	switch {
	case asked != nil:
		return fmt.Errorf("look for stream %q in Redis: %w", stream, asked)
	case errors.Is(infos[0].Err, redisstream.ErrNoStream):
		return err
	default:
		return infos[0].Err
	}
}

func sizeOf(e *event.Event) (n int) {
	for _, f := range e.Fields {
		n += len(f.Name) + len(f.Value)
	}
	return n
}

// GetEvent implements api.StrictServerInterface.
func (s *Server) GetEvent(ctx context.Context, r api.GetEventRequestObject) (api.GetEventResponseObject, error) {
	id, err := event.ParseID(r.ID)
	if err != nil {
		return nil, invalidSpec.field("path.id", r.ID, err.Error(), "")
	}
	if id.IsZero() { // it is that of no entry, and would be a range without an end
		return nil, notFound.problem(fmt.Sprintf("stream %q has no event %s in the archive", r.Stream, id))
	}
	_, filter, err := s.matcher(ctx, &selection{})
	if err == nil {
		err = s.archived(ctx, r.Stream)
	}
	if err != nil {
		return nil, err
	}
	plan, err := s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: r.Stream, Incarnation: r.Params.Incarnation, Range: event.Range{From: id, To: id}, Filter: filter})
	if err != nil {
		return nil, err
	}
	var found *api.Event
	x := s.opts.Mapping.Extractor()
	var e event.Event
	for b, err := range plan.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		for i := range b.Len() {
			b.Event(i, &e)
			view := x.View(r.Stream, &e)
			v := viewEvent(&view, b.Incarnation)
			found = &v
		}
	}
	if found == nil {
		return nil, notFound.problem(fmt.Sprintf("stream %q has no event %s in the archive", r.Stream, id))
	}
	return api.GetEvent200JSONResponse(*found), nil
}

// ListEvents implements api.StrictServerInterface.
func (s *Server) ListEvents(ctx context.Context, r api.ListEventsRequestObject) (api.ListEventsResponseObject, error) {
	p := r.Params
	list, err := s.merged(ctx, &selection{p.Stream, p.From, p.To, p.Type, p.Tenant, p.AggregateType, p.Aggregate, p.EventID, p.Where}, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	return api.ListEvents200JSONResponse{EventsAnswerJSONResponse: api.EventsAnswerJSONResponse(*list)}, nil
}

// ListAggregateEvents implements api.StrictServerInterface.
func (s *Server) ListAggregateEvents(ctx context.Context, r api.ListAggregateEventsRequestObject) (api.ListAggregateEventsResponseObject, error) {
	p := r.Params
	sel := &selection{streams: p.Stream, from: p.From, to: p.To, tenants: p.Tenant, aggregates: []string{r.Aggregate}}
	list, err := s.merged(ctx, sel, p.Limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	return api.ListAggregateEvents200JSONResponse{EventsAnswerJSONResponse: api.EventsAnswerJSONResponse(*list)}, nil
}

// mergedPlace is a place among the events of several streams: they are ordered by the
// milliseconds of their IDs, then by stream, incarnation and ID.
type mergedPlace struct {
	Stream      string   `json:"s"`
	Incarnation int      `json:"i"`
	ID          event.ID `json:"d"`
}

func (p mergedPlace) compare(o mergedPlace) int {
	return cmp.Or(cmp.Compare(p.ID.Ms, o.ID.Ms), cmp.Compare(p.Stream, o.Stream), cmp.Compare(p.Incarnation, o.Incarnation), p.ID.Compare(o.ID))
}

// from gives the first ID of an incarnation of a stream that may come after the place.
func (p mergedPlace) from(stream string, incarnation int) event.ID {
	switch cmp.Or(cmp.Compare(stream, p.Stream), cmp.Compare(incarnation, p.Incarnation)) {
	case -1: // all of that millisecond came before
		return event.ID{Ms: p.ID.Ms + 1}
	case 0:
		return p.ID.Next()
	default:
		return event.ID{Ms: p.ID.Ms}
	}
}

// placed is an event and where it belongs.
type placed struct {
	mergedPlace
	event api.Event
	size  int
}

// merged reads the first events of every stream in turn, and keeps the first of all: one
// stream is open at a time, and memory is that of a page.
func (s *Server) merged(ctx context.Context, sel *selection, limit int, cursor string) (*api.EventList, error) {
	within, filter, err := s.matcher(ctx, sel)
	var after mergedPlace
	if err == nil {
		err = decodeCursor(cursor, &after)
	}
	if err != nil {
		return nil, err
	}
	names, err := s.streamNames(ctx, nil, sel.streams)
	if err != nil {
		return nil, err
	}
	var page []placed
	for _, stream := range names {
		for inc, err := range s.opts.Archive.Incarnations(ctx, stream) {
			if err != nil {
				return nil, err
			}
			rest := within
			if cursor != "" {
				rest = within.Intersect(event.Range{From: after.from(stream, inc.Number)})
			}
			if len(page) > limit { // nothing after the last one of the page is wanted
				rest = rest.Intersect(event.Range{To: event.ID{Ms: page[limit].ID.Ms, Seq: event.MaxID.Seq}})
			}
			if rest.IsEmpty() {
				continue
			}
			spec := archive.PlanSpec{Stream: stream, Incarnation: inc.Number, Range: rest, Filter: filter}
			if page, err = s.mergeOne(ctx, spec, page, limit); err != nil {
				return nil, predicateFailed(sel, err)
			}
		}
	}
	return pageOf(page, limit)
}

// mergeOne adds the first events of one incarnation to the page, which has at most one
// more than its limit.
func (s *Server) mergeOne(ctx context.Context, spec archive.PlanSpec, page []placed, limit int) ([]placed, error) {
	plan, err := s.opts.Archive.Plan(ctx, spec)
	if err != nil {
		return nil, err
	}
	x := s.opts.Mapping.Extractor()
	var own []placed
	size := 0
	for e, err := range plan.Events(ctx) {
		if err != nil {
			return nil, err
		}
		at := mergedPlace{spec.Stream, spec.Incarnation, e.ID}
		if len(page) > limit && at.compare(page[limit].mergedPlace) > 0 {
			break
		}
		oneMore := len(own) == limit || size > maxPage
		view := x.View(spec.Stream, e)
		own = append(own, placed{at, viewEvent(&view, spec.Incarnation), sizeOf(e)})
		if size += sizeOf(e); oneMore {
			break
		}
	}
	page = append(page, own...)
	slices.SortFunc(page, func(a, b placed) int { return a.compare(b.mergedPlace) })
	return page[:cut(page, limit)], nil
}

// cut is how many events of a page are kept: one more than its limit, or than it has
// room for, which tells that there is another page.
func cut(page []placed, limit int) int {
	size := 0
	for i := range page {
		if i == limit || size > maxPage {
			return i + 1
		}
		size += page[i].size
	}
	return len(page)
}

func pageOf(page []placed, limit int) (*api.EventList, error) {
	list := &api.EventList{Events: []api.Event{}}
	size := 0
	for i := range page {
		if i == limit || size > maxPage {
			var err error
			list.Next, err = encodeCursor(page[i-1].mergedPlace)
			return list, err
		}
		size += page[i].size
		list.Events = append(list.Events, page[i].event)
	}
	return list, nil
}
