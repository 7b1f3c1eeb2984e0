package jobs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/objectstore"
)

// scanner is one Run of a Runner.
type scanner struct {
	*Runner
	seen     map[string]*seenJob
	sessions sync.WaitGroup
	ended    chan struct{}   // told when a session is over
	busy     map[string]bool // targets found without room in this scan
}

// seenJob is what a scanner remembers of an active job.
type seenJob struct {
	listed string // ETag in the listing; "" where there is none
	since  time.Time
	job    *Job // without what is long; nil when the document cannot be used
}

func newScanner(r *Runner) *scanner {
	return &scanner{Runner: r, seen: map[string]*seenJob{}, ended: make(chan struct{}, 1)}
}

// scan looks at all active jobs once, takes those that it may, and tidies up.
func (s *scanner) scan(ctx context.Context) error {
	listed := map[string]string{}
	for info, err := range s.store.objects.List(ctx, activeDir, objectstore.ListOptions{}) {
		if err != nil {
			return err
		}
		if id := activeID(info.Key); id != "" {
			listed[id] = info.ETag
		}
	}
	if err := s.look(ctx, listed); err != nil {
		return err
	}
	s.metrics.observe(s.seen, &s.running)
	s.busy = map[string]bool{}
	var errs []error
	for _, id := range s.order() {
		if ctx.Err() != nil {
			break
		}
		if err := s.consider(ctx, s.seen[id]); err != nil {
			errs = append(errs, err)
		}
	}
	s.slots.forget()
	return errors.Join(errs...)
}

// look reads what has changed.
func (s *scanner) look(ctx context.Context, listed map[string]string) error {
	for id := range s.seen {
		if _, there := listed[id]; !there {
			delete(s.seen, id)
		}
	}
	var mu sync.Mutex // of seen
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for id, etag := range listed {
		mu.Lock()
		last := s.seen[id]
		mu.Unlock()
		if s.running.has(id) || (last != nil && etag != "" && last.listed == etag) {
			continue
		}
		g.Go(func() error {
			j, err := s.store.active(ctx, id)
			damaged := (*DocumentError)(nil)
			switch {
			case errors.Is(err, ErrNotFound):
				return nil // it has ended just now
			case errors.As(err, &damaged):
				if last == nil || last.job != nil {
					s.opts.Logger.Error("document of a job cannot be used and is left alone", "job", id, "error", err)
				}
				j = nil
			case err != nil:
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			s.see(id, etag, last, j)
			return nil
		})
	}
	return g.Wait()
}

func (s *scanner) see(id, etag string, last *seenJob, j *Job) {
	next := &seenJob{listed: etag, since: time.Now(), job: j}
	if j != nil {
		if last != nil && last.job != nil && last.job.Nonce == j.Nonce {
			next.since = last.since
		}
		brief := *j
		brief.Spec, brief.Checkpoint, brief.Log, brief.Progress = nil, nil, nil, Progress{}
		next.job = &brief
	}
	s.seen[id] = next
}

// order gives the jobs that were seen, oldest first.
func (s *scanner) order() []string {
	ids := make([]string, 0, len(s.seen))
	for id := range s.seen {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// consider does with a job what there is to do.
func (s *scanner) consider(ctx context.Context, seen *seenJob) error {
	j := seen.job
	if j == nil || s.running.has(j.ID) {
		return nil
	}
	if !j.ClosedAt.IsZero() || s.store.overdue(j) {
		full, err := s.store.active(ctx, j.ID)
		if err == nil {
			err = s.store.tidy(ctx, full)
		}
		return ignore(err, ErrNotFound)
	}
	if !j.free(seen.since) {
		return nil
	}
	if j.State != Paused && (s.opts.Engines[j.Kind] == nil || s.running.full(lane(j), s.opts.limit(j.Kind)) ||
		j.State == Pending && j.Lease == nil && s.busy[j.Target]) { // with a lease, it may be what keeps the target busy
		return nil
	}
	full, err := s.store.active(ctx, j.ID)
	if err != nil || full.Nonce != j.Nonce {
		return ignore(err, ErrNotFound)
	}
	if j.State == Paused {
		return ignore(s.store.dispossess(ctx, full), ErrChanged)
	}
	return s.take(ctx, full)
}

// lane is what a job is counted as: a job that is only cleaned up does not wait
// for those that run.
func lane(j *Job) string {
	if j.State == Cancelling {
		return j.Kind + ", cancelling"
	}
	return j.Kind
}

// take acquires a free job and begins to run it, if there is room.
func (s *scanner) take(ctx context.Context, j *Job) error {
	if !s.running.add(j.ID, lane(j), s.opts.limit(j.Kind)) {
		return nil
	}
	session, err := s.begin(ctx, j)
	if session == nil {
		s.running.remove(j.ID)
		s.busy[j.Target] = j.Target != "" && err == nil
		return ignore(err, ErrChanged)
	}
	s.sessions.Go(func() {
		if _, err := session.run(ctx); err != nil {
			s.opts.Logger.Warn("lost a job", "job", j.ID, "error", err)
		}
		s.running.remove(j.ID)
		select {
		case s.ended <- struct{}{}:
		default: // told already
		}
	})
	return nil
}
