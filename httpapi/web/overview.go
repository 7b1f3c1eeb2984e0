package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

// Bounds of an overview.
const (
	streamsPerPage = 25
	maxActive      = 50
	lookers        = 6 // streams that are looked at at once
	// freshGap is how long a recorded loss is something that a person should see.
	freshGap = 7 * 24 * time.Hour
)

// overviewPage is what the overview shows.
type overviewPage struct {
	Search  string
	Window  window
	Windows []window
	Streams []streamRow
	Total   int // streams that fit the search
	Next    string
	Running []*jobs.Job
	Wants   []want
	// LiveOff says why Redis was not asked.
	LiveOff string
	Numbers bool // the caller may see counts
	May     map[string]bool
}

// streamRow is a stream of an overview.
type streamRow struct {
	archiver.Status
	Timeline *timeline // nil: it could not be drawn
	Rate     float64   // events a second in the last part of the window
	Late     bool      // its lag is over the bound
}

// want is something that a person should look at.
type want struct {
	Class, What, Text, Link, LinkText string
}

// window is how far back a timeline goes.
type window struct {
	Name    string
	Span    time.Duration
	Current bool
}

// windowOf gives the window that a request asks for, and all there are.
func windowOf(r *request) (window, []window) {
	all := []window{
		{Name: "1h", Span: time.Hour}, {Name: "24h", Span: 24 * time.Hour}, {Name: "7d", Span: 7 * 24 * time.Hour},
		{Name: "30d", Span: 30 * 24 * time.Hour}, {Name: "1y", Span: 365 * 24 * time.Hour},
	}
	chosen := 1
	for i, w := range all {
		if w.Name == r.FormValue("window") {
			chosen = i
		}
	}
	all[chosen].Current = true
	return all[chosen], all
}

func (s *Server) overview(r *request) error {
	p := overviewPage{Search: r.FormValue("q"), Numbers: r.caller.May("getStreamCoverage") == nil, May: may(r.caller, "estimateReplay", "createReplay", "createRebuild")}
	p.Window, p.Windows = windowOf(r)
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	names, err := s.streamNames(ctx, r, &p)
	if err != nil {
		return err
	}
	if p.Streams, err = s.streamRows(ctx, names, p.Window.Span, p.Numbers, p.LiveOff == ""); err != nil {
		return err
	}
	if r.caller.May("listJobs") == nil {
		if err := s.activeJobs(ctx, r, &p); err != nil {
			return err
		}
	}
	for i := range p.Streams {
		p.Wants = append(p.Wants, s.wantsOf(&p.Streams[i])...)
	}
	slices.SortStableFunc(p.Wants, func(a, b want) int { return cmp.Compare(a.Class, b.Class) }) // bad before wait
	return s.render(r, http.StatusOK, "overview", "Overview", p)
}

// pageTimeout bounds how long a page is made.
const pageTimeout = 30 * time.Second

