package httpapi

import (
	"context"
	"strconv"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/jobs"
)

// WatchJob implements api.StrictServerInterface.
func (s *Server) WatchJob(ctx context.Context, r api.WatchJobRequestObject) (api.WatchJobResponseObject, error) {
	t, leave := s.hub.join(ctx, r.ID)
	list, err := t.first(ctx)
	if err == nil {
		err = s.mustSeeJob(ctx, list[0])
	}
	if err != nil {
		leave()
		return nil, err
	}
	return s.stream(ctx, leave, func(ctx context.Context, out *sseWriter) error {
		return follow(ctx, t, 0, func(j *jobs.Job) (ended bool, err error) {
			if j.Nonce != r.Params.LastEventID {
				err = out.send(j.Nonce, "job", who(ctx).viewJob(j))
			}
			return j.State.Ended(), err
		})
	}), nil
}

// WatchJobs implements api.StrictServerInterface.
func (s *Server) WatchJobs(ctx context.Context, r api.WatchJobsRequestObject) (api.WatchJobsResponseObject, error) {
	var since time.Time
	if id := r.Params.LastEventID; id != "" {
		ms, err := strconv.ParseInt(id, 10, 64)
		if err != nil || ms < 0 {
			return nil, invalidRequest.field("header.Last-Event-ID", id, "is none that this server gave", "")
		}
		since = time.UnixMilli(ms).Add(-skew)
	}
	t, leave := s.hub.join(ctx, allJobs)
	return s.stream(ctx, leave, func(ctx context.Context, out *sseWriter) error {
		sc := who(ctx).scope
		send := func(j *jobs.Job) (bool, error) {
			seen, err := s.sees(ctx, sc, j)
			if err != nil || !seen {
				return false, err
			}
			return false, out.send(strconv.FormatInt(s.opts.Clock().UnixMilli(), 10), "job", sc.viewJob(j))
		}
		if !since.IsZero() {
			if err := s.missed(ctx, since, send); err != nil {
				return err
			}
		}
		return follow(ctx, t, 0, send)
	}), nil
}

// What somebody who comes back has missed.
const (
	skew      = time.Minute        // between clocks of workers and servers
	missedAge = 7 * 24 * time.Hour // jobs that were created, or ended, earlier are not looked for
)

// missed gives the jobs that ended since a time.
func (s *Server) missed(ctx context.Context, since time.Time, send func(*jobs.Job) (bool, error)) error {
	if oldest := s.opts.Clock().Add(-missedAge); since.Before(oldest) {
		since = oldest
	}
	q := jobs.Query{States: ended(), Since: since.Add(-missedAge)}
	for j, err := range s.opts.Jobs.List(ctx, q) {
		if err != nil {
			return err
		}
		if j.UpdatedAt.Before(since) {
			continue
		}
		if _, err := send(j); err != nil {
			return err
		}
	}
	return nil
}

// follow sends what changes until a job that send says has ended, or ctx ends.
func follow(ctx context.Context, t *topic, seq uint64, send func(*jobs.Job) (ended bool, err error)) error {
	for {
		list, now, changed, _, failed := t.since(seq)
		seq = now
		for _, j := range list {
			if ended, err := send(j); err != nil || ended {
				return err
			}
		}
		if failed != nil {
			return failed
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
