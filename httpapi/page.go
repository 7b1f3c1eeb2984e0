package httpapi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/httpapi/web"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// Mount answers with page whatever is not the API's. It is called at most once, before
// the Server answers anything.
func (s *Server) Mount(page http.Handler) {
	plain := echo.WrapHandler(page)
	zipped := s.zip.middleware(plain)
	pages := func(c echo.Context) error {
		if isEventStream(c) {
			return plain(c)
		}
		return zipped(c)
	}
	s.echo.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if isAPI(c.Request().URL.Path) {
				return next(c)
			}
			return s.answerPage(c, pages)
		}
	})
}

// isAPI reports whether a path is one of the API's, whether there is something or not.
func isAPI(path string) bool {
	switch path {
	case "/healthz", "/readyz", "/metrics", "/v1":
		return true
	}
	return strings.HasPrefix(path, "/v1/")
}

func isEventStream(c echo.Context) bool {
	return strings.Contains(c.Request().Header.Get("Accept"), "text/event-stream")
}

// answerPage bounds the time of a page, and ends event streams when the server stops.
func (s *Server) answerPage(c echo.Context, pages echo.HandlerFunc) error {
	call := callOf(c.Request().Context())
	call.operation = &operation{id: "page", sse: isEventStream(c)}
	ctx, cancel := context.WithCancelCause(c.Request().Context())
	defer cancel(nil)
	if call.operation.sse {
		stop := context.AfterFunc(stopping(ctx), func() { cancel(errStopping) })
		defer stop()
		go s.keep(ctx, cancel, credential(c.Request()), nil)
	} else {
		limit := time.Now().Add(s.opts.SlowTimeout + grace)
		conn := http.NewResponseController(c.Response())
		// Recorders of tests have no connection, and nothing to bound.
		if err := conn.SetWriteDeadline(limit); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("bound the time to answer: %w", err)
		}
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, s.opts.SlowTimeout)
		defer done()
	}
	c.SetRequest(c.Request().WithContext(ctx))
	return pages(c)
}

// Trail returns the audit trail.
func (s *Server) Trail() *audit.Trail { return s.trail }

// Watch gives a job as it is, and then as it changes, and again while it does not, every few
// seconds, until it has ended. Any number of watchers of a job share one reader of its document.
func (s *Server) Watch(ctx context.Context, id string) iter.Seq2[*jobs.Job, error] {
	return func(yield func(*jobs.Job, error) bool) {
		t, leave := s.hub.join(ctx, id)
		defer leave()
		beat := time.NewTicker(s.opts.Beat / 2)
		defer beat.Stop()
		var last *jobs.Job
		for seq := uint64(0); ; {
			list, now, changed, _, failed := t.since(seq)
			seq = now
			if len(list) == 0 && last != nil {
				list = []*jobs.Job{last}
			}
			for _, j := range list {
				last = j
				if !yield(j, nil) || j.State.Ended() {
					return
				}
			}
			if failed != nil {
				yield(nil, failed)
				return
			}
			select {
			case <-ctx.Done():
				yield(nil, context.Cause(ctx))
				return
			case <-changed:
			case <-beat.C:
			}
		}
	}
}

// Gate returns what lets callers to the page as they are let to the API: by the same
// tokens, roles, restrictions, limits and audit trail.
func (s *Server) Gate() web.Gate { return pageGate{s} }

type pageGate struct{ *Server }

// gateError is a problem that the page knows by one of its errors.
type gateError struct {
	*problemError
	known error
}

// Unwrap returns both.
func (e *gateError) Unwrap() []error { return []error{e.known, e.problemError} }

// login tells the page to ask for a token where that would help.
func login(err error) error {
	if p := asProblem(err); p != nil && p.status == http.StatusUnauthorized {
		return &gateError{p, web.ErrLogin}
	}
	return err
}

// Caller implements web.Gate.
func (g pageGate) Caller(r *http.Request) (web.Caller, error) {
	call := callOf(r.Context())
	if call.principal == nil {
		who, err := g.authenticate(g.echo.NewContext(r, nil))
		if err != nil {
			return nil, login(err)
		}
		call.principal = who
		if err := g.limit(call.limitKey()); err != nil {
			return nil, err
		}
	}
	return &pageCaller{g.Server, r, call.principal}, nil
}

