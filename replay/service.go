package replay

import (
	"errors"
	"log/slog"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/upcast"
)

// Kind is the jobs.Job.Kind of replays.
const Kind = "replay"

// Options are what replays work with. Archive, Jobs and Sinks are required.
type Options struct {
	Archive *archive.Archive
	Jobs    *jobs.Store
	Sinks   []SinkKind
	// Redis is where the archived streams live, for Follow; nil: no Follow.
	Redis     *redisstream.Client
	Upcasters *upcast.Set // nil: none
	Mapping   event.Mapping
	Clock     func() time.Time // default time.Now
	Logger    *slog.Logger     // default none
}

// Service creates and runs replays: what the command line, the API and the
// workers share. It is safe for concurrent use.
type Service struct {
	opts  Options
	kinds map[string]SinkKind
}

// New returns a Service.
func New(opts Options) (*Service, error) {
	switch {
	case opts.Archive == nil:
		return nil, errors.New("replay: Options.Archive is nil: give it the archive to read")
	case opts.Jobs == nil:
		return nil, errors.New("replay: Options.Jobs is nil: give it the store of jobs")
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{opts: opts, kinds: map[string]SinkKind{}}
	for _, k := range opts.Sinks {
		s.kinds[k.Type()] = k
	}
	return s, nil
}
