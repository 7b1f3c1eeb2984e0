package rebuild

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/upcast"
)

// Kind is the jobs.Job.Kind of rebuilds.
const Kind = "rebuild"

// Options are what rebuilds and projectors work with. Archive, Objects, Jobs,
// ClickHouse and Definitions are required.
type Options struct {
	Archive *archive.Archive
	// Objects is the store that the archive is on.
	Objects    objectstore.Store
	Jobs       *jobs.Store
	ClickHouse *chstore.Store
	// Definitions reads the definitions as they are now: it is called again and
	// again, so that a change shows.
	Definitions func() (*projection.Set, error)
	// Redis is where the archived streams live; nil: what is archived is all there is.
	Redis *redisstream.Client
	// Pushdown says how ClickHouse itself reads the objects of the archive; the zero
	// value says that it cannot.
	Pushdown  Pushdown
	Upcasters *upcast.Set // nil: none
	Mapping   event.Mapping
	// StateDir is a directory on local disk for the states of folds; required for these.
	StateDir string
	// TTL is how long a writer of a live table stays one without a sign of life; default 10 s.
	TTL    time.Duration
	Logger *slog.Logger // default none
}

// Pushdown says how ClickHouse itself reads the objects of the archive: from S3, or
// from a directory that is also on its server.
type Pushdown struct {
	S3 *chstore.S3
	// Prefix is what the keys of S3 begin with, before those of the archive: "" or
	// a path without a slash at its end.
	Prefix string
	// Dir is the absolute path of the archive's directory on the server.
	Dir string
}

// Service creates and runs rebuilds, and keeps projections live: what the command
// line, the API and the workers share. It is safe for concurrent use.
type Service struct {
	opts      Options
	documents *projection.Store
	foldEvery int // events that may have to be folded again after a crash
}

// DefaultTTL is the default of Options.TTL.
const DefaultTTL = 10 * time.Second

// New returns a Service.
func New(opts Options) (*Service, error) {
	switch {
	case opts.Archive == nil:
		return nil, errors.New("rebuild: Options.Archive is nil: give it the archive to read")
	case opts.Objects == nil:
		return nil, errors.New("rebuild: Options.Objects is nil: give it the store of the archive")
	case opts.Jobs == nil:
		return nil, errors.New("rebuild: Options.Jobs is nil: give it the store of jobs")
	case opts.ClickHouse == nil:
		return nil, errors.New("rebuild: Options.ClickHouse is nil: give it a connection")
	case opts.Definitions == nil:
		return nil, errors.New("rebuild: Options.Definitions is nil: give it the projections")
	}
	if opts.TTL <= 0 {
		opts.TTL = DefaultTTL
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{opts: opts, documents: projection.NewStore(opts.Objects), foldEvery: checkpointWarm}, nil
}

// Documents is what is known of the projections that were built.
func (s *Service) Documents() *projection.Store { return s.documents }

// Target is the jobs.Job.Target of the rebuilds of a projection.
func Target(name string) string { return "projection:" + name }

// definition reads a definition as it is now, with its digest.
func (s *Service) definition(name string) (*projection.Definition, *projection.Set, string, error) {
	set, err := s.definitions()
	if err != nil {
		return nil, nil, "", err
	}
	d, err := set.Get(name)
	if err != nil {
		return nil, nil, "", err //nolint:wrapcheck // it names the projection
	}
	digest, err := s.digest(d)
	return d, set, digest, err
}

// definitions reads all of them. One that cannot be read is perhaps being written just now.
func (s *Service) definitions() (*projection.Set, error) {
	set, err := s.opts.Definitions()
	if err != nil {
		return nil, jobs.Retry(fmt.Errorf("read the projections: %w", err))
	}
	return set, nil
}

// digest is that of a definition and of the upcasters that it uses.
func (s *Service) digest(d *projection.Definition) (string, error) {
	digest, err := d.Digest()
	if err != nil {
		return "", err //nolint:wrapcheck // it names the projection
	}
	if d.Upcast {
		digest += "+" + s.opts.Upcasters.Digest()
	}
	return digest, nil
}

// streams gives the names of the streams that a projection is made of, sorted: the
// archived ones, and those that are live only.
func (s *Service) streams(ctx context.Context, d *projection.Definition) ([]string, error) {
	names := map[string]bool{}
	for name, err := range s.opts.Archive.Streams(ctx) {
		if err != nil {
			return nil, fmt.Errorf("list the streams of the archive: %w", err)
		}
		if d.Source.MatchesStream(name) {
			names[name] = true
		}
	}
	if s.opts.Redis != nil {
		for name, err := range s.opts.Redis.Discover(ctx, d.Source.Streams, nil) {
			if err != nil {
				return nil, fmt.Errorf("look for streams: %w", err)
			}
			names[name] = true
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	return sorted, nil
}

// tableOf names the table of a generation while another one is live.
func tableOf(d *projection.Definition, generation uint64) string {
	return chstore.Table{Name: d.Table.Name}.Of(int(generation)).Name //nolint:gosec // small
}
