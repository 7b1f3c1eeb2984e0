package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// lettersPerPage is how many dead letters a page lists.
const lettersPerPage = 50

// jobPage is what the page of a job shows.
type jobPage struct {
	*jobs.Job
	Title    string
	Replay   *replay.Spec
	Rebuild  *rebuild.Spec
	Spec     string // its JSON
	Phases   []phase
	Percent  int
	Fraction bool // how much is to be done is known
	Waiting  bool // for approval
	Behind   uint64
	Log      []jobs.LogEntry // the latest first
	May      map[string]bool
	Can      map[string]bool // what its state and the caller's role allow
	Now      time.Time

	Letters     []letter
	NextLetter  string
	Check       *rebuild.Verification
	CheckFailed int
	NewKey      string // of a request to retry letters
	Gone        string // what came of what was asked for
	Changed     string // why nothing came of it
}

// phase is a step of a job.
type phase struct {
	Name  string
	Class string // done, now or to come
}

// letter is a dead letter.
type letter struct {
	Key, Stream, ID, Type, Reason string
	Incarnation                   int
	Attempts                      int
	Time                          time.Time
	Payload                       json.RawMessage
}

// findJob gets the job of an address, if the caller may see it.
func (s *Server) findJob(r *request) (*jobs.Job, error) {
	id := r.PathValue("id")
	if jobs.CheckID(id) != nil {
		return nil, fmt.Errorf("%q is no job: %w", id, errNotHere)
	}
	job, err := s.opts.Jobs.Get(r.Context(), id)
	seen := false
	if err == nil {
		seen, err = r.caller.Job(r.Context(), job)
	}
	if errors.Is(err, jobs.ErrNotFound) || err == nil && !seen {
		return nil, fmt.Errorf("there is no job %s: %w", id, errNotHere)
	}
	return job, err //nolint:wrapcheck // it names the job
}

func (s *Server) job(r *request) error {
	return s.showJob(r, http.StatusOK, "")
}

