package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// CreateRebuild implements api.StrictServerInterface.
func (s *Server) CreateRebuild(ctx context.Context, r api.CreateRebuildRequestObject) (api.CreateRebuildResponseObject, error) {
	if s.opts.Rebuilds == nil {
		return nil, noProjections()
	}
	spec, key := r.Body.Spec, idempotencyKey(ctx, r.Params.IdempotencyKey)
	var err error
	if spec.Scope.Tenants, err = who(ctx).narrow("spec.scope.tenants", spec.Scope.Tenants); err != nil {
		return nil, err
	}
	j, err := s.repeated(ctx, spec, key)
	if errors.Is(err, jobs.ErrNotFound) {
		if _, err := s.definition(ctx, spec.Projection); err != nil {
			return nil, err
		}
		j, err = s.opts.Rebuilds.Create(ctx, spec, rebuild.CreateOptions{
			Name: r.Body.Name, Reason: r.Body.Reason, By: who(ctx).name, Paused: r.Body.Paused, IdempotencyKey: key,
		})
	}
	if err == nil {
		err = s.mustSeeJob(ctx, j)
	}
	if err != nil {
		return nil, err
	}
	about(ctx, j.ID)
	return answerJob(ctx, j, http.StatusCreated), nil
}

// repeated is what a request made when it was first sent: its answer may have been lost, and
// the definition may be another one by now, or gone.
func (s *Server) repeated(ctx context.Context, spec rebuild.Spec, key string) (*jobs.Job, error) {
	if key == "" {
		return nil, jobs.ErrNotFound
	}
	return s.opts.Rebuilds.Repeated(ctx, spec, key)
}

// EstimateRebuild implements api.StrictServerInterface.
func (s *Server) EstimateRebuild(ctx context.Context, r api.EstimateRebuildRequestObject) (api.EstimateRebuildResponseObject, error) {
	if _, err := s.definition(ctx, r.Body.Projection); err != nil {
		return nil, err
	}
	e, err := s.opts.Rebuilds.Estimate(ctx, *r.Body, who(ctx).stream)
	if err != nil {
		return nil, err
	}
	view := func(stream string, t archive.PlanTotals) api.RebuildStreamEstimate {
		return api.RebuildStreamEstimate{
			Stream: stream, Events: int64(t.Events), Exact: t.Exact, Segments: int64(t.Segments), Bytes: t.Bytes, Gaps: int64(t.Gaps), Lost: int64(t.Lost),
		}
	}
	all := view("", e.Totals)
	est := api.RebuildEstimate{
		Projection: e.Definition.Name, Approval: api.RebuildEstimateApproval(e.Approval), Generation: int64(e.Live), Streams: []api.RebuildStreamEstimate{},
		Events: all.Events, Exact: all.Exact, Segments: all.Segments, Bytes: all.Bytes, Gaps: all.Gaps, Lost: all.Lost,
	}
	for _, stream := range e.Streams {
		est.Streams = append(est.Streams, view(stream.Name, stream.PlanTotals))
	}
	if rows := int64(e.Rows); e.Live > 0 {
		est.Rows = &rows
	}
	return api.EstimateRebuild200JSONResponse(est), nil
}

