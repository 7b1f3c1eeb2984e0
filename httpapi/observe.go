package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/httpapi/api"
)

// metrics count requests.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	flying   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reservoir_http_requests_total", Help: "Requests by operation of the API's document and status.",
		}, []string{"operation", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reservoir_http_request_seconds", Help: "Time to answer, by operation; event streams are left out.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"operation"}),
		flying: prometheus.NewGauge(prometheus.GaugeOpts{Name: "reservoir_http_requests_in_flight", Help: "Requests that are being answered, event streams included."}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.flying)
	}
	return m
}

// observe gives each request its ID, answers what failed or panicked with a problem,
// counts and logs.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := s.opts.Clock()
		r := c.Request()
		method := r.Method
		if isHead(r.Context()) {
			method = http.MethodHead
		}
		call := &call{requestID: requestID(r), from: c.RealIP(), method: method, path: r.URL.Path, secure: c.IsTLS() || s.opts.SecureCookies}
		c.SetRequest(r.WithContext(withCall(r.Context(), call)))
		c.Response().Header().Set("X-Request-ID", call.requestID)
		// What an earlier request on the connection was given ends with it.
		if err := http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(s.opts.Timeout + grace)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("bound the time to answer: %w", err)
		}
		if err := s.boundBody(c); err != nil {
			return err
		}
		s.metrics.flying.Inc()
		defer s.metrics.flying.Dec()
		err := recovered(next, c)
		if err != nil {
			c.Error(err)
		}
		s.record(c, call, err, s.opts.Clock().Sub(began))
		return nil
	}
}

// panicError is a handler that panicked.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func recovered(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		if value := recover(); value != nil && value != http.ErrAbortHandler { //nolint:errorlint // the value itself is meant
			err = &panicError{value, debug.Stack()}
		}
	}()
	return next(c)
}

// requestID takes the caller's, if it is harmless, so that logs of several services fit
// together.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-ID")
	if n := len(id); n == 0 || n > 64 {
		return rand.Text()
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return rand.Text()
		}
	}
	return id
}

func (s *Server) record(c echo.Context, call *call, err error, took time.Duration) {
	status, operation := c.Response().Status, "none"
	if errors.Is(err, context.Canceled) && c.Request().Context().Err() != nil {
		status = statusClosed
	}
	if call.operation != nil {
		operation = call.operation.id
		if !call.operation.sse {
			s.metrics.seconds.WithLabelValues(operation).Observe(took.Seconds())
		}
	}
	s.metrics.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	attrs := []slog.Attr{
		slog.String("request_id", call.requestID), slog.String("operation", operation), slog.String("method", call.method),
		slog.String("path", call.path), slog.Int("status", status), slog.Duration("took", took), slog.String("from", call.from),
		slog.Int64("bytes", c.Response().Size),
	}
	if p := call.principal; p != nil {
		attrs = append(attrs, slog.String("who", p.id))
	}
	level := slog.LevelInfo
	if err != nil && status != statusClosed {
		attrs = append(attrs, slog.String("error", s.opts.Redact(logText(err))))
		if status >= http.StatusInternalServerError {
			level = slog.LevelError
		}
	}
	var panicked *panicError
	if errors.As(err, &panicked) {
		attrs = append(attrs, slog.String("stack", string(panicked.stack)))
	}
	s.opts.Logger.LogAttrs(c.Request().Context(), level, "request", attrs...)
}

// logText says more than the caller is told.
func logText(err error) string {
	if p := asProblem(err); p != nil && p.err != nil {
		return p.detail + ": " + p.err.Error()
	}
	return err.Error()
}

// answerError writes a problem document, unless an answer has begun.
func (s *Server) answerError(err error, c echo.Context) {
	if c.Response().Committed || errors.Is(err, context.Canceled) && c.Request().Context().Err() != nil {
		return
	}
	call := callOf(c.Request().Context())
	p := s.classify(err)
	header := c.Response().Header()
	if p.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="reservoir"`)
	}
	if p.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if err := writeProblem(c, s.problem(p, call.requestID, call.path)); err != nil {
		s.opts.Logger.LogAttrs(c.Request().Context(), slog.LevelDebug, "answer not sent", slog.String("request_id", call.requestID), slog.String("error", err.Error()))
	}
}

func writeProblem(c echo.Context, document api.Problem) error {
	text, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode problem: %w", err)
	}
	c.Response().Header().Del("Cache-Control")
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.Blob(document.Status, "application/problem+json", text)
}
