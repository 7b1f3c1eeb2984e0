package web

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// DefaultMaxLag is the default of Options.MaxLag.
const DefaultMaxLag = time.Minute

// Options are what the page shows and works with. Gate, Archive, Jobs and Replays are
// required.
type Options struct {
	Gate    Gate
	Archive *archive.Archive
	Redis   *redisstream.Client // nil: only what is archived is shown
	// Include and Exclude select the streams that are shown, as the archiver has them.
	Include, Exclude []string
	Mapping          event.Mapping
	Jobs             *jobs.Store
	Replays          *replay.Service
	// Rebuilds, Definitions and ClickHouse are nil where no projections are configured.
	Rebuilds    *rebuild.Service
	Definitions func() (*projection.Set, error)
	ClickHouse  *chstore.Store
	Audit       *audit.Trail // nil: there is none
	// Watch gives a job as it is, and then as it changes, until it has ended; default
	// jobs.Store.Watch. A server with many watchers has one reader for all.
	Watch func(ctx context.Context, id string) iter.Seq2[*jobs.Job, error]
	// MaxLag is how far behind Redis an archive may be until a person should look;
	// default DefaultMaxLag.
	MaxLag time.Duration
	// Settings are what is configured, without secrets.
	Settings []Setting
	// Redact hides secrets of the configuration in a text; default: nothing is hidden.
	Redact  func(string) string
	Version string
	Clock   func() time.Time // default time.Now
	Logger  *slog.Logger     // default none
}

// Setting is a key of the configuration.
type Setting struct{ Key, Value, Origin string }

// watchEvery is how often a job is looked at for those who watch it.
const watchEvery = time.Second

// maxForm bounds what is posted, in bytes.
const maxForm = 1 << 20

// Server is the page. It is an http.Handler for everything that is not the API's, and
// safe for concurrent use.
type Server struct {
	opts     Options
	pages    map[string]page
	coverage *coverageCache
	handler  http.Handler
}

// New returns the page.
func New(opts Options) (*Server, error) {
	if opts.Gate == nil || opts.Archive == nil || opts.Jobs == nil || opts.Replays == nil {
		return nil, errors.New("the page needs a gate, the archive, jobs and replays")
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Redact == nil {
		opts.Redact = func(text string) string { return text }
	}
	if opts.MaxLag <= 0 {
		opts.MaxLag = DefaultMaxLag
	}
	if opts.Watch == nil {
		opts.Watch = func(ctx context.Context, id string) iter.Seq2[*jobs.Job, error] {
			return opts.Jobs.Watch(ctx, id, watchEvery)
		}
	}
	s := &Server{opts: opts, coverage: newCoverageCache()}
	var err error
	if s.pages, err = loadPages(s.funcs()); err != nil {
		return nil, err
	}
	static, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return nil, fmt.Errorf("open the page's files: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /static/", http.StripPrefix("/static/", cached(http.FileServerFS(static))))
	s.routes(mux)
	s.handler = secured(http.NewCrossOriginProtection().Handler(limited(mux)))
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// routes says what is where. Whoever may call an operation of the API may see the
// page that shows the same.
func (s *Server) routes(mux *http.ServeMux) {
	for pattern, h := range map[string]handler{
		"GET /{$}":                          {"listStreams", s.overview},
		"GET /stream":                       {"getStream", s.stream},
		"GET /explore":                      {"listEvents", s.explore},
		"GET /explore/live":                 {"tailStream", s.liveTail},
		"GET /event":                        {"getEvent", s.event},
		"GET /aggregate":                    {"listAggregateEvents", s.aggregate},
		"GET /jobs":                         {"listJobs", s.jobList},
		"GET /jobs/{id}":                    {"getJob", s.job},
		"GET /jobs/{id}/live":               {"watchJob", s.liveJob},
		"POST /jobs/{id}/pause":             {"pauseJob", s.changeJob("pauseJob", s.opts.Jobs.Pause)},
		"POST /jobs/{id}/resume":            {"resumeJob", s.changeJob("resumeJob", s.opts.Jobs.Resume)},
		"POST /jobs/{id}/cancel":            {"cancelJob", s.changeJob("cancelJob", s.opts.Jobs.Cancel)},
		"POST /jobs/{id}/retry":             {"retryJob", s.changeJob("retryJob", s.opts.Jobs.Retry)},
		"POST /jobs/{id}/approve":           {"approveJob", s.approveJob},
		"POST /jobs/{id}/letters/retry":     {"retryDeadLetters", s.retryLetters},
		"POST /jobs/{id}/letters/purge":     {"purgeDeadLetters", s.purgeLetters},
		"GET /replays/new":                  {"estimateReplay", s.newReplay},
		"GET /replays/estimate":             {"estimateReplay", s.estimateReplay},
		"POST /replays":                     {"createReplay", s.createReplay},
		"GET /rebuilds/new":                 {"listProjections", s.newRebuild},
		"GET /rebuilds/estimate":            {"estimateRebuild", s.estimateRebuild},
		"POST /rebuilds":                    {"createRebuild", s.createRebuild},
		"GET /projections":                  {"listProjections", s.projectionList},
		"GET /projections/{name}":           {"getProjection", s.projection},
		"POST /projections/{name}/rollback": {"rollbackProjection", s.rollback},
		"GET /audit":                        {"listAudit", s.auditTrail},
		"GET /settings":                     {"getVersion", s.settings},
	} {
		mux.HandleFunc(pattern, s.serve(h))
	}
	mux.HandleFunc("GET /login", s.showLogin)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("/", s.notFound)
}

// handler is a page and the operation that the caller must be allowed to call.
type handler struct {
	operation string
	serve     func(*request) error
}

// request is a request for a page.
type request struct {
	*http.Request
	w      http.ResponseWriter
	caller Caller
	began  bool // the answer has begun: an error cannot be shown any more
}

// serve finds out who asks, and shows what goes wrong.
func (s *Server) serve(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req := &request{w: w, Request: r}
		err := func() (err error) {
			if req.caller, err = s.opts.Gate.Caller(r); err != nil {
				return err
			}
			if err := req.caller.May(h.operation); err != nil {
				return err
			}
			if r.Method == http.MethodPost {
				if err := r.ParseForm(); err != nil {
					return fmt.Errorf("%w: %w", errForm, err)
				}
			}
			return h.serve(req)
		}()
		if err != nil && r.Context().Err() == nil {
			s.fail(req, err)
		}
	}
}

// secured sets what browsers are to guard against.
func secured(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// limited bounds what is posted.
func limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r)
	})
}

// cached lets browsers keep static files for a while.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		if r.URL.Path == "" || strings.HasSuffix(r.URL.Path, "/") {
			http.NotFound(w, r) // no listings
			return
		}
		next.ServeHTTP(w, r)
	})
}
