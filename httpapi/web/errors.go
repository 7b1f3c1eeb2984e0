package web

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

var (
	// errForm is wrapped where a form cannot be read.
	errForm = errors.New("the form cannot be read")
	// errNotHere is wrapped where an address shows nothing, or nothing to this caller.
	errNotHere = errors.New("there is nothing here")
)

// noProjections says that a page needs more than is configured.
func noProjections() error {
	return remedy.Wrap(errNotHere, "Projections need clickhouse.url and projections.dir in the configuration.")
}

// fail shows an error. Who has not logged in comes back after it.
func (s *Server) fail(r *request, err error) {
	if errors.Is(err, ErrLogin) && r.Method == http.MethodGet && r.Header.Get("HX-Request") == "" && r.Header.Get("Accept") != "text/event-stream" {
		http.Redirect(r.w, r.Request, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		return
	}
	p := s.problem(err)
	if p.Status >= http.StatusInternalServerError {
		s.opts.Logger.Error("the page failed", "path", r.URL.Path, "error", s.opts.Redact(err.Error()))
	}
	if r.began {
		return // the rest is missing, and the log says why
	}
	if p.RetryAfter > 0 {
		r.w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	name := "error"
	if r.Header.Get("HX-Request") != "" {
		name = "problem"
		p.Status = http.StatusOK // htmx leaves out what others say
	}
	if err := s.render(r, p.Status, name, p.Title, p); err != nil {
		s.opts.Logger.Error("an error could not be shown", "path", r.URL.Path, "error", s.opts.Redact(err.Error()))
	}
}

// problem gives what is shown of an error, without secrets.
func (s *Server) problem(err error) Problem {
	p := s.classify(err)
	p.Detail, p.Remedy = s.opts.Redact(p.Detail), s.opts.Redact(p.Remedy)
	return p
}

func (s *Server) classify(err error) Problem {
	switch {
	case errors.Is(err, errNotHere):
		return Problem{Status: http.StatusNotFound, Title: "Not found", Detail: err.Error(), Remedy: remedy.Of(err)}
	case errors.Is(err, errForm):
		return Problem{Status: http.StatusBadRequest, Title: "Not understood", Detail: err.Error(), Remedy: remedy.Of(err)}
	case errors.Is(err, ErrLogin):
		return Problem{Status: http.StatusUnauthorized, Title: "Log in first", Detail: err.Error()}
	case errors.Is(err, ErrForbidden):
		return Problem{Status: http.StatusForbidden, Title: "Not for you", Detail: err.Error(), Remedy: remedy.Of(err)}
	default:
		p := s.opts.Gate.Problem(err)
		if p.Status == 0 {
			p.Status = http.StatusInternalServerError
		}
		return p
	}
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	req := &request{w: w, Request: r}
	if caller, err := s.opts.Gate.Caller(r); err == nil {
		req.caller = caller
	}
	s.fail(req, errNotHere)
}

// render writes a page, or a part of one, once it is whole.
func (s *Server) render(r *request, status int, name, title string, data any) error {
	var b bytes.Buffer
	if err := s.execute(&b, r, name, title, data); err != nil {
		return err
	}
	r.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	r.began = true
	r.w.WriteHeader(status)
	_, err := r.w.Write(b.Bytes())
	return err //nolint:wrapcheck // the caller has gone
}
