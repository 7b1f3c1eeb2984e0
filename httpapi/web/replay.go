package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// Bounds from which a replay asks for more than a button.
const (
	manyEvents     = 10_000
	veryManyEvents = 1_000_000
)

// maxNames bounds the names that a form suggests.
const maxNames = 500

// replayPage is the form of a replay.
type replayPage struct {
	url.Values
	Streams  []string // to choose from
	Key      string
	Problem  *Problem
	Estimate *replay.Estimate
	Confirm  confirmation
	Spec     *replay.Spec
	Ready    bool // it may be created
	Review   bool // it was asked to be
	HasLive  bool
	Limits   int // the largest number of a type, for bars
}

// Most is the largest count of a breakdown, for its bars.
func (p *replayPage) Most(b replay.Breakdown) uint64 {
	most := uint64(1)
	for _, one := range b.Buckets {
		most = max(most, one.Events)
	}
	return most
}

// readReplay makes the spec of a form.
func (s *Server) readReplay(caller Caller, f *form) (replay.Spec, error) {
	spec := replay.Spec{
		Streams: f.list("stream"), From: f.text("from"), To: f.text("to"), Limit: f.number("limit"),
		Order: replay.Order(f.text("order")), Follow: f.Get("follow") != "", Upcast: f.Get("upcast") != "",
		Pace:         replay.Pace{Rate: f.decimal("rate"), Factor: f.decimal("speed"), MaxSilence: f.duration("max_silence")},
		BackPressure: replay.BackPressure{MaxLength: f.number("max_length"), Group: f.text("group"), MaxLag: f.number("max_lag"), MaxPending: f.number("max_pending")},
		Failures:     replay.FailurePolicy{MaxDeadLetters: f.number("max_dead_letters")},
	}
	spec.Filter.Types, spec.Filter.Tenants = f.list("type"), f.list("tenant")
	spec.Filter.AggregateTypes, spec.Filter.Aggregates = f.list("aggregate_type"), f.list("aggregate")
	spec.Filter.Where = f.text("where")
	if err := f.err(); err != nil {
		return spec, err
	}
	if len(spec.Streams) == 0 {
		return spec, fmt.Errorf("%w: name at least one stream", errForm)
	}
	if !caller.Patterns(spec.Streams) {
		return spec, fmt.Errorf("%w: you may not see all of these streams", ErrForbidden)
	}
	var err error
	if spec.Filter.Tenants, err = caller.Narrow(spec.Filter.Tenants); err != nil {
		return spec, err //nolint:wrapcheck // it says what is not allowed
	}
	if into := f.text("into"); into != "" {
		if spec.Sink, err = s.opts.Replays.ParseTarget(into, nil); err != nil {
			return spec, err //nolint:wrapcheck // it names the target
		}
	}
	return spec, nil
}

// replayForm reads a form and estimates what it would do.
func (s *Server) replayForm(r *request, values url.Values) *replayPage {
	p := &replayPage{Values: values, Key: values.Get("key"), HasLive: s.opts.Redis != nil}
	if p.Key == "" {
		p.Key = key()
	}
	f := &form{Values: values}
	if len(f.list("stream")) == 0 && f.text("into") == "" {
		return p // nothing is filled in yet
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	spec, err := s.readReplay(r.caller, f)
	if err == nil {
		p.Spec = &spec
		p.Estimate, err = s.opts.Replays.Estimate(ctx, spec, replay.EstimateOptions{Sample: true, Events: 1})
	}
	if err == nil {
		r.caller.Hide(p.Estimate)
	}
	if err != nil {
		problem := s.problem(err)
		problem.Fields = append(problem.Fields, f.problems...)
		p.Problem = &problem
		return p
	}
	p.Confirm = confirmReplay(&spec, p.Estimate, f.text("into"))
	p.Ready = spec.Sink.Type != "" && r.caller.May("createReplay") == nil
	return p
}

// confirmReplay says what a person has to confirm before a replay.
func confirmReplay(spec *replay.Spec, e *replay.Estimate, into string) confirmation {
	c := confirmation{Word: into}
	for _, w := range e.Warnings {
		c.because(careful, w)
	}
	if e.Target != nil && e.Target.Guarantee == replay.AtLeastOnce {
		c.because(careful, "The target may get an event twice after a crash; every event carries an idempotency key.")
	}
	if spec.Follow {
		c.because(careful, "It has no end: it goes on with what is published, until it is cancelled.")
	}
	switch {
	case e.Total.Events >= veryManyEvents:
		c.because(grave, count(e.Total.Events)+" events are a lot for a target to take in.")
	case e.Total.Events >= manyEvents:
		c.because(careful, count(e.Total.Events)+" events will be written.")
	}
	return c
}

// suggest gives names of streams for a form.
func (s *Server) suggest(r *request) []string {
	all, err := s.names(r.Context(), r.caller, nil, false)
	if err != nil {
		s.opts.Logger.Warn("streams cannot be suggested", "error", s.opts.Redact(err.Error()))
		return nil
	}
	return all.names[:min(len(all.names), maxNames)]
}

func (s *Server) newReplay(r *request) error {
	p := s.replayForm(r, r.URL.Query())
	p.Streams = s.suggest(r)
	return s.render(r, http.StatusOK, "replay", "Start a replay", p)
}

// estimateReplay is the part of the form that says what it would do.
func (s *Server) estimateReplay(r *request) error {
	return s.render(r, http.StatusOK, "replay-estimate", "", s.replayForm(r, r.URL.Query()))
}

// createReplay creates a replay once it is confirmed; until then it shows what has to be.
func (s *Server) createReplay(r *request) error {
	p := s.replayForm(r, r.PostForm)
	f := &form{Values: r.PostForm}
	if p.Problem != nil && p.Spec != nil && f.Get("reviewed") != "" && r.caller.May("createReplay") == nil {
		// Perhaps it was created, and what it has written since refuses it.
		if job, err := s.opts.Replays.Repeated(r.Context(), *p.Spec, replayOptions(r, p, f)); err == nil {
			return r.redirect("/jobs/" + job.ID)
		}
	}
	if p.Problem != nil || !p.Ready || f.Get("reviewed") == "" || !p.Confirm.given(f) {
		p.Review, p.Streams = p.Problem == nil && p.Ready, s.suggest(r)
		status := http.StatusOK
		if p.Problem != nil {
			status = p.Problem.Status
		} else if p.Spec == nil || p.Spec.Sink.Type == "" {
			status = http.StatusUnprocessableEntity
			p.Problem = &Problem{Title: "Where to?", Detail: "Name the target of the replay.", Status: status}
		}
		return s.render(r, status, "replay", "Start a replay", p)
	}
	var job *jobs.Job
	err := s.opts.Gate.Change(r.Request, "createReplay", func(ctx context.Context) (_ string, err error) {
		job, err = s.opts.Replays.Create(ctx, *p.Spec, replayOptions(r, p, f))
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

func replayOptions(r *request, p *replayPage, f *form) replay.CreateOptions {
	return replay.CreateOptions{
		Name: f.text("name"), Reason: f.text("reason"), By: r.caller.Name(), IdempotencyKey: r.caller.Key(p.Key), Paused: f.Get("paused") != "",
	}
}
