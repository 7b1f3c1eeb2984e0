package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// viewJob is a job for callers: without what is the engine's and the store's own, and
// narrowed to the caller's tenants.
func (s scope) viewJob(j *jobs.Job) api.Job {
	j = s.narrowJob(j)
	if j.Damaged != nil {
		return api.Job{ID: j.ID, Damaged: j.Damaged.Error()}
	}
	v := api.Job{
		ID: j.ID, Kind: j.Kind, Target: j.Target, Name: j.Name, Reason: j.Reason, CreatedBy: j.CreatedBy, Spec: j.Spec,
		State: api.JobState(j.State), StateReason: j.StateReason, Epoch: int64(j.Epoch), Attempt: j.Attempt, NotBefore: j.NotBefore,
		Progress: j.Progress, Log: j.Log, LogDropped: j.LogDropped, CreatedAt: j.CreatedAt, StartedAt: j.StartedAt, UpdatedAt: j.UpdatedAt,
		EndedAt: j.EndedAt, ClosedAt: j.ClosedAt,
	}
	if j.Lease != nil {
		v.Lease = *j.Lease
	}
	if j.LastError != nil {
		v.LastError = *j.LastError
	}
	return v
}

// jobAnswer answers with a job, and which revision it is.
type jobAnswer struct {
	view   api.Job
	etag   string
	status int
}

// answerJob is the answer with a job for the caller.
func answerJob(ctx context.Context, j *jobs.Job, status int) jobAnswer {
	a := jobAnswer{view: who(ctx).viewJob(j), status: status}
	if j.ETag != "" {
		a.etag = jobETag(j)
	}
	return a
}

func (a jobAnswer) write(w http.ResponseWriter) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if a.etag != "" {
		h.Set("ETag", a.etag)
	}
	if a.status == http.StatusCreated {
		h.Set("Location", "/v1/jobs/"+a.view.ID)
	}
	w.WriteHeader(a.status)
	return json.NewEncoder(w).Encode(a.view)
}

// VisitGetJobResponse implements api.GetJobResponseObject.
func (a jobAnswer) VisitGetJobResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitPauseJobResponse implements api.PauseJobResponseObject.
func (a jobAnswer) VisitPauseJobResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitResumeJobResponse implements api.ResumeJobResponseObject.
func (a jobAnswer) VisitResumeJobResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitCancelJobResponse implements api.CancelJobResponseObject.
func (a jobAnswer) VisitCancelJobResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitRetryJobResponse implements api.RetryJobResponseObject.
func (a jobAnswer) VisitRetryJobResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitApproveJobResponse implements api.ApproveJobResponseObject.
func (a jobAnswer) VisitApproveJobResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitApproveProjectionResponse implements api.ApproveProjectionResponseObject.
func (a jobAnswer) VisitApproveProjectionResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitCreateReplayResponse implements api.CreateReplayResponseObject.
func (a jobAnswer) VisitCreateReplayResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitCreateRebuildResponse implements api.CreateRebuildResponseObject.
func (a jobAnswer) VisitCreateRebuildResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitRetryDeadLettersResponse implements api.RetryDeadLettersResponseObject.
func (a jobAnswer) VisitRetryDeadLettersResponse(w http.ResponseWriter) error { return a.write(w) }

// job returns a job that the caller may see. One that it may not is not found.
func (s *Server) job(ctx context.Context, id string) (*jobs.Job, error) {
	j, err := s.shares.jobs.get(ctx, id, func(ctx context.Context) (*jobs.Job, error) { return s.opts.Jobs.Get(ctx, id) })
	if err != nil {
		return nil, err
	}
	return j, s.mustSeeJob(ctx, j)
}

func (s *Server) mustSeeJob(ctx context.Context, j *jobs.Job) error {
	seen, err := s.sees(ctx, who(ctx).scope, j)
	if err == nil && !seen {
		err = fmt.Errorf("job %s: %w", j.ID, jobs.ErrNotFound)
	}
	return err
}

// maxParents bounds how far back replays of dead letters are followed.
const maxParents = 16

