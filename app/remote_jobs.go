package app

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"net/http"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// asJob gives a job as the bucket has it, but for what is the engine's and the store's own.
func asJob(v *api.Job) *jobs.Job {
	if v.Damaged != "" {
		return &jobs.Job{ID: v.ID, Damaged: errors.New(v.Damaged)}
	}
	j := &jobs.Job{
		ID: v.ID, Kind: v.Kind, Target: v.Target, Name: v.Name, Reason: v.Reason, CreatedBy: v.CreatedBy, Spec: v.Spec,
		State: jobs.State(v.State), StateReason: v.StateReason, Epoch: uint64(v.Epoch), //nolint:gosec // a count
		Attempt: v.Attempt, NotBefore: v.NotBefore, Progress: v.Progress, Log: v.Log, LogDropped: v.LogDropped,
		CreatedAt: v.CreatedAt, StartedAt: v.StartedAt, UpdatedAt: v.UpdatedAt, EndedAt: v.EndedAt, ClosedAt: v.ClosedAt,
	}
	if v.Lease != (jobs.Lease{}) {
		j.Lease = &v.Lease
	}
	if v.LastError != (jobs.Failure{}) {
		j.LastError = &v.LastError
	}
	return j
}

// askJob asks for a job.
func (r *remote) askJob(ctx context.Context, c call) (*jobs.Job, error) {
	if c.missing == nil {
		c.missing = jobs.ErrNotFound
	}
	v, err := ask[api.Job](ctx, r, c)
	if err != nil {
		return nil, err
	}
	return asJob(v), nil
}

func (r *remote) get(ctx context.Context, id string) (*jobs.Job, error) {
	return r.askJob(ctx, call{role: token.Viewer, send: func() (*http.Response, error) { return r.api.GetJob(ctx, id, nil) }})
}

func (r *remote) list(ctx context.Context, q jobs.Query) iter.Seq2[*jobs.Job, error] {
	p := api.ListJobsParams{Target: q.Target, Since: q.Since, Until: q.Until, CreatedBy: q.CreatedBy, Limit: remotePage}
	for _, state := range q.States {
		p.State = append(p.State, api.JobState(state))
	}
	if len(q.Kinds) == 1 {
		p.Kind = api.ListJobsParamsKind(q.Kinds[0])
	}
	if q.Limit > 0 {
		p.Limit = min(q.Limit, remotePage)
	}
	return func(yield func(*jobs.Job, error) bool) {
		for n := 0; ; {
			page, err := ask[api.JobList](ctx, r, call{role: token.Viewer, send: func() (*http.Response, error) { return r.api.ListJobs(ctx, &p) }})
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Jobs {
				if q.Limit > 0 && n == q.Limit || !yield(asJob(&page.Jobs[i]), nil) {
					return
				}
				n++
			}
			if p.Cursor = page.Next; p.Cursor == "" {
				return
			}
		}
	}
}

func (r *remote) change(ctx context.Context, how verb, id, reason string) (*jobs.Job, error) {
	c := api.Change{Reason: reason}
	do := map[verb]func() (*http.Response, error){
		pauseJob:   func() (*http.Response, error) { return r.api.PauseJob(ctx, id, nil, c) },
		resumeJob:  func() (*http.Response, error) { return r.api.ResumeJob(ctx, id, nil, c) },
		cancelJob:  func() (*http.Response, error) { return r.api.CancelJob(ctx, id, nil, c) },
		retryJob:   func() (*http.Response, error) { return r.api.RetryJob(ctx, id, nil, c) },
		approveJob: func() (*http.Response, error) { return r.api.ApproveJob(ctx, id, nil) },
	}
	return r.askJob(ctx, call{role: token.Operator, once: true, send: do[how]})
}