// Login implements web.Gate.
func (g pageGate) Login(w http.ResponseWriter, r *http.Request, text string) error {
	if err := g.limit("address:" + subscriber(callOf(r.Context()).from)); err != nil {
		return err
	}
	answer, err := g.CreateSession(r.Context(), api.CreateSessionRequestObject{Body: &api.NewSession{Token: text}})
	if err != nil {
		return login(err)
	}
	return answer.VisitCreateSessionResponse(headersOnly{w})
}

// Logout implements web.Gate.
func (g pageGate) Logout(w http.ResponseWriter, r *http.Request) error {
	answer, err := g.DeleteSession(r.Context(), api.DeleteSessionRequestObject{})
	if err != nil {
		return err
	}
	return answer.VisitDeleteSessionResponse(headersOnly{w})
}

// headersOnly takes the headers of an answer, and leaves the rest to the page.
type headersOnly struct{ http.ResponseWriter }

// WriteHeader does nothing.
func (headersOnly) WriteHeader(int) {}

// Change implements web.Gate.
func (g pageGate) Change(r *http.Request, id string, change func(context.Context) (string, error)) error {
	op := g.ops[id]
	if op == nil {
		return fmt.Errorf("httpapi: there is no operation %q", id)
	}
	deed := *callOf(r.Context())
	deed.operation = op
	c := g.echo.NewContext(r.WithContext(withCall(r.Context(), &deed)), nil)
	_, err := g.audited(func(c echo.Context, _ any) (any, error) {
		ctx := c.Request().Context()
		subject, err := change(ctx)
		about(ctx, subject)
		return nil, err
	}, id)(c, nil)
	return err
}

// Problem implements web.Gate.
func (g pageGate) Problem(err error) web.Problem {
	p := g.classify(err)
	out := web.Problem{Status: p.status, Title: p.title, Detail: g.opts.Redact(p.detail), Remedy: g.opts.Redact(p.remedy), RetryAfter: p.retryAfter}
	for _, f := range p.fields {
		out.Fields = append(out.Fields, web.FieldProblem{Field: f.Field, Message: g.opts.Redact(f.Message), Remedy: g.opts.Redact(f.Remedy)})
	}
	return out
}

// pageCaller is who asks for a page.
type pageCaller struct {
	server  *Server
	request *http.Request
	who     *principal
}

// Name implements web.Caller.
func (c *pageCaller) Name() string { return c.who.name }

// LoggedIn implements web.Caller.
func (c *pageCaller) LoggedIn() bool { return c.who.id != anonymous().id }

// May implements web.Caller. A change that a role refuses is audited, as it is of the
// API.
func (c *pageCaller) May(id string) error {
	op := c.server.ops[id]
	if op == nil {
		return fmt.Errorf("httpapi: there is no operation %q", id)
	}
	refusal := may(c.who, op)
	if refusal == nil {
		return nil
	}
	if c.request.Method == http.MethodPost {
		deed := *callOf(c.request.Context())
		deed.operation = op
		c.server.auditRefusal(c.request.Context(), &deed, refusal)
	}
	return &gateError{refusal, web.ErrForbidden}
}

// Stream implements web.Caller.
func (c *pageCaller) Stream(name string) bool { return c.who.stream(name) }

// Patterns implements web.Caller.
func (c *pageCaller) Patterns(patterns []string) bool { return c.who.patterns(patterns) }

// Narrow implements web.Caller.
func (c *pageCaller) Narrow(tenants []string) ([]string, error) {
	narrowed, err := c.who.narrow("tenants", tenants)
	var refusal *problemError
	if errors.As(err, &refusal) {
		return nil, &gateError{refusal, web.ErrForbidden}
	}
	return narrowed, err
}

// Job implements web.Caller.
func (c *pageCaller) Job(ctx context.Context, job *jobs.Job) (bool, error) {
	return c.server.sees(ctx, c.who.scope, job)
}

// View implements web.Caller.
func (c *pageCaller) View(job *jobs.Job) *jobs.Job { return c.who.narrowJob(job) }

// Hide implements web.Caller.
func (c *pageCaller) Hide(estimate *replay.Estimate) {
	if c.who.byTenant() {
		hideOthers(estimate)
	}
}

// Key implements web.Caller.
func (c *pageCaller) Key(key string) string { return c.who.key(key) }
