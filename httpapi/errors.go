package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

// statusClosed is in the log where the caller has gone.
const statusClosed = 499

// kinds says which problem an error of the packages below is. The first that
// matches counts.
var kinds = [...]struct {
	is error
	kind
}{
	{jobs.ErrKeyReused, keyReused},
	{jobs.ErrNotFound, notFound},
	{jobs.ErrState, wrongState},
	{jobs.ErrChanged, changed},
	{jobs.ErrHeld, held},
	{replay.ErrNoDeadLetter, notFound},
	{replay.ErrInvalid, invalidSpec},
	{replay.ErrNoStream, invalidSpec},
	{replay.ErrNothing, invalidSpec},
	{rebuild.ErrInvalid, invalidSpec},
	{projection.ErrUnknown, notFound},
	{projection.ErrNotBuilt, wrongState},
	{projection.ErrNotKept, notFound},
	{rebuild.ErrLive, wrongState},
	{projection.ErrHeld, held},
	{projection.ErrFenced, held},
	{projection.ErrDamaged, wrongState},
	{token.ErrNotFound, notFound},
	{token.ErrInvalid, invalidSpec},
	{token.ErrRejected, unauthenticated},
	{event.ErrInvalidBound, invalidSpec},
	{event.ErrInvalidID, invalidSpec},
	{archive.ErrStreamName, notFound},
	{archive.ErrSegmentGone, unavailable},
	{archive.ErrConflict, held},
	{archive.ErrDamaged, damaged},
	{archive.ErrNewerVersion, damaged},
	{redisstream.ErrHistoryReplaced, held},
	{redisstream.ErrNoStream, notFound},
	{redisstream.ErrNotStream, notFound},
	{chstore.ErrData, invalidSpec},
	{chstore.ErrChangedByHand, wrongState},
	{chstore.ErrNoTable, wrongState},
	{chstore.ErrUnreachable, unavailable},
	{chstore.ErrBusy, unavailable},
	{chstore.ErrResources, unavailable},
	{chstore.ErrReadOnly, unavailable},
	{chstore.ErrDiskFull, unavailable},
	{chstore.ErrKilled, unavailable},
	{chstore.ErrDenied, unavailable},
	{redisstream.ErrUnreachable, unavailable},
	{redisstream.ErrLoading, unavailable},
	{redisstream.ErrAuth, unavailable},
	{objectstore.ErrUnreachable, unavailable},
	{objectstore.ErrDenied, unavailable},
	{objectstore.ErrNoBucket, unavailable},
	{context.DeadlineExceeded, timedOut},
}

// problem makes the document of a problem.
func (s *Server) problem(p *problemError, requestID, path string) api.Problem {
	document := api.Problem{
		Type: typePrefix + p.slug, Title: p.title, Status: p.status, Detail: s.opts.Redact(p.detail), Instance: path, RequestID: requestID,
		Remedy: s.opts.Redact(p.remedy),
	}
	for _, f := range p.fields {
		f.Message, f.Value, f.Remedy = s.opts.Redact(f.Message), s.opts.Redact(f.Value), s.opts.Redact(f.Remedy)
		document.Errors = append(document.Errors, f)
	}
	return document
}

// classify finds out which problem an error is. What it does not know is internal: its
// text is for the log alone.
func (s *Server) classify(err error) *problemError {
	if p := asProblem(err); p != nil {
		return p
	}
	var http *echo.HTTPError
	if errors.As(err, &http) {
		return fromEcho(http)
	}
	var job *jobs.DocumentError
	var doc *projection.DocumentError
	if errors.As(err, &job) || errors.As(err, &doc) {
		return &problemError{kind: damaged, detail: err.Error(), err: err, remedy: s.remedy(err)}
	}
	for _, k := range kinds {
		if !errors.Is(err, k.is) {
			continue
		}
		p := &problemError{kind: k.kind, detail: err.Error(), remedy: s.remedy(err), fields: fieldErrors(err), err: err}
		if p.status == http503 {
			p.retryAfter = retryAfter
		}
		return p
	}
	return &problemError{kind: internalError, detail: "something is wrong here; the log of the server has it by the request's ID", err: err}
}

// What is said to who shall come again later.
const (
	http503    = http.StatusServiceUnavailable
	retryAfter = 2 // seconds
)

// fromEcho makes a problem of what the router and the binding of requests say.
func fromEcho(e *echo.HTTPError) *problemError {
	detail := http.StatusText(e.Code)
	if text, ok := e.Message.(string); ok && text != "" {
		detail = text
	}
	for _, k := range []kind{notFound, methodNotAllowed, invalidRequest, tooLarge, unsupportedMedia, unavailable} {
		if k.status == e.Code {
			return &problemError{kind: k, detail: detail, err: e}
		}
	}
	return &problemError{kind: internalError, detail: "something is wrong here; the log of the server has it by the request's ID", err: e}
}

// remedy says what to do about an error, or "".
func (s *Server) remedy(err error) string {
	if what := remedy.Of(err); what != "" {
		return what
	}
	return s.opts.Remedy(err)
}

// fieldErrors gives the mistakes in a spec that an error holds, as the request's body
// has them.
func fieldErrors(err error) (list []api.FieldError) {
	switch e := err.(type) { //nolint:errorlint // it walks the tree
	case nil:
		return nil
	case *replay.FieldError:
		return []api.FieldError{{Field: "spec." + e.Field, Message: e.Err.Error(), Value: e.Value, Remedy: e.Want}}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			list = append(list, fieldErrors(inner)...)
		}
		return list
	default:
		return fieldErrors(errors.Unwrap(err))
	}
}
