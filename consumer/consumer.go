package consumer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// Consumer handles the events of its streams. One process needs one Consumer of a
// name; Run it once.
type Consumer[Tx any] struct {
	cfg     Config[Tx]
	owner   string
	metrics *metrics
}

// New returns a Consumer. It reaches for nothing yet.
func New[Tx any](cfg Config[Tx]) (*Consumer[Tx], error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	m, err := newMetrics(cfg.Metrics, cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("consumer: register metrics: %w", err)
	}
	return &Consumer[Tx]{cfg: cfg, owner: fmt.Sprintf("%.100s/%d/%s", host, os.Getpid(), rand.Text()), metrics: m}, nil
}

// Run handles events until ctx ends, and then returns nil: after the event in hand
// is done or rolled back and the leases are released. When it begins the store must
// be there, with its tables (ErrNotMigrated): that is the only error. What cannot be
// reached later is waited for.
func (c *Consumer[Tx]) Run(ctx context.Context) error {
	if err := c.cfg.Store.check(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("consumer %q: %w", c.cfg.Name, err)
	}
	r := &runner[Tx]{Consumer: c, workers: map[string]*worker[Tx]{}, retryAt: map[string]delay{}, done: make(chan *worker[Tx])}
	r.loop(ctx)
	return nil
}

// Seek moves a consumer's position in a stream to an ID: the next event that it
// handles is the first one above. A worker that is on the stream is fenced and goes
// on from there. It is how to handle events again, or to go on after a stream was
// deleted and made anew.
func (c *Consumer[Tx]) Seek(ctx context.Context, stream string, position event.ID) error {
	at := checkpoint{set: true, position: position, added: -1}
	if err := c.cfg.Store.seek(ctx, place{c.cfg.Name, stream}, at); err != nil {
		return fmt.Errorf("consumer %q, stream %q: %w", c.cfg.Name, stream, err)
	}
	return nil
}

// runner shares the streams out among processes and keeps a worker for each of ours.
type runner[Tx any] struct {
	*Consumer[Tx]
	workers map[string]*worker[Tx] // by stream
	retryAt map[string]delay
	done    chan *worker[Tx]
	running sync.WaitGroup

	streams      []string
	discovered   time.Time
	members      int
	joinedAt     time.Time
	lastComplain time.Time
}

// delay is how long a stream is left alone after its worker failed.
type delay struct {
	until time.Time
	tries int
}

const (
	discoverEvery = 10 * time.Second
	pruneEvery    = time.Minute
	lastWords     = 5 * time.Second // for leases and positions when Run ends
)

func (r *runner[Tx]) loop(ctx context.Context) {
	if r.cfg.Deduplicate > 0 {
		r.running.Go(func() { r.prune(ctx) })
	}
	tick := time.NewTicker(min(max(r.cfg.Lease/10, 50*time.Millisecond), time.Second))
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := r.round(ctx); err != nil && ctx.Err() == nil && time.Since(r.lastComplain) > time.Second {
			r.cfg.Logger.Warn("consumer cannot share out its streams, will try again", "consumer", r.cfg.Name, "error", err)
			r.lastComplain = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case w := <-r.done:
			r.ended(w)
		}
	}
	for _, w := range r.workers {
		w.stop()
	}
	for len(r.workers) > 0 {
		r.ended(<-r.done)
	}
	r.running.Wait()
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := r.cfg.Store.leave(bye, r.cfg.Name, r.owner); err != nil {
		r.cfg.Logger.Warn("consumer could not say that it has ended", "consumer", r.cfg.Name, "error", err)
	}
}

// prune forgets old keys of events now and then, until ctx ends.
func (r *runner[Tx]) prune(ctx context.Context) {
	for {
		if err := r.cfg.Store.prune(ctx, r.cfg.Name, r.cfg.Deduplicate); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("consumer cannot forget old event keys, will try again", "consumer", r.cfg.Name, "error", err)
		}
		if sleep(ctx, pruneEvery) != nil {
			return
		}
	}
}

// round looks at who is there and at which streams there are, takes streams up to
// our share of them, and gives up what is beyond it.
func (r *runner[Tx]) round(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	share := (len(r.streams) + r.members - 1) / r.members
	staying := 0
	for _, w := range r.workers {
		if w.stopping() {
			continue
		}
		if staying++; staying > share {
			w.stop()
		}
	}
	for _, stream := range r.streams {
		if len(r.workers) >= share {
			break
		}
		if r.workers[stream] != nil || time.Now().Before(r.retryAt[stream].until) {
			continue
		}
		l, at, ok, err := r.cfg.Store.acquire(ctx, place{r.cfg.Name, stream}, r.owner, r.cfg.Lease)
		if err != nil {
			return err
		}
		if ok {
			l.dedup = r.cfg.Deduplicate
			r.start(ctx, l, at)
		}
	}
	return nil
}

// look brings up to date what round decides on.
func (r *runner[Tx]) look(ctx context.Context) error {
	if time.Since(r.joinedAt) > r.cfg.Lease/3 {
		n, err := r.cfg.Store.join(ctx, r.cfg.Name, r.owner, r.cfg.Lease)
		if err != nil {
			return err
		}
		r.members, r.joinedAt = max(n, 1), time.Now()
	}
	if time.Since(r.discovered) > discoverEvery {
		var streams []string
		for stream, err := range r.cfg.Redis.Discover(ctx, r.cfg.Streams, nil) {
			if err != nil {
				return err
			}
			if err := checkName(stream); err != nil {
				r.cfg.Logger.Warn("stream cannot be consumed", "consumer", r.cfg.Name, "error", fmt.Errorf("its name %w", err))
				continue
			}
			streams = append(streams, stream)
		}
		r.streams, r.discovered = streams, time.Now()
	}
	return nil
}

func (r *runner[Tx]) start(ctx context.Context, l lease, at checkpoint) {
	w := newWorker(r.Consumer, l, at)
	r.workers[l.stream] = w
	r.cfg.Logger.Info("consumer works on stream", "consumer", l.consumer, "stream", l.stream, "position", at.position, "epoch", l.epoch)
	work, stop := context.WithCancel(ctx)
	w.stop = stop
	w.stopping = func() bool { return work.Err() != nil }
	r.running.Go(func() {
		defer stop()
		w.err = w.run(work)
		r.done <- w
	})
}

// ended takes note of a worker that has returned.
func (r *runner[Tx]) ended(w *worker[Tx]) {
	stream := w.lease.stream
	delete(r.workers, stream)
	if w.err == nil {
		delete(r.retryAt, stream)
		return
	}
	tries := r.retryAt[stream].tries + 1
	if w.moved {
		tries = 1
	}
	wait := backoff(Retry{Initial: 100 * time.Millisecond, Max: 5 * time.Second}, tries)
	r.retryAt[stream] = delay{time.Now().Add(wait), tries}
	level, text := r.cfg.Logger.Warn, "consumer's worker failed, will try again"
	switch {
	case errors.Is(w.err, ErrFenced):
		level, text = r.cfg.Logger.Info, "consumer's stream was taken over"
	case errors.Is(w.err, redisstream.ErrHistoryReplaced):
		level = r.cfg.Logger.Error
	}
	level(text, "consumer", r.cfg.Name, "stream", stream, "error", w.err, "wait", wait)
}
