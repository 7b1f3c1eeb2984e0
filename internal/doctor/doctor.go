// Package doctor tries everything that a configuration names: it reaches the
// servers, does there what Reservoir will do, cleans up after itself, and says
// of each thing whether it is well and, if not, what to do about it.
package doctor

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/migrations"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/redisstream"
)

// Status is how a check ended.
type Status string

// The statuses of a check.
const (
	OK   Status = "ok"
	Warn Status = "warn" // works, but may lose data or surprise
	Fail Status = "fail" // does not work
)

// Check is one thing that was tried.
type Check struct {
	Area   string `json:"area"` // configuration, store, redis, clickhouse, projections
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"` // what was found
	Remedy string `json:"remedy,omitempty"` // what to do, unless it is well
}

// Spec says what to examine, and how to reach it.
type Spec struct {
	Config *config.Loaded
	// OpenStore opens the configured store.
	OpenStore func(context.Context) (objectstore.Store, error)
	// Probe refuses a store whose conditional writes do not hold.
	Probe func(context.Context, objectstore.Store) error
	// OpenArchive fails if what is on the store cannot be read by this version.
	OpenArchive func(context.Context, objectstore.Store) error
	// ConnectRedis connects to the configured Redis.
	ConnectRedis func(context.Context) (*redisstream.Client, error)
	// ConnectClickHouse connects to the configured ClickHouse, if there is one, and
	// ClickHouseNeeds says what else it will be asked for.
	ConnectClickHouse func(context.Context) (*chstore.Store, error)
	ClickHouseNeeds   chstore.Needs
	// Migrations gives the state of the schema there.
	Migrations func(context.Context) ([]migrations.Migration, error)
	// Projections reads the configured definitions, if there are any.
	Projections func() (*projection.Set, error)
	// Remedy says what to do about an error; it may give "".
	Remedy func(error) string
}

// Run gives the checks as they are done. One that cannot be tried because
// another failed is left out. When ctx ends, so do the checks.
func Run(ctx context.Context, spec Spec) iter.Seq[Check] {
	return func(yield func(Check) bool) {
		e := &examination{Spec: spec, yield: yield}
		e.configuration()
		e.area = "store"
		e.store(ctx)
		e.area = "redis"
		e.redis(ctx)
		e.area = "clickhouse"
		e.clickhouse(ctx)
	}
}

// examination hands on checks until its reader has enough.
type examination struct {
	Spec
	area    string
	yield   func(Check) bool
	stopped bool
}

func (e *examination) note(status Status, name, detail, remedy string) {
	if !e.stopped {
		e.stopped = !e.yield(Check{e.area, name, status, e.Config.Redact(detail), remedy})
	}
}

func (e *examination) ok(name, detail string, args ...any) {
	e.note(OK, name, fmt.Sprintf(detail, args...), "")
}

func (e *examination) warn(name, remedy, detail string, args ...any) {
	e.note(Warn, name, fmt.Sprintf(detail, args...), remedy)
}

func (e *examination) fail(name, remedy, detail string, args ...any) {
	e.note(Fail, name, fmt.Sprintf(detail, args...), remedy)
}

// failed notes an error, if there is one, with the remedy that is known for it
// or else the given one.
func (e *examination) failed(name string, err error, remedy string) bool {
	if err == nil {
		return e.stopped
	}
	if known := e.Remedy(err); known != "" {
		remedy = known
	}
	e.note(Fail, name, err.Error(), remedy)
	return true
}

func (e *examination) configuration() {
	e.area = "configuration"
	file := e.Config.File
	if file == "" {
		file = "no file; defaults, environment and flags only"
	}
	e.ok("file", "%s", file)
	if t := e.Config.Archive.Trim; t.Enabled && t.Retain == 0 {
		e.warn("trim", "set archive.trim.retain to what your consumers may have to read again",
			"archive.trim.retain is 0: entries leave Redis as soon as they are archived")
	}
	if r := e.Config.Retention; r.GCGrace.D() < time.Hour {
		e.warn("gc_grace", "set retention.gc_grace to longer than any reader or upload takes; 24h is the default",
			"retention.gc_grace is %s: garbage collection may take objects that a reader still uses or an upload is about to commit", r.GCGrace)
	}
}

// maxSkew is how far clocks may be apart before anyone should care: segments,
// retention and garbage collection go by hours.
const maxSkew = time.Minute

// clock compares another clock with the local one, to within precision.
func (e *examination) clock(whose string, skew, precision time.Duration) {
	apart := skew.Abs()
	if apart <= maxSkew+precision {
		e.ok("clock", "within %s of this machine's", max(apart, precision).Round(time.Millisecond))
		return
	}
	direction := "ahead of"
	if skew < 0 {
		direction = "behind"
	}
	e.warn("clock", "synchronise the clocks (NTP): retention, trimming and garbage collection compare them",
		"%s is %s %s this machine", whose, apart.Round(time.Second), direction)
}
