package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// projectionRow is a projection, its definition and what is known of its table.
type projectionRow struct {
	*projection.Definition
	Doc   *projection.Document // nil: it was never built
	Err   string               // why it is not known
	Table *chstore.Info        // nil: not known
	Fresh freshness
}

// freshness is how far a table is behind its streams.
type freshness struct {
	Known  bool
	Class  string
	Text   string
	Behind time.Duration
}

func (s *Server) projectionList(r *request) error {
	list, err := s.definitions(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	rows := make([]projectionRow, len(list))
	var wait sync.WaitGroup
	slot := make(chan struct{}, lookers)
	for i, d := range list {
		slot <- struct{}{}
		wait.Go(func() {
			defer func() { <-slot }()
			rows[i] = s.projectionRow(ctx, r.caller, d)
		})
	}
	wait.Wait()
	return s.render(r, http.StatusOK, "projections", "Projections", map[string]any{"Rows": rows, "May": may(r.caller, "createRebuild")})
}

// projectionRow looks at one projection.
func (s *Server) projectionRow(ctx context.Context, caller Caller, d *projection.Definition) projectionRow {
	row := projectionRow{Definition: d}
	if s.opts.Rebuilds == nil {
		return row
	}
	doc, err := s.opts.Rebuilds.Documents().Get(ctx, d.Name)
	if errors.Is(err, projection.ErrNotBuilt) {
		return row
	}
	if err != nil {
		row.Err = s.problem(err).Detail
		return row
	}
	row.Doc = doc
	row.Fresh = s.freshness(ctx, doc)
	if s.opts.ClickHouse == nil || doc.Live.Generation == 0 || caller.May("getStreamCoverage") != nil {
		return row
	}
	info, err := s.opts.ClickHouse.Inspect(ctx, s.opts.ClickHouse.Table(d.Table.Name))
	if err != nil {
		row.Err = s.problem(err).Detail
		return row
	}
	row.Table = &info
	return row
}

// freshness compares a table's positions with what is published: with Redis, where it
// can be asked, and else with the archive.
func (s *Server) freshness(ctx context.Context, doc *projection.Document) freshness {
	switch {
	case doc.Live.Generation == 0:
		return freshness{Class: "idle", Text: "not live yet"}
	case doc.Damaged != "":
		return freshness{Class: "bad", Text: "damaged"}
	}
	f := freshness{Known: true, Class: "ok", Text: "up to date"}
	for stream, at := range doc.Live.Positions {
		last, ok := s.lastOf(ctx, stream)
		if !ok {
			continue
		}
		if d := idTime(last).Sub(idTime(at.ID)); last.Ms > at.ID.Ms && d > f.Behind {
			f.Behind = d
		}
	}
	if f.Behind > 0 {
		f.Text = duration(f.Behind) + " behind"
	}
	if f.Behind > s.opts.MaxLag {
		f.Class = "wait"
	}
	switch {
	case doc.Waiting != nil:
		f.Class = "wait"
		f.Text += ", held up"
	case doc.Holder == nil:
		f.Class = "wait"
		f.Text += ", nobody feeds it"
	}
	return f
}

// projectionPage is what the page of a projection shows.
type projectionPage struct {
	projectionRow
	Positions []position
	History   []projection.HistoryEntry // the latest first
	Rebuilds  []*jobs.Job
	Holder    *projection.Holder
	Stale     bool // the holder has shown no sign of life
	Waiting   *projection.Waiting
	May       map[string]bool
	Key       string
}

// position is how far a table is in a stream.
type position struct {
	Stream string
	projection.Position
	Behind time.Duration
}

func (s *Server) projection(r *request) error {
	d, err := s.definition(r, r.PathValue("name"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	p := projectionPage{projectionRow: s.projectionRow(ctx, r.caller, d), May: may(r.caller, "createRebuild", "rollbackProjection", "getVerification")}
	if doc := p.Doc; doc != nil {
		p.History = slices.Clone(doc.History)
		slices.Reverse(p.History)
		p.Holder = doc.Holder
		p.Stale = doc.Holder != nil && s.opts.Clock().Sub(doc.Holder.Renewed) > 2*doc.Holder.TTL
		p.Waiting = s.waiting(r.caller, doc)
		for stream, at := range doc.Live.Positions {
			one := position{Stream: stream, Position: at}
			if last, ok := s.lastOf(ctx, stream); ok && last.Ms > at.ID.Ms {
				one.Behind = idTime(last).Sub(idTime(at.ID))
			}
			p.Positions = append(p.Positions, one)
		}
		slices.SortFunc(p.Positions, func(a, b position) int { return compareText(a.Stream, b.Stream) })
	}
	if r.caller.May("listJobs") == nil {
		for job, err := range s.opts.Jobs.List(ctx, jobs.Query{Kinds: []string{rebuild.Kind}, Target: rebuild.Target(d.Name), Limit: 20}) {
			if err != nil {
				return err //nolint:wrapcheck // it says what failed
			}
			seen, err := r.caller.Job(ctx, job)
			if err != nil {
				return err //nolint:wrapcheck // it says what failed
			}
			if seen {
				p.Rebuilds = append(p.Rebuilds, r.caller.View(job))
			}
		}
	}
	return s.render(r, http.StatusOK, "projection", d.Name, p)
}

// waiting gives why a table is not fed; the reason may name what a caller who is restricted
// to tenants may not see.
func (s *Server) waiting(caller Caller, doc *projection.Document) *projection.Waiting {
	if doc.Waiting == nil {
		return nil
	}
	w := &projection.Waiting{Reason: s.opts.Redact(doc.Waiting.Reason), Since: doc.Waiting.Since}
	if caller.May("getStreamCoverage") != nil {
		w.Reason = ""
	}
	return w
}

func (s *Server) rollback(r *request) error {
	d, err := s.definition(r, r.PathValue("name"))
	if err != nil {
		return err
	}
	if s.opts.Rebuilds == nil {
		return noProjections()
	}
	if r.PostFormValue("word") != d.Name {
		return fmt.Errorf("%w: type the projection's name, %s, to roll it back", errForm, d.Name)
	}
	opts := rebuild.RollbackOptions{By: r.caller.Name()}
	if to := r.PostFormValue("to"); to != "" {
		if opts.To, err = strconv.ParseUint(to, 10, 64); err != nil {
			return fmt.Errorf("%w: %.20q is no generation", errForm, to)
		}
	}
	err = s.opts.Gate.Change(r.Request, "rollbackProjection", func(ctx context.Context) (string, error) {
		_, err := s.opts.Rebuilds.RollbackTo(ctx, d.Name, opts)
		return d.Name, err
	})
	if err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	return r.redirect("/projections/" + d.Name)
}
