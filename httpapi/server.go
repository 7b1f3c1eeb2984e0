package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

// Server answers requests. Make it with New; it holds nothing that outlives a
// request but caches.
type Server struct {
	opts     Options
	doc      *openapi3.T
	ops      map[string]*operation
	tokens   *token.Store
	trail    *audit.Trail
	provider *provider // nil: none
	locks    gate
	callers  *limits // requests by caller
	failures *limits // failed authentications by address
	origins  *http.CrossOriginProtection
	metrics  *metrics
	hub      *hub
	shares   shares
	tails    *slots
	zip      *compression
	echo     *echo.Echo
}

// How often an address may fail to authenticate.
const (
	failureRate  = 1
	failureBurst = 20
)

// New returns a Server.
func New(opts Options) (*Server, error) {
	opts.complete()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	doc, ops, err := loadOperations()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: opts, doc: doc, ops: ops, tokens: token.NewStore(opts.Objects, opts.Clock), trail: audit.New(opts.Objects, opts.Clock),
		callers: newLimits(opts.Rate, opts.Burst), failures: newLimits(failureRate, failureBurst), origins: http.NewCrossOriginProtection(),
		metrics: newMetrics(opts.Registerer),
	}
	s.hub = newHub(opts.Jobs, opts.Poll)
	s.tails, s.zip = newSlots(opts.MaxTails), newCompression()
	s.shares = newShares(&opts)
	if opts.OIDC != nil {
		s.provider = newProvider(*opts.OIDC, opts.Clock)
	}
	for _, origin := range opts.CORSOrigins {
		if err := s.origins.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("httpapi: origin %q: %w", origin, err)
		}
	}
	if s.echo, err = s.routes(); err != nil {
		return nil, err
	}
	return s, nil
}

// Handler returns what answers requests.
func (s *Server) Handler() http.Handler { return answerHead(s.echo) }

func (s *Server) routes() (*echo.Echo, error) {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.answerError
	extract, err := addressOf(s.opts.TrustedProxies)
	if err != nil {
		return nil, err
	}
	e.IPExtractor = extract
	e.Pre(rawPath)
	e.Use(s.observe, secure)
	if len(s.opts.CORSOrigins) > 0 {
		e.Use(middleware.CORSWithConfig(middleware.CORSConfig{
			AllowOrigins: s.opts.CORSOrigins, MaxAge: int(time.Hour / time.Second),
			AllowMethods:  []string{http.MethodGet, http.MethodPost, http.MethodDelete},
			AllowHeaders:  []string{"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID"},
			ExposeHeaders: []string{"ETag", "Location", "Retry-After", "X-Request-ID"},
		}))
	}
	e.Use(s.sameOrigin)
	chains := map[string][]echo.MiddlewareFunc{}
	for id, op := range s.ops {
		chain := []echo.MiddlewareFunc{name(op)}
		if !op.sse {
			chain = append(chain, s.zip.middleware)
		}
		chains[id] = append(chain, s.deadline, s.authorize, s.validate)
	}
	strict := api.NewStrictHandler(s, []api.StrictMiddlewareFunc{s.audited})
	api.RegisterHandlersWithOptions(e, strict, api.RegisterHandlersOptions{OperationMiddlewares: chains})
	return e, nil
}

// addressOf returns what finds the address of a caller.
func addressOf(proxies []string) (echo.IPExtractor, error) {
	if len(proxies) == 0 {
		return echo.ExtractIPDirect(), nil
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, text := range proxies {
		_, network, err := net.ParseCIDR(text)
		if err != nil {
			return nil, fmt.Errorf("httpapi: trusted proxy %q: want a network such as 10.0.0.0/8: %w", text, err)
		}
		trust = append(trust, echo.TrustIPRange(network))
	}
	return echo.ExtractIPFromXFFHeader(trust...), nil
}

// rawPath makes the router see paths as they were sent, so that names are decoded
// exactly once.
func rawPath(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		u := c.Request().URL
		u.RawPath = u.EscapedPath()
		return next(c)
	}
}

// name tells the outer middleware which operation was routed to.
func name(op *operation) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			callOf(c.Request().Context()).operation = op
			return next(c)
		}
	}
}