// GetVerification implements api.StrictServerInterface.
func (s *Server) GetVerification(ctx context.Context, r api.GetVerificationRequestObject) (api.GetVerificationResponseObject, error) {
	j, err := s.job(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if j.Kind != rebuild.Kind {
		return nil, invalidSpec.problem(fmt.Sprintf("job %s is a %s, and only rebuilds are verified", j.ID, j.Kind))
	}
	v, err := s.verification(ctx, j)
	return verificationAnswer{v, jobETag(j)}, err
}

// verificationAnswer answers with what was found of a rebuild, and of which revision of its
// job: one that was read before, so that nobody approves by it what was found since.
type verificationAnswer struct {
	view api.Verification
	etag string
}

func (a verificationAnswer) write(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", a.etag)
	return json.NewEncoder(w).Encode(a.view)
}

// VisitGetVerificationResponse implements api.GetVerificationResponseObject.
func (a verificationAnswer) VisitGetVerificationResponse(w http.ResponseWriter) error {
	return a.write(w)
}

// VisitGetDifferenceResponse implements api.GetDifferenceResponseObject.
func (a verificationAnswer) VisitGetDifferenceResponse(w http.ResponseWriter) error {
	return a.write(w)
}

func (s *Server) verification(ctx context.Context, j *jobs.Job) (answer api.Verification, err error) {
	v, err := rebuild.ReadVerification(ctx, s.opts.Jobs.Files(j.ID))
	if errors.Is(err, objectstore.ErrNotFound) {
		return answer, notFound.problem("rebuild " + j.ID + " has not come to its verification").withRemedy("Wait until its phase is " + rebuild.PhaseApproval)
	}
	if err != nil {
		return answer, err
	}
	answer = api.Verification{
		Job: j.ID, Time: v.Time, Chunks: v.Chunks, Events: int64(v.Events), Rows: int64(v.Rows), Carried: int64(v.Carried), DeadLetters: int64(v.Letters),
		Checks: append([]projection.CheckResult{}, v.Checks...), Warnings: v.Warnings,
	}
	if v.Difference != nil {
		answer.Difference = viewDifference(v.Difference)
	}
	for _, d := range v.Dependents {
		dependent := api.DependentVerification{Table: d.Table, Rows: int64(d.Rows)}
		if d.Difference != nil {
			dependent.Difference = viewDifference(d.Difference)
		}
		answer.Dependents = append(answer.Dependents, dependent)
	}
	return answer, nil
}

func viewDifference(d *chstore.Diff) api.TableDifference {
	v := api.TableDifference{
		OldRows: int64(d.OldRows), NewRows: int64(d.NewRows), Same: int64(d.Same), Added: int64(d.Added), Removed: int64(d.Removed), Changed: int64(d.Changed),
		OldColumns: d.OldColumns, NewColumns: d.NewColumns, Samples: []api.RowSample{},
	}
	for _, sample := range d.Samples {
		v.Samples = append(v.Samples, api.RowSample{Kind: api.RowSampleKind(sample.Kind), Old: sample.Old, New: sample.New})
	}
	return v
}

// waiting returns the rebuild of a projection that waits for approval.
func (s *Server) waiting(ctx context.Context, name string) (*jobs.Job, error) {
	d, err := s.definition(ctx, name)
	if err != nil {
		return nil, err
	}
	for j, err := range s.opts.Jobs.List(ctx, jobs.Query{States: []jobs.State{jobs.Paused}, Kinds: []string{rebuild.Kind}, Target: rebuild.Target(d.Name)}) {
		if err != nil {
			return nil, err
		}
		if j.Progress.Phase == rebuild.PhaseApproval {
			return j, nil
		}
	}
	return nil, notFound.problem("no rebuild of " + d.Name + " waits for approval")
}

// GetDifference implements api.StrictServerInterface.
func (s *Server) GetDifference(ctx context.Context, r api.GetDifferenceRequestObject) (api.GetDifferenceResponseObject, error) {
	j, err := s.waiting(ctx, r.Projection)
	if err != nil {
		return nil, err
	}
	v, err := s.verification(ctx, j)
	return verificationAnswer{v, jobETag(j)}, err
}

// ApproveProjection implements api.StrictServerInterface.
func (s *Server) ApproveProjection(ctx context.Context, r api.ApproveProjectionRequestObject) (api.ApproveProjectionResponseObject, error) {
	j, err := s.waiting(ctx, r.Projection)
	if err != nil {
		return nil, err
	}
	return s.approve(ctx, j, r.Params.IfMatch)
}

// rawRows makes sure that rows are rows in JSON too.
func rawRows(rows [][]json.RawMessage) [][]json.RawMessage {
	if rows == nil {
		return [][]json.RawMessage{}
	}
	return slices.Clip(rows)
}
