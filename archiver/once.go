package archiver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/redisstream"
)

// onceAttempts is how often Once tries a stream that fails or is contended,
// with a growing pause in between, before it leaves it.
const onceAttempts = 5

// Summary is what one Once did.
type Summary struct {
	Streams int           `json:"streams"`
	Took    time.Duration `json:"took_ns"`
	Progress
	// Left are the streams that could not be drained to where they were when
	// Once began, with the reasons.
	Left []Left `json:"left,omitempty"`
}

// Left names a stream that was not drained, and why.
type Left struct {
	Stream string `json:"stream"`
	Err    error  `json:"-"`
	Reason string `json:"reason"`
}

// Once drains every stream at least to the position that was its last when Once
// looked at it, and returns. Streams that cannot be drained do not stop the others;
// they are named in the summary. The error is only for what concerns all of
// them, and for ctx: then what was in hand is committed.
func (a *Archiver) Once(ctx context.Context) (Summary, error) {
	began := time.Now()
	o := &once{Archiver: a, light: make(chan struct{}, a.opts.Concurrency), busy: make(chan struct{}, a.opts.MaxBusy)}
	err := o.all(ctx)
	o.drains.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return Summary{Streams: o.streams, Took: time.Since(began), Progress: a.Progress(), Left: o.left}, err
}

type once struct {
	*Archiver
	light, busy chan struct{} // places
	drains      sync.WaitGroup
	streams     int

	mu   sync.Mutex
	left []Left
}

// all starts a drain of every stream that Redis has, and of every one that only
// the archive has: its key is gone, which may be a loss.
func (o *once) all(ctx context.Context) error {
	inRedis := map[string]bool{}
	chunk := make([]string, 0, pollBatch)
	flush := func() error {
		err := o.chunk(ctx, chunk)
		chunk = chunk[:0]
		return err
	}
	add := func(name string) error {
		if inRedis[name] {
			return nil
		}
		inRedis[name] = true
		if chunk = append(chunk, name); len(chunk) < pollBatch {
			return nil
		}
		return flush()
	}
	for name, err := range o.redis.Discover(ctx, o.opts.Include, o.opts.Exclude) {
		if err == nil {
			err = add(name)
		}
		if err != nil {
			return fmt.Errorf("discover streams: %w", err)
		}
	}
	for name, err := range o.archive.Streams(ctx) {
		if err == nil && redisstream.Selected(name, o.opts.Include, o.opts.Exclude) {
			err = add(name)
		}
		if err != nil {
			return fmt.Errorf("list archived streams: %w", err)
		}
	}
	return flush()
}

func (o *once) chunk(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	infos, err := o.redis.Infos(ctx, names)
	if err != nil {
		return fmt.Errorf("look at streams: %w", err)
	}
	for i, name := range names {
		o.streams++
		info := infos[i]
		if info.Err != nil && !errors.Is(info.Err, redisstream.ErrNoStream) {
			o.leave(name, info.Err)
			continue
		}
		select {
		case o.light <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		o.drains.Go(func() {
			defer func() { <-o.light }()
			st := &stream{name: name, info: info.Info, present: info.Err == nil}
			if err := o.one(ctx, st); err != nil {
				o.leave(name, err)
			}
		})
	}
	return nil
}

func (o *once) leave(stream string, err error) {
	o.metrics.errors.Inc()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = append(o.left, Left{Stream: stream, Err: err, Reason: err.Error()})
}

// one drains one stream.
func (o *once) one(ctx context.Context, st *stream) error {
	until := st.info.LastGeneratedID
	if err := o.retry(ctx, st, func() error { return o.loadLog(ctx, st) }); err != nil {
		return err
	}
	if !st.present && st.log.Last() == nil {
		if st.log.Incarnation() > 1 {
			return nil // gone once more
		}
		return fmt.Errorf("%w: there is no stream of this name in Redis, and none was archived", redisstream.ErrNoStream)
	}
	if st.pending() > busyPending {
		select {
		case o.busy <- struct{}{}:
			defer func() { <-o.busy }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	o.observeLag(st, time.Now())
	return o.retry(ctx, st, func() error { return o.drain(ctx, st, drainSpec{until: until}) })
}

// retry does again what may pass.
func (o *once) retry(ctx context.Context, st *stream, do func() error) error {
	for attempt := 1; ; attempt++ {
		err := do()
		if err == nil || ctx.Err() != nil || attempt == onceAttempts || !retryable(err) {
			return err
		}
		pause := time.Duration(attempt) * (100*time.Millisecond + rand.N(200*time.Millisecond))
		o.log.Warn("archiving a stream failed; it is tried again", "stream", st.name, "error", err, "attempt", attempt)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// retryable reports whether trying again soon may help.
func retryable(err error) bool {
	var tooLarge *redisstream.TooLargeError
	return !errors.As(err, &tooLarge) && !errors.Is(err, redisstream.ErrNotStream) && !errors.Is(err, archive.ErrNewerVersion)
}
