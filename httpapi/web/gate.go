package web

import (
	"context"
	"errors"
	"net/http"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

var (
	// ErrLogin is wrapped by Gate.Caller where nobody has logged in, and by Gate.Login
	// for a token that is not valid.
	ErrLogin = errors.New("log in first")
	// ErrForbidden is wrapped where a caller may not do what it asks for.
	ErrForbidden = errors.New("you may not do that")
)

// Gate decides who asks and what they may do, for the page as for the API. Operations
// are those of the API's document, by their IDs.
type Gate interface {
	// Caller says who asks. The error wraps ErrLogin where that is not known.
	Caller(r *http.Request) (Caller, error)
	// Login begins a session for who has the token, by a cookie.
	Login(w http.ResponseWriter, r *http.Request, token string) error
	// Logout ends the session.
	Logout(w http.ResponseWriter, r *http.Request) error
	// Change does what an operation does, audited as if it had been called. change
	// returns what it made or changed.
	Change(r *http.Request, operation string, change func(context.Context) (subject string, err error)) error
	// Problem says what is shown of an error.
	Problem(err error) Problem
}

// Caller is who asks.
type Caller interface { //nolint:interfacebloat // one caller, asked in many places of the page
	// Name is for people, and for logs and histories.
	Name() string
	// LoggedIn is false where nobody has to log in.
	LoggedIn() bool
	// May returns nil where the caller's role and restrictions let it call an operation.
	May(operation string) error
	// Stream reports whether it may see a stream, and Patterns whether it may see all
	// that any of some patterns could ever select.
	Stream(name string) bool
	Patterns(patterns []string) bool
	// Narrow restricts tenants that are asked for, none for all, to those that it may
	// see. The error wraps ErrForbidden where it asks for others.
	Narrow(tenants []string) ([]string, error)
	// Job reports whether it may see a job.
	Job(ctx context.Context, job *jobs.Job) (bool, error)
	// View gives what it may see of such a job: without what counts or names events of
	// other tenants. What is shown of a job is shown of this.
	View(job *jobs.Job) *jobs.Job
	// Hide takes out of an estimate what counts events that it may not see.
	Hide(estimate *replay.Estimate)
	// Key makes keys of different callers, for requests that may come twice, different ones.
	Key(key string) string
}

// Problem is what people see of an error.
type Problem struct {
	Status int
	Title  string
	Detail string
	Remedy string // what to do about it; may be empty
	// RetryAfter is in how many seconds to try again; 0: nothing is said of that.
	RetryAfter int
	// Fields are mistakes in a form, by the paths of the API's document.
	Fields []FieldProblem
}

// FieldProblem is one mistake in a form.
type FieldProblem struct{ Field, Message, Remedy string }
