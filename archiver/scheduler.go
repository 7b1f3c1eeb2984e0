package archiver

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// pollBatch bounds how many streams one look at Redis covers.
const pollBatch = 1000

// busyPending is how many pending entries make a stream a busy one, which takes
// one of the few places for drains that need full-size buffers.
const busyPending = 50_000

// stream is what the archiver keeps of one stream between drains: no data, no
// connection, no open segment. Whoever runs its drain owns it; otherwise the
// scheduler does.
type stream struct {
	name string
	log  *archive.Log // nil until the first drain has loaded it

	info         redisstream.Info // as last seen
	seen         redisstream.Info // as last seen of this history: differs from info if that is another one
	missed       bool             // the last entry of seen is gone from Redis, or another one, and nothing says why
	present      bool             // in Redis, when last seen
	gone         bool             // from Redis, and that is recorded
	compared     bool             // with the archive, since it came
	verified     uint64           // the commit at which Redis held the head's entry; 0 when it was gone since
	settled      event.ID         // the last ID when a drain found nothing beyond the head
	pendingSince time.Time        // when entries beyond the head were first noticed
	counted      uint64           // of pending, in Progress
	next         time.Time        // when to look again
	interval     time.Duration
	failures     int
	running      bool
}

// pending returns how many entries were added beyond what is archived, a lower
// bound while the log is not loaded.
func (s *stream) pending() uint64 {
	if s.log == nil {
		return s.info.EntriesAdded
	}
	if added := s.log.EntriesAdded(); s.info.EntriesAdded > added {
		return s.info.EntriesAdded - added
	}
	return 0
}

// leaves reports whether there is anything to record of a stream that is gone.
func (s *stream) leaves() bool {
	return !s.gone && (s.log.Last() != nil || s.seen.EntriesAdded > s.log.EntriesAdded())
}

// scheduler decides which stream is drained when. Everything in it belongs to
// the goroutine of run; drains report back over done.
type scheduler struct {
	*Archiver
	streams map[string]*stream
	due     dueHeap
	light   []*stream // waiting for a place, in order
	busy    []*stream
	running struct{ light, busy int }
	done    chan outcome
}

type outcome struct {
	stream *stream
	busy   bool
	err    error
}

func newScheduler(a *Archiver) *scheduler {
	return &scheduler{
		Archiver: a,
		streams:  make(map[string]*stream),
		done:     make(chan outcome, a.opts.Concurrency),
	}
}

// run follows all streams until ctx ends; then it waits until the running
// drains have committed what they had in hand.
func (s *scheduler) run(ctx context.Context, discovered <-chan string) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			for s.running.light+s.running.busy > 0 {
				s.finish(ctx, <-s.done)
			}
			return nil
		case name := <-discovered:
			s.add(name)
		case o := <-s.done:
			s.finish(ctx, o)
		case <-timer.C:
			s.poll(ctx)
		}
		s.start(ctx)
		timer.Reset(s.untilNext())
	}
}

func (s *scheduler) add(name string) {
	if _, known := s.streams[name]; known {
		return
	}
	st := &stream{name: name, interval: s.opts.PollInterval, next: time.Now()}
	s.streams[name] = st
	heap.Push(&s.due, st)
	s.metrics.streams.Set(float64(len(s.streams)))
}

// forget drops a stream that has been gone for a while; should it come back,
// discovery finds it as it did before. Names of streams may never end.
func (s *scheduler) forget(st *stream) {
	delete(s.streams, st.name)
	s.metrics.streams.Set(float64(len(s.streams)))
	s.metrics.lag.DeleteLabelValues(streamLabel(st.name))
	s.metrics.lagTime.DeleteLabelValues(streamLabel(st.name))
}

func (s *scheduler) untilNext() time.Duration {
	if len(s.due) == 0 {
		return s.opts.PollMaxInterval
	}
	// Streams that come due together are looked at together.
	return max(time.Until(s.due[0].next), 10*time.Millisecond)
}

// poll looks at the streams that are due, in one pipelined call.
func (s *scheduler) poll(ctx context.Context) {
	now := time.Now()
	var names []string
	var witnesses []event.ID
	var due []*stream
	for len(s.due) > 0 && len(due) < pollBatch && !s.due[0].next.After(now) {
		st := heap.Pop(&s.due).(*stream)
		names, witnesses, due = append(names, st.name), append(witnesses, st.witness()), append(due, st)
	}
	if len(due) == 0 {
		return
	}
	infos, err := s.redis.InfosAt(ctx, names, witnesses)
	if err != nil {
		s.pollFailed(ctx, due, err)
		return
	}
	for i, st := range due {
		s.look(st, infos[i], witnesses[i], now)
	}
}

func (s *scheduler) pollFailed(ctx context.Context, due []*stream, err error) {
	if ctx.Err() == nil {
		s.log.Error("looking at streams failed", "error", err, "streams", len(due))
		s.metrics.errors.Inc()
	}
	for _, st := range due {
		s.retryLater(st)
	}
}