// sees reports whether nothing that a job deals with is beyond a scope.
func (s *Server) sees(ctx context.Context, sc scope, j *jobs.Job) (bool, error) {
	if !sc.restricted() {
		return true, nil
	}
	for range maxParents {
		switch j.Kind {
		case rebuild.Kind:
			return s.seesRebuild(sc, j), nil
		case replay.Kind:
		default:
			return false, nil
		}
		spec, ok := replaySpec(j)
		if !ok {
			return false, nil
		}
		if spec.DeadLettersOf == "" {
			return sc.patterns(spec.Streams) && sc.allows(spec.Filter.Tenants), nil
		}
		var err error
		if j, err = s.opts.Jobs.Get(ctx, spec.DeadLettersOf); errors.Is(err, jobs.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// replaySpec reads the spec of a replay, if it can be read.
func replaySpec(j *jobs.Job) (spec replay.Spec, ok bool) {
	ok = j.Damaged == nil && json.Unmarshal(j.Spec, &spec) == nil
	return spec, ok
}

func (s *Server) seesRebuild(sc scope, j *jobs.Job) bool {
	spec, err := rebuild.ReadSpec(j)
	if err != nil || !sc.allows(spec.Scope.Tenants) {
		return false
	}
	return s.seesProjectionNamed(sc, spec.Projection)
}

// idempotencyKey makes keys of different callers different ones.
func idempotencyKey(ctx context.Context, key string) string { return who(ctx).key(key) }

func (p *principal) key(key string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(p.id + "\x00" + key))
	return "api-" + hex.EncodeToString(sum[:])
}

// GetJob implements api.StrictServerInterface.
func (s *Server) GetJob(ctx context.Context, r api.GetJobRequestObject) (api.GetJobResponseObject, error) {
	j, err := s.job(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if namesWeakly(r.Params.IfNoneMatch, jobETag(j)) {
		return api.GetJob304Response{Headers: api.GetJob304ResponseHeaders{ETag: jobETag(j)}}, nil
	}
	return answerJob(ctx, j, http.StatusOK), nil
}

// jobPlace is a place in the list of jobs.
type jobPlace struct {
	After string `json:"a"`
}

// ListJobs implements api.StrictServerInterface.
func (s *Server) ListJobs(ctx context.Context, r api.ListJobsRequestObject) (api.ListJobsResponseObject, error) {
	p := r.Params
	var place jobPlace
	if err := decodeCursor(p.Cursor, &place); err != nil {
		return nil, err
	}
	if place.After != "" && jobs.CheckID(place.After) != nil {
		return nil, badCursor()
	}
	q := jobs.Query{Target: p.Target, CreatedBy: p.CreatedBy, Since: p.Since, Until: p.Until, After: place.After}
	for _, state := range p.State {
		q.States = append(q.States, jobs.State(state))
	}
	if p.Kind != "" {
		q.Kinds = []string{string(p.Kind)}
	}
	list := api.JobList{Jobs: []api.Job{}}
	looking, cancel := context.WithTimeout(ctx, s.opts.Timeout/2)
	defer cancel()
	looked := "" // the last job that was looked at
	q.Looked = func(id string) { looked = id }
	for j, err := range s.opts.Jobs.List(looking, q) {
		if err != nil && looked != "" && looking.Err() != nil && ctx.Err() == nil {
			// There is much that is not the caller's, or not asked for: the next request goes on.
			if list.Next, err = encodeCursor(jobPlace{looked}); err != nil {
				return nil, err
			}
			break
		}
		if err != nil {
			return nil, err
		}
		if seen, err := s.sees(ctx, who(ctx).scope, j); err != nil || !seen {
			if err != nil {
				return nil, err
			}
			continue
		}
		if len(list.Jobs) == p.Limit {
			if list.Next, err = encodeCursor(jobPlace{list.Jobs[p.Limit-1].ID}); err != nil {
				return nil, err
			}
			break
		}
		list.Jobs = append(list.Jobs, who(ctx).viewJob(j))
	}
	return api.ListJobs200JSONResponse(list), nil
}

// change is how people change a job.
type change func(s *jobs.Store, ctx context.Context, id string, c jobs.Change) (*jobs.Job, error)

func (s *Server) change(ctx context.Context, do change, id, match string, body *api.Change) (jobAnswer, error) {
	j, err := s.job(ctx, id)
	if err != nil {
		return jobAnswer{}, err
	}
	c := jobs.Change{By: who(ctx).name}
	if body != nil {
		c.Reason = body.Reason
	}
	return s.changeJob(ctx, do, j, match, c)
}

// changeJob changes a job that the caller may see.
func (s *Server) changeJob(ctx context.Context, do change, j *jobs.Job, match string, c jobs.Change) (_ jobAnswer, err error) {
	about(ctx, j.ID)
	if c.IfMatch, err = unchanged(j, match); err != nil {
		return jobAnswer{}, err
	}
	j, err = do(s.opts.Jobs, ctx, j.ID, c)
	if errors.Is(err, jobs.ErrChanged) {
		return jobAnswer{}, changedMeanwhile(err)
	}
	if err != nil {
		return jobAnswer{}, err
	}
	return answerJob(ctx, j, http.StatusOK), nil
}

// PauseJob implements api.StrictServerInterface.
func (s *Server) PauseJob(ctx context.Context, r api.PauseJobRequestObject) (api.PauseJobResponseObject, error) {
	return s.change(ctx, (*jobs.Store).Pause, r.ID, r.Params.IfMatch, r.Body)
}

// ResumeJob implements api.StrictServerInterface.
func (s *Server) ResumeJob(ctx context.Context, r api.ResumeJobRequestObject) (api.ResumeJobResponseObject, error) {
	return s.change(ctx, (*jobs.Store).Resume, r.ID, r.Params.IfMatch, r.Body)
}

// CancelJob implements api.StrictServerInterface.
func (s *Server) CancelJob(ctx context.Context, r api.CancelJobRequestObject) (api.CancelJobResponseObject, error) {
	return s.change(ctx, (*jobs.Store).Cancel, r.ID, r.Params.IfMatch, r.Body)
}

// RetryJob implements api.StrictServerInterface.
func (s *Server) RetryJob(ctx context.Context, r api.RetryJobRequestObject) (api.RetryJobResponseObject, error) {
	return s.change(ctx, (*jobs.Store).Retry, r.ID, r.Params.IfMatch, r.Body)
}

// ApproveJob implements api.StrictServerInterface.
func (s *Server) ApproveJob(ctx context.Context, r api.ApproveJobRequestObject) (api.ApproveJobResponseObject, error) {
	j, err := s.job(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return s.approve(ctx, j, r.Params.IfMatch)
}

func (s *Server) approve(ctx context.Context, j *jobs.Job, match string) (jobAnswer, error) {
	approve := func(store *jobs.Store, ctx context.Context, id string, c jobs.Change) (*jobs.Job, error) {
		return rebuild.ApproveAs(ctx, store, id, c)
	}
	return s.changeJob(ctx, approve, j, match, jobs.Change{By: who(ctx).name})
}
