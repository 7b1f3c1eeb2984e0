// Package archiver drains Redis Streams into the archive, exactly once and in
// order. Its cursor is the head of each stream's commit log: a drain reads what
// lies beyond the head, writes it as segments, and commits them, so a crash at
// any moment leaves the old head or the new one. Between drains nothing of a
// stream is held, neither data nor a connection; that is how one process
// follows ten thousand quiet streams or keeps up with a very busy one.
package archiver

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/redisstream"
)

// Archiver archives the streams of one Redis into one archive. Any number of
// them may run at once, in any number of processes: only one wins each commit.
type Archiver struct {
	redis   *redisstream.Client
	archive *archive.Archive
	opts    Options
	log     *slog.Logger
	metrics *metrics

	progress   counters
	othersWait atomic.Bool // a busy stream waits for a place
}

// New returns an archiver; it connects to nothing yet. reg may be nil. An error
// names the option that cannot work.
func New(redis *redisstream.Client, arch *archive.Archive, opts Options, log *slog.Logger, reg prometheus.Registerer) (*Archiver, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("archiver options: %w", err)
	}
	return &Archiver{
		redis: redis, archive: arch, opts: opts.withDefaults(), log: log, metrics: newMetrics(reg),
	}, nil
}

// Run follows the streams until ctx ends, then commits what is in hand and
// returns nil. What fails for one stream is logged, counted and tried again; it
// does not stop the others.
func (a *Archiver) Run(ctx context.Context) error {
	discovered := make(chan string)
	ctx, stop := context.WithCancel(ctx)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		a.discover(ctx, discovered)
	}()
	defer func() {
		stop()
		<-finished
	}()
	return newScheduler(a).run(ctx, discovered)
}

// discover names every stream that matches, again and again, until ctx ends.
func (a *Archiver) discover(ctx context.Context, found chan<- string) {
	for {
		for name, err := range a.redis.Discover(ctx, a.opts.Include, a.opts.Exclude) {
			if err != nil {
				if ctx.Err() == nil {
					a.log.Error("discovering streams failed; it is tried again", "error", err)
					a.metrics.errors.Inc()
				}
				break
			}
			select {
			case found <- name:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(a.opts.DiscoverInterval):
		case <-ctx.Done():
			return
		}
	}
}

// Progress is a snapshot of what an archiver has done since it began.
type Progress struct {
	Events      uint64 `json:"events"`       // committed
	RawBytes    int64  `json:"raw_bytes"`    // of those events
	StoredBytes int64  `json:"stored_bytes"` // of the segments
	Commits     uint64 `json:"commits"`
	Gaps        uint64 `json:"gaps"`
	Lost        uint64 `json:"lost"`
	Read        uint64 `json:"read"`       // events read, committed or not yet
	ReadBytes   int64  `json:"read_bytes"` // of those events
	Pending     uint64 `json:"pending"`    // events known to wait in Redis and not read yet
}

type counters struct {
	events, commits, gaps, lost, read, pending atomic.Uint64
	rawBytes, storedBytes, readBytes           atomic.Int64
}

// Progress returns the counts so far; it may be called at any time.
func (a *Archiver) Progress() Progress {
	p := &a.progress
	return Progress{
		Events: p.events.Load(), RawBytes: p.rawBytes.Load(), StoredBytes: p.storedBytes.Load(),
		Commits: p.commits.Load(), Gaps: p.gaps.Load(), Lost: p.lost.Load(),
		Read: p.read.Load(), ReadBytes: p.readBytes.Load(), Pending: p.pending.Load(),
	}
}