// showJob shows a job as it is now, and, if something was asked for of it as it was before,
// why nothing came of that.
func (s *Server) showJob(r *request, status int, changed string) error {
	job, err := s.findJob(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	p := s.describeJob(r.caller, job)
	p.Gone, p.Changed, p.NewKey = r.FormValue("done"), changed, key()
	if r.caller.May("listDeadLetters") == nil {
		if err := s.letters(ctx, r.caller, p, r.FormValue("after")); err != nil {
			return err
		}
	}
	if job.Kind == rebuild.Kind && r.caller.May("getVerification") == nil {
		p.Check, err = rebuild.ReadVerification(ctx, s.opts.Jobs.Files(job.ID))
		if err != nil && !errors.Is(err, objectstore.ErrNotFound) {
			return err //nolint:wrapcheck // it says what failed
		}
		if p.Check != nil {
			p.CheckFailed = p.Check.Failed()
		}
	}
	return s.render(r, status, "job", p.Title, p)
}

// describeJob gives what a page shows of a job's document.
func (s *Server) describeJob(caller Caller, job *jobs.Job) *jobPage {
	job = caller.View(job)
	p := &jobPage{Job: job, Title: jobName(job), Waiting: waitsForApproval(job), Now: s.opts.Clock(), Log: slices.Clone(job.Log)}
	slices.Reverse(p.Log)
	g := &job.Progress
	p.Fraction, p.Percent = g.Total > 0, percent(g.Done, g.Total)
	if job.State == jobs.Succeeded || p.Waiting {
		p.Fraction, p.Percent = true, 100
	}
	if g.Total > g.Done {
		p.Behind = g.Total - g.Done
	}
	var text bytes.Buffer
	if json.Indent(&text, job.Spec, "", "  ") == nil {
		p.Spec = text.String()
	}
	switch job.Kind {
	case replay.Kind:
		p.Replay = &replay.Spec{}
		if json.Unmarshal(job.Spec, p.Replay) != nil {
			p.Replay = nil // of a version that this one does not know: its JSON is shown
		}
	case rebuild.Kind:
		p.Rebuild, _ = rebuild.ReadSpec(job) //nolint:errcheck // as above
		p.Phases = phases(job)
	}
	p.May = may(caller, "pauseJob", "resumeJob", "cancelJob", "retryJob", "approveJob", "retryDeadLetters", "purgeDeadLetters", "rollbackProjection")
	p.Can = map[string]bool{
		"pause":   p.May["pauseJob"] && (job.State == jobs.Pending || job.State == jobs.Running),
		"resume":  p.May["resumeJob"] && job.State == jobs.Paused && !p.Waiting,
		"cancel":  p.May["cancelJob"] && job.State != jobs.Succeeded && job.State != jobs.Cancelling && job.State != jobs.Cancelled && job.ClosedAt.IsZero(),
		"retry":   p.May["retryJob"] && job.State == jobs.Failed && job.ClosedAt.IsZero(),
		"approve": p.May["approveJob"] && p.Waiting,
	}
	return p
}

// phases gives the steps of a rebuild.
func phases(job *jobs.Job) []phase {
	all := []string{
		rebuild.PhasePlan, rebuild.PhaseShadow, rebuild.PhaseCarry, rebuild.PhaseLoad, rebuild.PhasePour, rebuild.PhaseCatchUp,
		rebuild.PhaseVerify, rebuild.PhaseApproval, rebuild.PhaseHandOver, rebuild.PhaseDone,
	}
	at := slices.Index(all, job.Progress.Phase)
	if job.State == jobs.Succeeded {
		at = len(all)
	}
	var list []phase
	for i, name := range all {
		if (name == rebuild.PhaseCarry || name == rebuild.PhasePour) && name != job.Progress.Phase {
			continue // most rebuilds do not have them
		}
		class := "todo"
		switch {
		case i < at:
			class = "done"
		case i == at:
			class = "now"
		}
		list = append(list, phase{name, class})
	}
	return list
}

// letters lists dead letters of a job. Those of a rebuild are not for who is restricted to
// tenants: they are put aside before it is known whose event it is.
func (s *Server) letters(ctx context.Context, caller Caller, p *jobPage, after string) error {
	switch p.Kind {
	case replay.Kind:
		for l, err := range s.opts.Replays.DeadLetters(ctx, p.ID, after) {
			if err != nil {
				return err //nolint:wrapcheck // it names the job
			}
			if len(p.Letters) == lettersPerPage {
				p.NextLetter = p.Letters[lettersPerPage-1].Key
				break
			}
			p.Letters = append(p.Letters, letter{
				Key: l.Key, Stream: l.Stream, ID: l.ID.String(), Type: l.View.Type, Reason: l.Error, Incarnation: l.Incarnation,
				Attempts: l.Attempts, Time: l.Time, Payload: l.View.Payload,
			})
		}
	case rebuild.Kind:
		if tenants, err := caller.Narrow(nil); err != nil || len(tenants) > 0 || s.opts.Rebuilds == nil {
			return err //nolint:wrapcheck // it says what is not allowed
		}
		for l, err := range s.opts.Rebuilds.DeadLetters(ctx, p.ID) {
			if err != nil {
				return err //nolint:wrapcheck // it names the job
			}
			if len(p.Letters) == lettersPerPage {
				break
			}
			p.Letters = append(p.Letters, letter{Stream: l.Stream, ID: l.ID.String(), Type: l.Type, Reason: l.Reason, Incarnation: l.Incarnation})
		}
	}
	return nil
}

// changeJob makes the handler of a change that a person asks for.
func (s *Server) changeJob(operation string, change func(context.Context, string, jobs.Change) (*jobs.Job, error)) func(*request) error {
	return func(r *request) error {
		job, err := s.findJob(r)
		if err != nil {
			return err
		}
		err = s.opts.Gate.Change(r.Request, operation, func(ctx context.Context) (string, error) {
			_, err := change(ctx, job.ID, jobs.Change{By: r.caller.Name(), Reason: r.PostFormValue("reason")})
			return job.ID, err
		})
		if err != nil {
			return err //nolint:wrapcheck // it names the job
		}
		return r.redirect("/jobs/" + job.ID)
	}
}

// approveJob approves what the caller has looked at; what has changed since is shown first.
func (s *Server) approveJob(r *request) error {
	job, err := s.findJob(r)
	if err != nil {
		return err
	}
	c := jobs.Change{By: r.caller.Name(), IfMatch: r.PostFormValue("version")}
	if c.IfMatch != job.ETag {
		return s.showJob(r, http.StatusPreconditionFailed, "it has changed since it was shown to you. This is how it is now.")
	}
	check, err := rebuild.ReadVerification(r.Context(), s.opts.Jobs.Files(job.ID))
	if err != nil {
		return fmt.Errorf("%w: the new table is not verified yet: %w", errForm, err)
	}
	if spec, err := rebuild.ReadSpec(job); err != nil || check.Failed() > 0 && r.PostFormValue("word") != spec.Projection {
		return fmt.Errorf("%w: checks failed: type the projection's name to approve nevertheless", errors.Join(errForm, err))
	}
	err = s.opts.Gate.Change(r.Request, "approveJob", func(ctx context.Context) (string, error) {
		_, err := rebuild.ApproveAs(ctx, s.opts.Jobs, job.ID, c)
		return job.ID, err
	})
	if err != nil {
		return err //nolint:wrapcheck // it names the job
	}
	return r.redirect("/jobs/" + job.ID)
}

func (s *Server) retryLetters(r *request) error {
	job, err := s.findJob(r)
	if err != nil {
		return err
	}
	var created *jobs.Job
	err = s.opts.Gate.Change(r.Request, "retryDeadLetters", func(ctx context.Context) (string, error) {
		created, err = s.opts.Replays.RetryDeadLetters(ctx, job.ID, r.PostForm["key"], replay.CreateOptions{By: r.caller.Name(), IdempotencyKey: r.caller.Key(r.PostFormValue("idempotency"))})
		if err != nil {
			return job.ID, err
		}
		return created.ID, nil
	})
	if err != nil {
		return err //nolint:wrapcheck // it names the job
	}
	return r.redirect("/jobs/" + created.ID)
}

func (s *Server) purgeLetters(r *request) error {
	job, err := s.findJob(r)
	if err != nil {
		return err
	}
	if r.PostFormValue("sure") == "" {
		return fmt.Errorf("%w: tick that you are sure: what is purged is gone", errForm)
	}
	purged := 0
	err = s.opts.Gate.Change(r.Request, "purgeDeadLetters", func(ctx context.Context) (string, error) {
		purged, err = s.opts.Replays.PurgeDeadLetters(ctx, job.ID, r.PostForm["key"])
		return job.ID, err
	})
	if err != nil {
		return err //nolint:wrapcheck // it names the job
	}
	return r.redirect("/jobs/" + job.ID + "?done=" + url.QueryEscape(plural(purged, "dead letter was purged", "dead letters were purged")))
}

// redirect ends what a form posted.
func (r *request) redirect(to string) error {
	http.Redirect(r.w, r.Request, to, http.StatusSeeOther)
	return nil
}
