package httpapi

import (
	"context"
	"net/http"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// letterPlace is a place in the dead letters of a job: behind a key of a replay's, or a
// number of a rebuild's.
type letterPlace struct {
	After string `json:"a,omitempty"`
	Skip  int    `json:"s,omitempty"`
}

// ListDeadLetters implements api.StrictServerInterface.
func (s *Server) ListDeadLetters(ctx context.Context, r api.ListDeadLettersRequestObject) (api.ListDeadLettersResponseObject, error) {
	j, err := s.job(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	place := letterPlace{After: r.Params.After}
	if err := decodeCursor(r.Params.Cursor, &place); err != nil {
		return nil, err
	}
	if place.Skip < 0 {
		return nil, badCursor()
	}
	list := api.DeadLetterList{DeadLetters: []api.DeadLetter{}}
	if j.Kind == rebuild.Kind {
		err = s.rebuildLetters(ctx, j, place, r.Params.Limit, &list)
	} else {
		err = s.replayLetters(ctx, j, place, r.Params.Limit, &list)
	}
	if err != nil {
		return nil, err
	}
	return api.ListDeadLetters200JSONResponse(list), nil
}

func (s *Server) replayLetters(ctx context.Context, j *jobs.Job, place letterPlace, limit int, list *api.DeadLetterList) error {
	for l, err := range s.opts.Replays.DeadLetters(ctx, j.ID, place.After) {
		if err != nil {
			return err
		}
		if n := len(list.DeadLetters); n == limit {
			list.Next, err = encodeCursor(letterPlace{After: list.DeadLetters[n-1].Key})
			return err
		}
		list.DeadLetters = append(list.DeadLetters, viewLetter(l))
	}
	return nil
}

// viewLetter is a dead letter of a replay for callers.
func viewLetter(l *replay.DeadLetter) api.DeadLetter {
	view := viewEvent(&l.View, l.Incarnation)
	return api.DeadLetter{
		Key: l.Key, Stream: l.Stream, Incarnation: l.Incarnation, ID: l.ID.String(), EventID: view.EventID, Type: view.Type,
		Reason: l.Error, Attempts: l.Attempts, Time: l.Time, Event: view, Position: l.Position.String(), Line: l.Event,
	}
}

// GetDeadLetter implements api.StrictServerInterface.
func (s *Server) GetDeadLetter(ctx context.Context, r api.GetDeadLetterRequestObject) (api.GetDeadLetterResponseObject, error) {
	j, err := s.job(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if j.Kind != replay.Kind {
		return nil, invalidSpec.problem("dead letters of a " + j.Kind + " have no keys").withRemedy("List them instead")
	}
	l, err := s.opts.Replays.DeadLetter(ctx, j.ID, r.Key)
	if err != nil {
		return nil, err
	}
	return api.GetDeadLetter200JSONResponse(viewLetter(l)), nil
}

// rebuildLetters leaves those out that are not the caller's.
func (s *Server) rebuildLetters(ctx context.Context, j *jobs.Job, place letterPlace, limit int, list *api.DeadLetterList) error {
	if s.opts.Rebuilds == nil {
		return nil
	}
	n := 0
	for l, err := range s.opts.Rebuilds.DeadLetters(ctx, j.ID) {
		if err != nil {
			return err
		}
		if n++; n <= place.Skip || !who(ctx).letter(l) {
			continue
		}
		if len(list.DeadLetters) == limit {
			list.Next, err = encodeCursor(letterPlace{Skip: n - 1})
			return err
		}
		list.DeadLetters = append(list.DeadLetters, api.DeadLetter{
			Stream: l.Stream, Incarnation: l.Incarnation, ID: l.ID.String(), EventID: l.EventID, Type: l.Type, Reason: l.Reason,
		})
	}
	return nil
}

// replayJob returns a replay that the caller may see.
func (s *Server) replayJob(ctx context.Context, id string) error {
	j, err := s.job(ctx, id)
	if err != nil {
		return err
	}
	if j.Kind != replay.Kind {
		return invalidSpec.problem("dead letters of a " + j.Kind + " cannot be changed").withRemedy("Fix the projection's definition and rebuild it")
	}
	about(ctx, id)
	return nil
}

// RetryDeadLetters implements api.StrictServerInterface.
func (s *Server) RetryDeadLetters(ctx context.Context, r api.RetryDeadLettersRequestObject) (api.RetryDeadLettersResponseObject, error) {
	if err := s.replayJob(ctx, r.ID); err != nil {
		return nil, err
	}
	var body api.LettersRetry
	if r.Body != nil {
		body = *r.Body
	}
	j, err := s.opts.Replays.RetryDeadLetters(ctx, r.ID, body.Keys, replay.CreateOptions{
		Name: body.Name, Reason: body.Reason, By: who(ctx).name, IdempotencyKey: idempotencyKey(ctx, r.Params.IdempotencyKey),
	})
	if err != nil {
		return nil, err
	}
	about(ctx, j.ID)
	return answerJob(ctx, j, http.StatusCreated), nil
}

// PurgeDeadLetters implements api.StrictServerInterface.
func (s *Server) PurgeDeadLetters(ctx context.Context, r api.PurgeDeadLettersRequestObject) (api.PurgeDeadLettersResponseObject, error) {
	if err := s.replayJob(ctx, r.ID); err != nil {
		return nil, err
	}
	var keys []string
	if r.Body != nil {
		keys = r.Body.Keys
	}
	n, err := s.opts.Replays.PurgeDeadLetters(ctx, r.ID, keys)
	if err != nil {
		return nil, err
	}
	return api.PurgeDeadLetters200JSONResponse{Removed: n}, nil
}

// viewEvent is an event for callers.
func viewEvent(v *event.View, incarnation int) api.Event {
	e := api.Event{
		Stream: v.Stream, Incarnation: incarnation, ID: v.ID.String(), EventID: v.EventID, Type: v.Type, Tenant: v.Tenant,
		AggregateType: v.AggregateType, AggregateID: v.AggregateID, AggregateVersion: v.AggregateVersion, CorrelationID: v.CorrelationID,
		CausationID: v.CausationID, SchemaVersion: v.SchemaVersion, Payload: v.Payload, Fields: v.Fields,
	}
	if v.Time != nil {
		e.Time = *v.Time
	}
	return e
}
