package web

import (
	"context"
	"net/http"
	"slices"

	"github.com/reservoirhq/reservoir/jobs"
)

// jobsPerPage is how many jobs a page lists.
const jobsPerPage = 50

// jobsPage is what the list of jobs shows.
type jobsPage struct {
	Jobs   []*jobs.Job
	States []choice
	Kinds  []choice
	Target string
	By     string
	Next   string // the job to go on after
	Asked  bool   // the list is narrowed
	May    map[string]bool
}

// choice is one of several.
type choice struct {
	Value, Text string
	Chosen      bool
}

func (s *Server) jobList(r *request) error {
	p := jobsPage{Target: r.FormValue("target"), By: r.FormValue("by"), May: may(r.caller, "estimateReplay", "createReplay", "createRebuild")}
	q := jobs.Query{Target: p.Target, CreatedBy: p.By}
	state, kind, after := r.FormValue("state"), r.FormValue("kind"), r.FormValue("after")
	for _, one := range jobs.States() {
		p.States = append(p.States, choice{string(one), string(one), string(one) == state})
	}
	if slices.Contains(jobs.States(), jobs.State(state)) {
		q.States = []jobs.State{jobs.State(state)}
	}
	for _, one := range []string{"replay", "rebuild"} {
		p.Kinds = append(p.Kinds, choice{one, one, one == kind})
		if one == kind {
			q.Kinds = []string{kind}
		}
	}
	if jobs.CheckID(after) == nil {
		q.After = after
	}
	p.Asked = len(q.States)+len(q.Kinds) > 0 || q.Target != "" || q.CreatedBy != "" || q.After != ""
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	for job, err := range s.opts.Jobs.List(ctx, q) {
		if err != nil {
			return err //nolint:wrapcheck // it says what failed
		}
		if seen, err := r.caller.Job(ctx, job); err != nil {
			return err //nolint:wrapcheck // it says what failed
		} else if !seen {
			continue
		}
		if len(p.Jobs) == jobsPerPage {
			p.Next = p.Jobs[jobsPerPage-1].ID
			break
		}
		p.Jobs = append(p.Jobs, r.caller.View(job))
	}
	return s.render(r, http.StatusOK, "jobs", "Jobs", p)
}
