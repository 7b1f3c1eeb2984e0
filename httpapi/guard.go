package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/audit"
)

// policy is what pages may do: nothing that does not come from here.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure sets the headers by which browsers protect who looks at an answer.
func secure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()")
		h.Set("Cache-Control", "no-store")
		if c.IsTLS() {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		return next(c)
	}
}

// sameOrigin refuses what a browser sends on behalf of another site, whatever it
// authenticates by.
func (s *Server) sameOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := s.origins.Check(c.Request()); err != nil {
			return &problemError{kind: crossOrigin, detail: "the request comes from another site", remedy: "Add its origin to the server's configuration if it may call the API", err: err}
		}
		return next(c)
	}
}

// grace is how long an answer may take to be written after its time is up.
const grace = 10 * time.Second

// deadline bounds the time that an answer takes; event streams have none.
func (s *Server) deadline(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		op := callOf(c.Request().Context()).operation
		if op.sse {
			return next(c)
		}
		timeout := s.opts.Timeout
		if op.slow {
			timeout = s.opts.SlowTimeout
		}
		limit := time.Now().Add(timeout + grace)
		conn := http.NewResponseController(c.Response())
		// Recorders of tests have no connection, and nothing to bound.
		if err := conn.SetWriteDeadline(limit); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("bound the time to answer: %w", err)
		}
		ctx, cancel := context.WithTimeout(c.Request().Context(), timeout)
		defer cancel()
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}

// authorize finds out who calls, and refuses whoever may not: the one place where roles
// and restrictions are enforced, by what the document says of the operation.
func (s *Server) authorize(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		ctx := c.Request().Context()
		call := callOf(ctx)
		who, err := s.authenticate(c)
		if err != nil {
			if call.operation.role != "" {
				return err
			}
			who = nil // anybody may call it, also with a token that is not valid any more
		}
		call.principal, call.credential = who, credential(c.Request())
		if err := s.limit(call.limitKey()); err != nil {
			return err
		}
		if call.operation.role == "" {
			return next(c)
		}
		if err := may(who, call.operation); err != nil {
			s.auditRefusal(ctx, call, err)
			return err
		}
		return next(c)
	}
}

func (s *Server) limit(key string) error {
	if s.opts.Rate < 0 {
		return nil
	}
	wait := s.callers.take(key, s.opts.Clock())
	if wait <= 0 {
		return nil
	}
	return &problemError{
		kind: tooManyRequests, detail: fmt.Sprintf("more than %v requests a second", s.opts.Rate), retryAfter: int(math.Ceil(wait.Seconds())),
		remedy: "Wait as long as Retry-After says",
	}
}

// may returns why a caller may not call an operation.
func may(who *principal, op *operation) *problemError {
	if !who.role.Includes(op.role) {
		role := string(who.role)
		if role == "" {
			role = "none"
		}
		return forbidden.problem(fmt.Sprintf("this needs the role %s, and yours is %s", op.role, role)).withRemedy("Use a token with that role")
	}
	switch {
	case op.restricted == refused && who.restricted(), op.restricted == streams && who.byTenant():
		return restrictedToken.problem("the token is restricted to " + restrictedTo(who) + ", and the answer would tell of others").withRemedy("Use a token without that restriction")
	}
	return nil
}

func restrictedTo(who *principal) string {
	if who.byTenant() {
		return "tenants " + strings.Join(who.tenants, ", ")
	}
	return "streams " + strings.Join(who.streamPatterns, ", ")
}

// auditRefusal notes who tried what it may not. The refusal stands anyway.
func (s *Server) auditRefusal(ctx context.Context, call *call, refusal *problemError) {
	if !call.operation.audited {
		return
	}
	e, err := s.trail.Begin(ctx, call.auditEntry())
	if err == nil {
		err = s.trail.End(ctx, e, audit.Refused, refusal.status, refusal.detail)
	}
	if err != nil {
		s.opts.Logger.LogAttrs(ctx, slog.LevelError, "refusal not audited", slog.String("request_id", call.requestID), slog.String("error", s.opts.Redact(err.Error())))
	}
}

func (c *call) auditEntry() audit.Entry {
	return audit.Entry{
		Who: c.principal.id, Name: c.principal.name, Role: string(c.principal.role), From: c.from, Operation: c.operation.id,
		Method: c.method, Path: c.path, RequestID: c.requestID,
	}
}

// audited writes down what is about to be done, and how it ended, before the answer is
// sent.
func (s *Server) audited(next api.StrictHandlerFunc, _ string) api.StrictHandlerFunc {
	return func(c echo.Context, request any) (any, error) {
		ctx := c.Request().Context()
		call := callOf(ctx)
		if !call.operation.audited {
			return next(c, request)
		}
		entry, err := s.trail.Begin(ctx, call.auditEntry())
		if err != nil {
			return nil, err
		}
		call.entry = entry
		answer, failure := next(c, request)
		result, status, problem := audit.Done, call.operation.success, ""
		if failure != nil {
			p := s.classify(failure)
			result, status, problem = audit.Refused, p.status, s.opts.Redact(p.detail)
			if status >= http.StatusInternalServerError {
				result = audit.Failed
			}
		}
		// The deed is done, whether the caller still waits or not.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if err := s.trail.End(ctx, entry, result, status, problem); err != nil {
			s.opts.Logger.LogAttrs(ctx, slog.LevelError, "end of a deed not audited", slog.String("request_id", call.requestID), slog.String("error", s.opts.Redact(err.Error())))
		}
		return answer, failure
	}
}
