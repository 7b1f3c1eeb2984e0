package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
)

// segmentsPerPage bounds the segments that a page lists.
const segmentsPerPage = 50

// streamPage is what the page of a stream shows.
type streamPage struct {
	archiver.Status
	Window   window
	Windows  []window
	From, To string // a range that was asked for
	Timeline *timeline
	Rate     string
	Types    []typeLine
	Days     []dayRow
	Segments []archive.PlannedSegment
	More     uint64 // segments that are not listed
	GapMore  bool
	Numbers  bool
	May      map[string]bool
}

// typeLine is one type of event over time.
type typeLine struct {
	Name   string
	Events uint64
	Line   string
	Class  string
}

// dayRow is one day of the map of hours.
type dayRow struct {
	Day   time.Time
	Hours [24]hourCell
	Total uint64
}

// hourCell is one hour of it.
type hourCell struct {
	Events uint64
	Level  int // 0: none, to 4
	X      int
	From   time.Time
}

func (s *Server) stream(r *request) error {
	name := r.FormValue("name")
	if !r.caller.Stream(name) {
		return fmt.Errorf("stream %q is not in the archive: %w", name, errNotHere)
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	p := streamPage{Numbers: r.caller.May("getStreamCoverage") == nil, May: may(r.caller, "estimateReplay", "listEvents")}
	p.Window, p.Windows = windowOf(r)
	rows, err := s.streamRows(ctx, []string{name}, p.Window.Span, p.Numbers, true)
	if err != nil && s.opts.Redis != nil {
		rows, err = s.streamRows(ctx, []string{name}, p.Window.Span, p.Numbers, false)
	}
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("stream %q is neither in the archive nor in Redis: %w", name, errNotHere)
	}
	p.Status, p.Timeline, p.Rate = rows[0].Status, rows[0].Timeline, rate(rows[0].Rate)
	if p.Numbers && p.Err == nil {
		if err := s.detail(ctx, r, &p); err != nil {
			return err
		}
	}
	return s.render(r, http.StatusOK, "stream", name, p)
}

// detail looks closely at a window of a stream.
func (s *Server) detail(ctx context.Context, r *request, p *streamPage) error {
	now := s.opts.Clock()
	p.From, p.To = r.FormValue("from"), r.FormValue("to")
	begin, end := now.Add(-p.Window.Span), now
	within := event.RangeOf(begin, end)
	if p.From != "" || p.To != "" {
		asked, err := event.ParseRange(p.From, p.To, now)
		if err != nil {
			return fmt.Errorf("%w: %w", errForm, err)
		}
		within = asked
		if !asked.From.IsZero() {
			begin = idTime(asked.From)
		}
		if !asked.To.IsZero() && idTime(asked.To).Before(end) && idTime(asked.To).After(begin) {
			end = idTime(asked.To)
		}
	}
	c, err := measure(ctx, s.opts.Archive, p.Stream, begin, end, true)
	if err != nil {
		return err
	}
	var last event.ID
	if p.Live != nil {
		last = p.Live.LastID
	}
	p.Timeline = draw(c, p.Head, last)
	p.Timeline.Tall = true
	p.Types, p.Days = typeLines(c), hourMap(c)
	p.GapMore = c.More
	return s.listSegments(ctx, p, within)
}

func (s *Server) listSegments(ctx context.Context, p *streamPage, within event.Range) error {
	plan, err := s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: p.Stream, Range: within})
	if err != nil {
		return err //nolint:wrapcheck // it names the stream
	}
	for segment, err := range plan.Segments(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		if len(p.Segments) == segmentsPerPage {
			p.More = plan.Totals.Segments - segmentsPerPage
			break
		}
		p.Segments = append(p.Segments, segment)
	}
	return nil
}

// typeLines gives the lines of the types of events, the most frequent first.
func typeLines(c *coverage) []typeLine {
	var list []typeLine
	most := 0.0
	for name, parts := range c.Types {
		line := typeLine{Name: name}
		sum := 0.0
		for _, n := range parts {
			sum += n
			most = max(most, n)
		}
		if line.Events = uint64(sum + 0.5); line.Events > 0 {
			list = append(list, line)
		}
	}
	for i := range list {
		list[i].Line = points(c.Types[list[i].Name][:], most)
	}
	sort.Slice(list, func(i, j int) bool {
		return list[i].Events > list[j].Events || list[i].Events == list[j].Events && list[i].Name < list[j].Name
	})
	for i := range list {
		list[i].Class = fmt.Sprintf("series-%d", i%6)
	}
	return list
}

// hourMap gives the days of a coverage with their hours, the latest day first.
func hourMap(c *coverage) []dayRow {
	days := map[int64]*dayRow{}
	var most uint64
	for hour, n := range c.Hours {
		events := uint64(n + 0.5)
		if events == 0 {
			continue
		}
		at := time.Unix(int64(hour)*3600, 0).UTC()
		day := at.Truncate(24 * time.Hour)
		row := days[day.Unix()]
		if row == nil {
			row = &dayRow{Day: day}
			days[day.Unix()] = row
		}
		row.Hours[at.Hour()].Events = events
		row.Total += events
		most = max(most, events)
	}
	list := make([]dayRow, 0, len(days))
	for _, row := range days {
		for i := range row.Hours {
			h := &row.Hours[i]
			h.X, h.From = i*10, row.Day.Add(time.Duration(i)*time.Hour)
			if h.Events > 0 {
				h.Level = 1 + int(3*h.Events/max(most, 1))
			}
		}
		list = append(list, *row)
	}
	slices.SortFunc(list, func(a, b dayRow) int { return b.Day.Compare(a.Day) })
	return list
}