// look decides what one stream needs now. asked is what its witness was.
func (s *scheduler) look(st *stream, info redisstream.StreamInfo, asked event.ID, now time.Time) {
	if info.Err != nil && !errors.Is(info.Err, redisstream.ErrNoStream) {
		s.failed(st, info.Err)
		return
	}
	missing := info.Err != nil
	changed := st.present == missing || info.Info != st.info
	st.present = !missing
	if missing {
		st.info, st.compared = redisstream.Info{}, false
	} else {
		st.see(info.Info, asked, info.Digest)
	}
	s.observeLag(st, now)
	switch {
	case st.log == nil, missing && st.leaves():
		s.enqueue(st)
	case missing && st.interval >= s.opts.PollMaxInterval && !slices.Contains(s.opts.Include, st.name):
		s.forget(st)
	case missing || st.upToDate():
		st.pendingSince, st.failures = time.Time{}, 0
		s.sleep(st, changed, now)
	default:
		if st.pendingSince.IsZero() {
			st.pendingSince = now
		}
		if s.ripe(st, now) {
			s.enqueue(st)
		} else {
			s.sleep(st, true, now)
		}
	}
}

// ripe reports whether what is pending should be archived now: it has waited
// long enough, there is enough of it, or Redis is about to trim it.
func (s *scheduler) ripe(st *stream, now time.Time) bool {
	pending := st.pending()
	trimmed := st.info.EntriesAdded > st.info.Length
	return now.Sub(st.pendingSince) >= s.opts.Roll.Age ||
		pending >= s.opts.Roll.Count ||
		pending == 0 || st.info != st.seen || // another history: do not wait with that
		trimmed && pending*2 >= st.info.Length
}

func (s *scheduler) sleep(st *stream, active bool, now time.Time) {
	if active {
		st.interval = s.opts.PollInterval
	} else {
		st.interval = min(2*st.interval, s.opts.PollMaxInterval)
	}
	st.next = now.Add(st.interval)
	heap.Push(&s.due, st)
}

func (s *scheduler) retryLater(st *stream) {
	st.failures++
	st.next = time.Now().Add(backoff(st.failures))
	heap.Push(&s.due, st)
}

// backoff grows from about a second to about a minute, with jitter.
func backoff(failures int) time.Duration {
	d := min(time.Second<<min(failures-1, 6), time.Minute)
	return d/2 + rand.N(d)
}

func (s *scheduler) enqueue(st *stream) {
	if st.log != nil && st.pending() > busyPending {
		s.busy = append(s.busy, st)
	} else {
		s.light = append(s.light, st)
	}
}

// start gives free places to the streams that wait.
func (s *scheduler) start(ctx context.Context) {
	for len(s.busy) > 0 && s.running.busy < s.opts.MaxBusy {
		s.running.busy++
		s.launch(ctx, s.busy[0], true)
		s.busy = s.busy[1:]
	}
	for len(s.light) > 0 && s.running.light < s.opts.Concurrency {
		s.running.light++
		s.launch(ctx, s.light[0], false)
		s.light = s.light[1:]
	}
	s.othersWait.Store(len(s.busy) > 0)
}

func (s *scheduler) launch(ctx context.Context, st *stream, busy bool) {
	st.running = true
	go func() {
		err := s.drain(ctx, st, drainSpec{busy: busy})
		s.done <- outcome{stream: st, busy: busy, err: err}
	}()
}

// finish takes a stream back from its drain.
func (s *scheduler) finish(ctx context.Context, o outcome) {
	st := o.stream
	st.running = false
	if o.busy {
		s.running.busy--
	} else {
		s.running.light--
	}
	now := time.Now()
	switch {
	case o.err == nil:
		st.drained()
		st.failures = 0
		st.pendingSince = time.Time{}
		s.sleep(st, true, now)
	case errors.Is(o.err, errYield):
		s.busy = append(s.busy, st)
	case errors.Is(o.err, redisstream.ErrHistoryReplaced) && st.failures == 0:
		st.failures++
		st.next = now
		heap.Push(&s.due, st)
	case errors.Is(o.err, archive.ErrConflict):
		// Another archiver is at work on this stream: let it.
		s.log.Info("another archiver committed first", "stream", st.name)
		st.next = now.Add(rand.N(min(s.opts.Roll.Age, 5*time.Second)))
		heap.Push(&s.due, st)
	case ctx.Err() != nil:
	default:
		s.failed(st, o.err)
	}
}

func (s *scheduler) failed(st *stream, err error) {
	s.log.Error("archiving a stream failed; it is tried again", "stream", st.name, "error", err, "failures", st.failures+1)
	s.metrics.errors.Inc()
	s.retryLater(st)
}

// dueHeap orders streams by when they are looked at next.
type dueHeap []*stream

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) { *h = append(*h, x.(*stream)) }

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