func (r *remote) plan(ctx context.Context, id string) (*replay.Frozen, error) {
	f, err := ask[replay.Frozen](ctx, r, call{role: token.Viewer, missing: jobs.ErrNotFound, send: func() (*http.Response, error) { return r.api.GetPlan(ctx, id) }})
	if err != nil {
		return nil, err
	}
	for i := range f.Streams {
		if s := &f.Streams[i]; s.StreamBase64 != "" {
			name, err := base64.StdEncoding.DecodeString(s.StreamBase64)
			if err != nil {
				return nil, fmt.Errorf("read the plan of replay %s: %w", id, err)
			}
			s.Stream = string(name)
		}
	}
	return f, nil
}

func (r *remote) letters(ctx context.Context, id, after string) iter.Seq2[*replay.DeadLetter, error] {
	p := api.ListDeadLettersParams{Limit: letterPage, After: after}
	return func(yield func(*replay.DeadLetter, error) bool) {
		for {
			page, err := ask[api.DeadLetterList](ctx, r, call{role: token.Viewer, missing: jobs.ErrNotFound, send: func() (*http.Response, error) {
				return r.api.ListDeadLetters(ctx, id, &p)
			}})
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.DeadLetters {
				if d, err := asLetter(id, &page.DeadLetters[i]); !yield(d, err) || err != nil {
					return
				}
			}
			if p.Cursor = page.Next; p.Cursor == "" {
				return
			}
		}
	}
}

func (r *remote) letter(ctx context.Context, id, key string) (*replay.DeadLetter, error) {
	v, err := ask[api.DeadLetter](ctx, r, call{role: token.Viewer, missing: jobs.ErrNotFound, send: func() (*http.Response, error) {
		return r.api.GetDeadLetter(ctx, id, key)
	}})
	if err != nil {
		return nil, err
	}
	return asLetter(id, v)
}

// asLetter gives a dead letter of a replay as the bucket has it.
func asLetter(job string, v *api.DeadLetter) (*replay.DeadLetter, error) {
	d := &replay.DeadLetter{
		Version: replay.DeadLetterVersion, Key: v.Key, Job: job, Stream: v.Stream, Incarnation: v.Incarnation,
		Error: v.Reason, Attempts: v.Attempts, Time: v.Time, Event: v.Line, View: asView(&v.Event),
	}
	var err, wrong error
	d.ID, err = event.ParseID(v.ID)
	d.View.ID = d.ID
	if v.Position != "" {
		d.Position, wrong = replay.ParsePosition(v.Position)
	}
	if err := errors.Join(err, wrong); err != nil {
		return nil, fmt.Errorf("read dead letter %s: %w", v.Key, err)
	}
	return d, nil
}

func asView(e *api.Event) event.View {
	v := event.View{
		Stream: e.Stream, EventID: e.EventID, Type: e.Type, Tenant: e.Tenant, AggregateType: e.AggregateType, AggregateID: e.AggregateID,
		AggregateVersion: e.AggregateVersion, CorrelationID: e.CorrelationID, CausationID: e.CausationID, SchemaVersion: e.SchemaVersion,
		Payload: e.Payload, Fields: e.Fields,
	}
	if at := e.Time; !at.IsZero() {
		v.Time = &at
	}
	return v
}

func (r *remote) retryLetters(ctx context.Context, id string, keys []string, opts replay.CreateOptions) (*jobs.Job, error) {
	p := api.RetryDeadLettersParams{IdempotencyKey: keyOf(opts.IdempotencyKey)}
	return r.askJob(ctx, call{role: token.Operator, send: func() (*http.Response, error) {
		return r.api.RetryDeadLetters(ctx, id, &p, api.LettersRetry{Keys: keys, Name: opts.Name, Reason: opts.Reason})
	}})
}

func (r *remote) purgeLetters(ctx context.Context, id string, keys []string) (int, error) {
	v, err := ask[api.Purged](ctx, r, call{role: token.Operator, once: true, missing: jobs.ErrNotFound, send: func() (*http.Response, error) {
		return r.api.PurgeDeadLetters(ctx, id, api.Letters{Keys: keys})
	}})
	if err != nil {
		return 0, err
	}
	return v.Removed, nil
}
