package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// rebuildPage is the form of a rebuild.
type rebuildPage struct {
	url.Values
	Definitions []*projection.Definition
	Key         string
	Problem     *Problem
	Estimate    *rebuildEstimate
	Confirm     confirmation
	Review      bool
	Ready       bool
}

// rebuildEstimate is what a rebuild would read and write.
type rebuildEstimate struct {
	*rebuild.Estimate
	Spec   rebuild.Spec
	Scoped bool
	Hidden bool // how much it reads, which counts what the caller may not see
}

// definitions gives the projections that a caller may see.
func (s *Server) definitions(r *request) ([]*projection.Definition, error) {
	if s.opts.Definitions == nil {
		return nil, noProjections()
	}
	set, err := s.opts.Definitions()
	if err != nil {
		return nil, err
	}
	var list []*projection.Definition
	for d := range set.All() {
		if r.caller.Patterns(d.Source.Streams) {
			list = append(list, d)
		}
	}
	return list, nil
}

// definition gives one of them.
func (s *Server) definition(r *request, name string) (*projection.Definition, error) {
	list, err := s.definitions(r)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		if d.Name == name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("there is no projection %q: %w", name, errNotHere)
}

func (s *Server) readRebuild(r *request, f *form) (rebuild.Spec, error) {
	spec := rebuild.Spec{
		Projection: f.text("projection"), Approval: projection.Approval(f.text("approval")), Concurrency: int(min(f.number("concurrency"), 1000)),
		Rate: f.decimal("rate"), Way: rebuild.Way(f.text("way")), Format: archive.Format(f.text("format")),
	}
	spec.Scope.Tenants, spec.Scope.Aggregates = f.list("tenant"), f.list("aggregate")
	for name, to := range map[string]*time.Time{"from": &spec.Scope.From, "to": &spec.Scope.To} {
		if text := f.text(name); text != "" {
			bound, err := event.ParseBound(text, s.opts.Clock())
			if err != nil {
				return spec, fmt.Errorf("%w: %s: %w", errForm, name, err)
			}
			*to = idTime(bound.From)
		}
	}
	if err := f.err(); err != nil {
		return spec, err
	}
	var err error
	spec.Scope.Tenants, err = r.caller.Narrow(spec.Scope.Tenants)
	return spec, err //nolint:wrapcheck // it says what is not allowed
}

// rebuildForm reads a form and estimates what it would do.
func (s *Server) rebuildForm(r *request, values url.Values) (*rebuildPage, error) {
	p := &rebuildPage{Values: values, Key: values.Get("key")}
	if p.Key == "" {
		p.Key = key()
	}
	var err error
	if p.Definitions, err = s.definitions(r); err != nil {
		return nil, err
	}
	if values.Get("projection") == "" {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	spec, err := s.readRebuild(r, &form{Values: values})
	if err == nil {
		_, err = s.definition(r, spec.Projection) // one that the caller may see
	}
	if err == nil {
		p.Estimate, err = s.estimate(ctx, r, spec)
	}
	if err != nil {
		problem := s.problem(err)
		p.Problem = &problem
		return p, nil
	}
	p.Confirm = confirmRebuild(p.Estimate)
	p.Ready = r.caller.May("createRebuild") == nil && s.opts.Rebuilds != nil
	return p, nil
}

// estimate finds out what a rebuild would read, from commit logs alone.
func (s *Server) estimate(ctx context.Context, r *request, spec rebuild.Spec) (*rebuildEstimate, error) {
	if s.opts.Rebuilds == nil {
		return nil, noProjections()
	}
	e, err := s.opts.Rebuilds.Estimate(ctx, spec, r.caller.Stream)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	found := &rebuildEstimate{Estimate: e, Spec: spec, Scoped: !spec.Scope.IsZero()}
	if r.caller.May("estimateRebuild") != nil {
		found.Hidden, e.Totals, e.Streams, e.Rows = true, archive.PlanTotals{}, nil, 0
	}
	return found, nil
}

// confirmRebuild says what a person has to confirm before a rebuild.
func confirmRebuild(e *rebuildEstimate) confirmation {
	c := confirmation{Word: e.Definition.Name}
	if e.Totals.Gaps > 0 {
		c.because(careful, fmt.Sprintf("%s were lost before they could be archived: the new table will be without them.", plural(lost(e.Totals.Lost, false), "event", "events")))
	}
	if e.Live > 0 && e.Approval == projection.Automatic {
		c.because(grave, "Nobody is asked before the new table takes the place of the live one.")
	}
	return c
}

func (s *Server) newRebuild(r *request) error {
	p, err := s.rebuildForm(r, r.URL.Query())
	if err != nil {
		return err
	}
	return s.render(r, http.StatusOK, "rebuild", "Start a rebuild", p)
}

// estimateRebuild is the part of the form that says what it would do.
func (s *Server) estimateRebuild(r *request) error {
	p, err := s.rebuildForm(r, r.URL.Query())
	if err != nil {
		return err
	}
	return s.render(r, http.StatusOK, "rebuild-estimate", "", p)
}

// createRebuild creates a rebuild once it is confirmed; until then it shows what has to be.
func (s *Server) createRebuild(r *request) error {
	f := &form{Values: r.PostForm}
	if id := s.rebuilt(r, f); id != "" {
		return r.redirect("/jobs/" + id)
	}
	p, err := s.rebuildForm(r, r.PostForm)
	if err != nil {
		return err
	}
	if p.Problem != nil || !p.Ready || p.Estimate == nil || f.Get("reviewed") == "" || !p.Confirm.given(f) {
		p.Review = p.Problem == nil && p.Ready && p.Estimate != nil
		status := http.StatusOK
		if p.Problem != nil {
			status = p.Problem.Status
		}
		return s.render(r, status, "rebuild", "Start a rebuild", p)
	}
	var job *jobs.Job
	err = s.opts.Gate.Change(r.Request, "createRebuild", func(ctx context.Context) (_ string, err error) {
		job, err = s.opts.Rebuilds.Create(ctx, p.Estimate.Spec, rebuild.CreateOptions{
			Name: f.text("name"), Reason: f.text("reason"), By: r.caller.Name(), IdempotencyKey: r.caller.Key(p.Key),
		})
		if err != nil {
			return "", err
		}
		return job.ID, nil
	})
	if err != nil {
		return err //nolint:wrapcheck // it says what is wrong
	}
	return r.redirect("/jobs/" + job.ID)
}

// rebuilt gives the rebuild that a form made when it was first sent, "" if there is none: its
// answer may have been lost, and what has changed since must not refuse its repeat.
func (s *Server) rebuilt(r *request, f *form) (id string) {
	if s.opts.Rebuilds == nil || f.Get("reviewed") == "" || f.Get("key") == "" {
		return ""
	}
	spec, err := s.readRebuild(r, f)
	if err != nil {
		return "" // which the form says
	}
	job, err := s.opts.Rebuilds.Repeated(r.Context(), spec, r.caller.Key(f.Get("key")))
	if err != nil {
		return "" // none, or creating it says what is wrong
	}
	return job.ID
}
