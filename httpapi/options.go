package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/telemetry"
)

// Options say what the server serves, and how. Objects, Archive, Jobs and Replays are
// required; without one of the others, what needs it is answered as not configured.
type Options struct {
	// Objects is the store that the archive is on; tokens and the audit trail are there
	// too.
	Objects objectstore.Store
	Archive *archive.Archive
	Jobs    *jobs.Store
	Replays *replay.Service
	// Redis is where the archived streams live; nil: only the archive is shown.
	Redis *redisstream.Client
	// Rebuilds, ClickHouse and Definitions are for projections: all or none.
	Rebuilds    *rebuild.Service
	ClickHouse  *chstore.Store
	Definitions func() (*projection.Set, error)
	// Digest identifies what determines a projection's table, its upcasters included;
	// default projection.Definition.Digest.
	Digest func(*projection.Definition) (string, error)
	// Include and Exclude say which streams of Redis are shown; none: all. What is archived is
	// shown anyway.
	Include, Exclude []string
	Mapping          event.Mapping

	// OIDC, if set, takes tokens of an OpenID provider too.
	OIDC *OIDC
	// Rate is how many requests a second a caller may send, and Burst how many at once;
	// default 50 and 200. Less than zero: no limit.
	Rate  float64
	Burst int
	// CORSOrigins are the origins whose scripts may call the API with a token, such as
	// "https://admin.example.com"; none: none.
	CORSOrigins []string
	// TrustedProxies are networks, such as "10.0.0.0/8", whose X-Forwarded-For is
	// believed; none: the address of a caller is that of the connection.
	TrustedProxies []string
	// SecureCookies marks cookies for TLS only also where a proxy does the TLS.
	SecureCookies bool
	// Timeout bounds an answer, default 30 s; SlowTimeout those of operations that
	// may take minutes, default 5 min.
	Timeout, SlowTimeout time.Duration
	// MaxBody bounds the body of a request in bytes; default 2 MiB.
	MaxBody int64
	// Poll is how often jobs and live streams that somebody watches are looked at, and how
	// old what is said of streams may be, which requests share; default 1 s.
	Poll time.Duration

	// Beat is how often event streams say that they live, and their tokens are looked at
	// again; default 15 s.
	Beat time.Duration
	// MaxTails bounds the live tails of streams that one caller may have at once; default 50.
	MaxTails int

	// Ready are more dependencies that readiness asks, by name.
	Ready map[string]func(context.Context) error
	// Redact hides secrets of the configuration in a text; default: nothing is hidden.
	Redact func(string) string
	// Remedy says what to do about an error that carries no remedy; default nothing.
	Remedy func(error) string

	Build      telemetry.Build
	Clock      func() time.Time      // default time.Now
	Logger     *slog.Logger          // default none
	Gatherer   prometheus.Gatherer   // of /metrics; nil: not served
	Registerer prometheus.Registerer // of metrics reservoir_http_…; nil: none
}

// Defaults of Options.
const (
	defaultRate        = 50
	defaultBurst       = 200
	defaultTimeout     = 30 * time.Second
	defaultSlowTimeout = 5 * time.Minute
	defaultMaxBody     = 2 << 20
	defaultPoll        = time.Second
	defaultBeat        = 15 * time.Second
	defaultMaxTails    = 50
)

func (o *Options) complete() {
	or(&o.Rate, defaultRate)
	or(&o.Burst, defaultBurst)
	or(&o.Timeout, defaultTimeout)
	or(&o.SlowTimeout, defaultSlowTimeout)
	or(&o.MaxBody, defaultMaxBody)
	or(&o.Poll, defaultPoll)
	or(&o.Beat, defaultBeat)
	or(&o.MaxTails, defaultMaxTails)
	if o.Redact == nil {
		o.Redact = func(text string) string { return text }
	}
	if o.Remedy == nil {
		o.Remedy = remedy.Of
	}
	if o.Digest == nil {
		o.Digest = (*projection.Definition).Digest
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func or[T comparable](value *T, fallback T) {
	if *value == *new(T) {
		*value = fallback
	}
}

func (o *Options) validate() error {
	var errs []error
	for name, missing := range map[string]bool{"Objects": o.Objects == nil, "Archive": o.Archive == nil, "Jobs": o.Jobs == nil, "Replays": o.Replays == nil} {
		if missing {
			errs = append(errs, errors.New("httpapi: Options."+name+" is required"))
		}
	}
	if all := o.Rebuilds != nil && o.ClickHouse != nil && o.Definitions != nil; !all && (o.Rebuilds != nil || o.ClickHouse != nil || o.Definitions != nil) {
		errs = append(errs, errors.New("httpapi: Options.Rebuilds, ClickHouse and Definitions go together"))
	}
	if o.OIDC != nil {
		errs = append(errs, o.OIDC.Validate())
	}
	return errors.Join(errs...)
}