// streamNames gives the names on this page of the overview.
func (s *Server) streamNames(ctx context.Context, r *request, p *overviewPage) ([]string, error) {
	all, err := s.names(ctx, r.caller, nil, true)
	if err != nil {
		return nil, err
	}
	if all.off != nil {
		p.LiveOff = s.problem(all.off).Detail
	}
	var names []string
	after := r.FormValue("after")
	for _, name := range all.names {
		if !strings.Contains(strings.ToLower(name), strings.ToLower(p.Search)) {
			continue
		}
		p.Total++
		if after != "" && name <= after {
			continue
		}
		if len(names) == streamsPerPage {
			p.Next = names[len(names)-1]
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

// streamRows looks at streams, several at once.
func (s *Server) streamRows(ctx context.Context, names []string, span time.Duration, numbers, live bool) ([]streamRow, error) {
	redis := s.opts.Redis
	if !live {
		redis = nil
	}
	if len(names) == 0 {
		return nil, nil
	}
	var rows []streamRow
	now := s.opts.Clock()
	for status, err := range archiver.Statuses(ctx, redis, s.opts.Archive, archiver.StatusSpec{Streams: names, Gaps: true, Now: now}) {
		if err != nil {
			return nil, err //nolint:wrapcheck // it says what failed
		}
		if status.Err != nil {
			status.Reason = s.problem(status.Err).Detail
		}
		rows = append(rows, streamRow{Status: status})
	}
	if !numbers {
		for i := range rows {
			rows[i].Totals, rows[i].GapList, rows[i].Live = archive.Totals{}, nil, nil
		}
		return rows, nil
	}
	var wait sync.WaitGroup
	slot := make(chan struct{}, lookers)
	for i := range rows {
		slot <- struct{}{}
		wait.Go(func() {
			defer func() { <-slot }()
			s.drawRow(ctx, &rows[i], span, now)
		})
	}
	wait.Wait()
	return rows, nil
}

func (s *Server) drawRow(ctx context.Context, row *streamRow, span time.Duration, now time.Time) {
	if row.Err != nil {
		return
	}
	c, err := s.coverage.get(ctx, s.opts.Archive, row.Stream, span, now)
	if err != nil {
		row.Err, row.Reason = err, s.problem(err).Detail
		return
	}
	var last event.ID
	if row.Live != nil {
		last = row.Live.LastID
		row.Late = row.Live.Lag > 0 && row.Live.LagAge > s.opts.MaxLag
	}
	row.Timeline = draw(c, row.Head, last)
	rates := c.rates()
	row.Rate = rates[len(rates)-1]
}

// wantsOf says what of a stream a person should look at.
func (s *Server) wantsOf(row *streamRow) []want {
	link := "/stream?" + string(query("name", row.Stream))
	var list []want
	add := func(class, what, text string) {
		list = append(list, want{class, what, text, link, row.Stream})
	}
	if row.Err != nil {
		add("bad", "Unreadable", row.Reason)
	}
	var n int
	var sum uint64
	exact := true
	for _, g := range row.GapList {
		if s.opts.Clock().Sub(g.Time) < freshGap {
			n, sum, exact = n+1, sum+g.Lost, exact && g.Exact
		}
	}
	if n > 0 {
		add("bad", "Gap", fmt.Sprintf("%s lost before they could be archived, in %s this week", plural(lost(sum, exact), "entry", "entries"), plural(n, "gap", "gaps")))
	}
	if l := row.Live; l != nil {
		if l.Unarchived > 0 {
			add("bad", "Loss", count(l.Unarchived)+" entries are gone from Redis and not archived")
		}
		if l.Replaced {
			add("wait", "Replaced", "Redis holds another history than the archive; the archiver begins a new incarnation")
		}
		if row.Late {
			add("wait", "Lag", fmt.Sprintf("%s behind, the oldest for %s", plural(l.Lag, "entry", "entries"), duration(l.LagAge)))
		}
	}
	return list
}

// activeJobs finds the jobs that run or wait.
func (s *Server) activeJobs(ctx context.Context, r *request, p *overviewPage) error {
	states := []jobs.State{jobs.Pending, jobs.Running, jobs.Paused, jobs.Cancelling, jobs.Failed}
	for job, err := range s.opts.Jobs.List(ctx, jobs.Query{States: states}) {
		if err != nil {
			return err //nolint:wrapcheck // it says what failed
		}
		if seen, err := r.caller.Job(ctx, job); err != nil {
			return err //nolint:wrapcheck // it says what failed
		} else if !seen {
			continue
		}
		job = r.caller.View(job)
		if w, wanted := wantOf(job); wanted {
			if len(p.Wants) < maxActive {
				p.Wants = append(p.Wants, w)
			}
		}
		if job.State == jobs.Failed || job.Damaged != nil {
			continue
		}
		if p.Running = append(p.Running, job); len(p.Running) == maxActive {
			break
		}
	}
	return nil
}

// wantOf says whether a person should look at a job.
func wantOf(job *jobs.Job) (want, bool) {
	w := want{Link: "/jobs/" + job.ID, LinkText: jobName(job)}
	switch {
	case job.Damaged != nil:
		w.Class, w.What, w.Text = "bad", "Damaged", "the document of this job cannot be used"
	case job.State == jobs.Failed && job.ClosedAt.IsZero():
		w.Class, w.What, w.Text = "bad", "Failed", "it can be retried"
		if job.LastError != nil {
			w.Text = job.LastError.Message
		}
	case waitsForApproval(job):
		w.Class, w.What, w.Text = "wait", "Approval", "the new table is ready: look at the difference, then approve"
	case job.State == jobs.Paused:
		w.Class, w.What, w.Text = "wait", "Paused", job.StateReason
	default:
		return w, false
	}
	return w, true
}

// waitsForApproval says whether a rebuild waits for a person's approval.
func waitsForApproval(job *jobs.Job) bool {
	return job.Kind == rebuild.Kind && job.State == jobs.Paused && job.Progress.Phase == rebuild.PhaseApproval
}

// jobName is what people call a job.
func jobName(job *jobs.Job) string {
	if job.Name != "" {
		return job.Name
	}
	if job.Kind == "" {
		return job.ID
	}
	return job.Kind + " " + job.ID[max(0, len(job.ID)-6):]
}

// may says which of some operations a caller may call.
func may(c Caller, operations ...string) map[string]bool {
	m := map[string]bool{}
	for _, op := range operations {
		m[op] = c.May(op) == nil
	}
	return m
}
