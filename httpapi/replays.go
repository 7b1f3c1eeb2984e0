package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/replay"
)

// narrowReplay restricts a spec to what the caller may see, in a way that depends on the
// spec and the caller alone: a repeat of a request gives the same.
func narrowReplay(sc scope, at string, spec *replay.Spec) (err error) {
	if !sc.patterns(spec.Streams) {
		return restrictedToken.field(at+"streams", strings.Join(spec.Streams, ","),
			"the token is restricted to "+strings.Join(sc.streamPatterns, ", "), "Name only streams that fit, or those patterns themselves")
	}
	spec.Filter.Tenants, err = sc.narrow(at+"filter.tenants", spec.Filter.Tenants)
	return err
}

// CreateReplay implements api.StrictServerInterface.
func (s *Server) CreateReplay(ctx context.Context, r api.CreateReplayRequestObject) (api.CreateReplayResponseObject, error) {
	spec := r.Body.Spec
	if err := narrowReplay(who(ctx).scope, "spec.", &spec); err != nil {
		return nil, err
	}
	j, err := s.opts.Replays.Create(ctx, spec, replay.CreateOptions{
		Name: r.Body.Name, Reason: r.Body.Reason, By: who(ctx).name, Paused: r.Body.Paused,
		IdempotencyKey: idempotencyKey(ctx, r.Params.IdempotencyKey),
	})
	if err != nil {
		return nil, err
	}
	about(ctx, j.ID)
	return answerJob(ctx, j, http.StatusCreated), nil
}

// EstimateReplay implements api.StrictServerInterface.
func (s *Server) EstimateReplay(ctx context.Context, r api.EstimateReplayRequestObject) (api.EstimateReplayResponseObject, error) {
	sc := who(ctx).scope
	spec := *r.Body
	if err := narrowReplay(sc, "", &spec); err != nil {
		return nil, err
	}
	opts := replay.EstimateOptions{Sample: r.Params.Sample || sc.byTenant(), Events: r.Params.Events}
	if opts.Events == 0 {
		opts.Events = -1
	}
	est, err := s.opts.Replays.Estimate(ctx, spec, opts)
	if err != nil {
		p := s.classify(err)
		for i := range p.fields { // the body is the spec itself
			p.fields[i].Field = strings.TrimPrefix(p.fields[i].Field, "spec.")
		}
		return nil, p
	}
	if sc.byTenant() {
		hideOthers(est)
	}
	return api.EstimateReplay200JSONResponse(*est), nil
}

// GetPlan implements api.StrictServerInterface.
func (s *Server) GetPlan(ctx context.Context, r api.GetPlanRequestObject) (api.GetPlanResponseObject, error) {
	j, err := s.job(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if j.Kind != replay.Kind {
		return nil, invalidSpec.problem(fmt.Sprintf("job %s is a %s, and only replays have a plan", j.ID, j.Kind))
	}
	plan, err := s.opts.Replays.Plan(ctx, j.ID)
	if err != nil {
		return nil, err
	}
	if who(ctx).byTenant() { // these count events of other tenants too
		plan.Events, plan.Bytes, plan.Warnings = 0, 0, nil
		for i := range plan.Streams {
			plan.Streams[i].EntriesAdded = 0
		}
	}
	return api.GetPlan200JSONResponse(*plan), nil
}

// hideOthers takes out of an estimate what counts events of other tenants too: sizes of
// objects, losses, and upper bounds.
func hideOthers(est *replay.Estimate) {
	est.Segments, est.Bytes, est.Sampled, est.GapCount, est.Lost, est.Gaps = 0, 0, 0, 0, 0, nil
	est.Duration, est.Warnings = nil, nil
	bound := func(c *replay.Count) {
		if c.Precision == replay.AtMost {
			c.Events = 0
		}
	}
	bound(&est.Total)
	for i := range est.Streams {
		s := &est.Streams[i]
		s.Segments, s.Bytes, s.EntriesAdded = 0, 0, 0
		bound(&s.Count)
	}
	for _, b := range []*replay.Breakdown{&est.Types, &est.Tenants, &est.Days} {
		for i := range b.Buckets {
			bound(&b.Buckets[i].Count)
		}
		if b.Other != nil {
			bound(b.Other)
		}
	}
}
