package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// Config says what a Consumer reads and what it does with it. Name, Redis, Streams,
// Store and Mux are required.
type Config[Tx any] struct {
	// Name identifies the consumer in the store: processes with the same name
	// share the work, another name begins anew.
	Name string
	// Redis is where the streams are.
	Redis *redisstream.Client
	// Streams are names, or patterns as in Redis's KEYS; streams that come to fit a
	// pattern are found within about 10 s.
	Streams []string
	Store   Store[Tx]
	Mux     *Mux[Tx]

	// Start is where to begin in a stream that the consumer has never been in;
	// default Beginning.
	Start Start
	// Batch is how many events share a transaction at most; default 100. What has
	// not arrived yet is not waited for. When one of them fails, the others are
	// done without it, and it alone is tried again.
	Batch int
	// Deduplicate also leaves out events with the same Record.Key as one that was
	// handled less than so long ago, in any of the streams: copies that a replay
	// sends. The store keeps one row or key for each event of that time. Default 0:
	// an event is left out only when it is at or below the position.
	Deduplicate time.Duration
	// Mapping is where envelopes are found; default event.DefaultMapping.
	Mapping event.Mapping
	Retry   Retry

	// Lease is how long a stream stays without a worker after its process
	// crashed; default 15s, at least 500ms. It is renewed three times in that time.
	Lease time.Duration
	// StopTimeout is how long Run waits, when it is to end, for the event in hand
	// before it cancels the handler's context; default 10s.
	StopTimeout time.Duration

	// Lost is called when entries were trimmed or deleted before they were read;
	// more than once for the same ones after a crash. Default: they are logged.
	Lost func(ctx context.Context, stream string, l redisstream.Loss)
	// Logger gets what goes wrong and who works on what; default none.
	Logger *slog.Logger
	// Metrics is where the metrics are registered; default nowhere.
	Metrics prometheus.Registerer
	// Traces makes a span for each event; default none.
	Traces trace.TracerProvider
}

// Retry is how an event whose handler failed is tried again: after Initial, then
// twice as long each time up to Max, each time give or take a fifth. The events
// after it wait. After Attempts it goes to the dead letters, and the consumer goes
// on. Attempts are counted in the store, across crashes and take-overs; an attempt
// that ended with its process, or with the connection to the store, does not count.
type Retry struct {
	Attempts int           // default 10
	Initial  time.Duration // default 200ms
	Max      time.Duration // default 1m
}

// Start is where a new consumer begins: Beginning, Now or After.
type Start struct {
	now   bool
	after event.ID
}

// Beginning is a Start with the first entry that the stream holds.
func Beginning() Start { return Start{} }

// Now is a Start with the first entry that is added after the consumer has first
// seen the stream.
func Now() Start { return Start{now: true} }

// After is a Start with the first entry above an ID.
func After(id event.ID) Start { return Start{after: id} }

func (c *Config[Tx]) setDefaults() {
	c.Batch = cmp.Or(c.Batch, 100)
	c.Lease = cmp.Or(c.Lease, 15*time.Second)
	c.StopTimeout = cmp.Or(c.StopTimeout, 10*time.Second)
	c.Retry.Attempts = cmp.Or(c.Retry.Attempts, 10)
	c.Retry.Initial = cmp.Or(c.Retry.Initial, 200*time.Millisecond)
	c.Retry.Max = max(cmp.Or(c.Retry.Max, time.Minute), c.Retry.Initial)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Traces == nil {
		c.Traces = noop.NewTracerProvider()
	}
}

// Validate names every field that cannot work, and what would be right.
func (c *Config[Tx]) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("consumer: Config."+format, args...)) }
	if err := checkName(c.Name); err != nil {
		bad("Name %w", err)
	}
	if c.Redis == nil {
		bad("Redis is nil: give it a client of redisstream.Connect")
	}
	if len(c.Streams) == 0 {
		bad("Streams is empty: name the streams to read")
	}
	for _, stream := range c.Streams {
		if err := checkName(stream); err != nil {
			bad("Streams: %w", err)
		}
	}
	if c.Store == nil {
		bad("Store is nil: use PostgreSQL, MySQL, Redis or AtLeastOnce")
	}
	if c.Mux == nil {
		bad("Mux is nil: make one with NewMux and register handlers")
	} else if err := c.Mux.validate(); err != nil {
		bad("Mux: %w", err)
	}
	if c.Batch < 0 || c.Batch > 10000 {
		bad("Batch is %d: from 1 to 10000", c.Batch)
	}
	if c.Lease != 0 && c.Lease < 500*time.Millisecond {
		bad("Lease is %v: at least 500ms", c.Lease)
	}
	if c.Deduplicate < 0 || c.StopTimeout < 0 || c.Retry.Attempts < 0 || c.Retry.Initial < 0 || c.Retry.Max < 0 {
		bad("Deduplicate, StopTimeout and Retry must not be negative")
	}
	if err := c.Mapping.Validate(); err != nil {
		bad("Mapping: %w", err)
	}
	return errors.Join(errs...)
}

// checkName looks at what becomes the key of a row.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > 255:
		return fmt.Errorf("%.40q… has %d bytes: at most 255", name, len(name))
	case !utf8.ValidString(name) || strings.Contains(name, "\x00"):
		return fmt.Errorf("%q is not text", name)
	}
	return nil
}
