package httpapi

import (
	"errors"
	"net/http"

	"github.com/reservoirhq/reservoir/httpapi/api"
)

// typePrefix begins the types of problems, which never change their meaning.
const typePrefix = "urn:reservoir:problem:"

// kind is a kind of problem.
type kind struct {
	slug   string // the end of its type
	status int
	title  string
}

func (k kind) problem(detail string) *problemError { return &problemError{kind: k, detail: detail} }

// The kinds of problems. docs/api.md lists them for callers.
var (
	invalidRequest   = kind{"invalid-request", http.StatusBadRequest, "Invalid request"}
	unauthenticated  = kind{"unauthenticated", http.StatusUnauthorized, "Not authenticated"}
	forbidden        = kind{"forbidden", http.StatusForbidden, "Forbidden"}
	restrictedToken  = kind{"restricted", http.StatusForbidden, "Beyond what the token is restricted to"}
	crossOrigin      = kind{"cross-origin", http.StatusForbidden, "Request of another site"}
	notFound         = kind{"not-found", http.StatusNotFound, "Not found"}
	methodNotAllowed = kind{"method-not-allowed", http.StatusMethodNotAllowed, "Method not allowed"}
	wrongState       = kind{"wrong-state", http.StatusConflict, "Not in a state for that"}
	held             = kind{"held", http.StatusConflict, "Somebody else has it"}
	changed          = kind{"changed", http.StatusPreconditionFailed, "Changed meanwhile"}
	tooLarge         = kind{"too-large", http.StatusRequestEntityTooLarge, "Body too large"}
	unsupportedMedia = kind{"unsupported-media-type", http.StatusUnsupportedMediaType, "Unsupported media type"}
	invalidSpec      = kind{"invalid-spec", http.StatusUnprocessableEntity, "Cannot be done as asked"}
	keyReused        = kind{"idempotency-key-reused", http.StatusUnprocessableEntity, "Idempotency key was used for another request"}
	tooManyRequests  = kind{"too-many-requests", http.StatusTooManyRequests, "Too many requests"}
	internalError    = kind{"internal", http.StatusInternalServerError, "Internal error"}
	damaged          = kind{"damaged", http.StatusInternalServerError, "Damaged data"}
	notConfigured    = kind{"not-configured", http.StatusNotImplemented, "Not configured"}
	unavailable      = kind{"unavailable", http.StatusServiceUnavailable, "Unavailable"}
	timedOut         = kind{"timeout", http.StatusServiceUnavailable, "Took too long"}
)

// problemError is an error that knows its problem document.
type problemError struct {
	kind
	detail string
	remedy string
	fields []api.FieldError
	// retryAfter, in seconds, is for Retry-After; 0: none.
	retryAfter int
	err        error // behind it, for the log; may be nil
}

// Error gives the detail.
func (e *problemError) Error() string { return e.detail }

// Unwrap returns what is behind it.
func (e *problemError) Unwrap() error { return e.err }

// Remedy says what to do about it.
func (e *problemError) Remedy() string { return e.remedy }

func (e *problemError) withRemedy(what string) *problemError {
	e.remedy = what
	return e
}

// field makes the problem of one field.
func (k kind) field(name, value, message, remedy string) *problemError {
	return &problemError{kind: k, detail: name + ": " + message, fields: []api.FieldError{{Field: name, Message: message, Value: value, Remedy: remedy}}}
}

// asProblem finds the problem in an error, or nil.
func asProblem(err error) *problemError {
	var p *problemError
	if errors.As(err, &p) {
		return p
	}
	return nil
}
