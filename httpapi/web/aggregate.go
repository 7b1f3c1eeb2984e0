package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/reservoirhq/reservoir/event"
)

// maxHistory bounds the events of an aggregate that are shown.
const maxHistory = 500

// aggregatePage is the history of an aggregate, and one step of it.
type aggregatePage struct {
	ID, Tenant, Pattern string
	Events              []historyEvent
	Step                int // from 1
	Now                 *historyEvent
	Before, After       int // steps; 0: there is none
	More                bool
}

// historyEvent is an event of a history.
type historyEvent struct {
	foundEvent
	Step  int
	Since string // the time since the event before
}

func (s *Server) aggregate(r *request) error {
	p := &aggregatePage{ID: r.FormValue("id"), Tenant: r.FormValue("tenant"), Pattern: r.FormValue("stream")}
	if p.ID == "" {
		return fmt.Errorf("name an aggregate, as in ?id=order/4711: %w", errNotHere)
	}
	f := &form{Values: r.URL.Query()}
	x, err := readExploration(r.caller, f)
	if err != nil {
		return err
	}
	x.filter = event.Filter{Aggregates: []string{p.ID}, Tenants: x.filter.Tenants}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	found, more, err := s.find(ctx, r.caller, x, maxHistory)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("no event is about %q: %w", p.ID, errNotHere)
	}
	p.More = more
	slices.SortStableFunc(found, func(a, b foundEvent) int {
		return cmp.Or(cmp.Compare(a.ID.Ms, b.ID.Ms), cmp.Compare(a.Stream, b.Stream), a.ID.Compare(b.ID))
	})
	for i := range found {
		one := historyEvent{foundEvent: found[i], Step: i + 1}
		if i > 0 {
			one.Since = duration(idTime(found[i].ID).Sub(idTime(found[i-1].ID)))
		}
		p.Events = append(p.Events, one)
	}
	p.Step = 1
	if n, err := strconv.Atoi(r.FormValue("step")); err == nil {
		p.Step = min(max(n, 1), len(p.Events))
	}
	p.Now = &p.Events[p.Step-1]
	if p.Before = p.Step - 1; p.Step < len(p.Events) {
		p.After = p.Step + 1
	}
	return s.render(r, http.StatusOK, "aggregate", p.ID, p)
}
