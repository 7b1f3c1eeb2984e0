package httpapi

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
)

// maxMisses is how often in a row a job may not be readable until its watchers are told.
const maxMisses = 5

// hub lets any number of watchers of a job share one reader of its document, which
// reads as long as somebody watches.
type hub struct {
	jobs  *jobs.Store
	every time.Duration

	mu     sync.Mutex
	topics map[string]*topic
}

func newHub(store *jobs.Store, every time.Duration) *hub {
	return &hub{jobs: store, every: every, topics: map[string]*topic{}}
}

// allJobs is the topic of all jobs; it is no ID.
const allJobs = ""

// topic is what watchers of the same thing share.
type topic struct {
	watchers int // guarded by the hub
	cancel   context.CancelFunc
	done     chan struct{} // the reader has ended

	mu      sync.Mutex
	changed chan struct{} // closed by the next change
	seq     uint64        // counts the changes
	found   bool          // it was looked at least once
	err     error         // no more will come
	latest  map[string]revision

	looks  int       // at all jobs; the reader's own
	looked time.Time // when it was last looked for short jobs; the reader's own
}

// revision is a job as it was when seq was counted up.
type revision struct {
	job  *jobs.Job
	seq  uint64
	gone time.Time // when it was found to have ended; zero: it has not
}

// join begins to watch; leave must be called.
func (h *hub) join(ctx context.Context, id string) (t *topic, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t = h.topics[id]
	if t == nil {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		t = &topic{cancel: cancel, done: make(chan struct{}), changed: make(chan struct{}), latest: map[string]revision{}, looked: time.Now()}
		h.topics[id] = t
		go h.read(ctx, id, t)
	}
	t.watchers++
	return t, func() { h.leave(id, t) }
}

func (h *hub) leave(id string, t *topic) {
	h.mu.Lock()
	t.watchers--
	last := t.watchers == 0
	if last {
		delete(h.topics, id)
	}
	h.mu.Unlock()
	if last {
		t.cancel()
		<-t.done
	}
}

// read looks every so often, until nobody watches any more.
func (h *hub) read(ctx context.Context, id string, t *topic) {
	defer close(t.done)
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	for misses := 0; ; {
		look := h.one
		if id == allJobs {
			look = h.all
		}
		switch err := look(ctx, id, t); {
		case ctx.Err() != nil:
			return
		case err == nil:
			misses = 0
		default:
			if misses++; misses == maxMisses || errors.Is(err, jobs.ErrNotFound) {
				t.fail(err)
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// one looks at one job.
func (h *hub) one(ctx context.Context, id string, t *topic) error {
	job, err := h.jobs.Get(ctx, id)
	if err != nil {
		return err
	}
	t.publish(job)
	t.lookedAt()
	return nil
}

// active are the states of jobs that may change.
func active() []jobs.State {
	return []jobs.State{jobs.Pending, jobs.Running, jobs.Paused, jobs.Cancelling}
}

// keepEnded is how long a job that ended is kept for watchers that are slow.
const keepEnded = 5 * time.Minute

// ended are the states of jobs that do not change any more, unless they are retried.
func ended() []jobs.State { return []jobs.State{jobs.Succeeded, jobs.Failed, jobs.Cancelled} }

// shortEvery says at every which look jobs are looked for that began and ended between two
// looks.
const shortEvery = 5

// all looks at all jobs that have not ended, once more at each that no longer is among
// them, and now and then at those that never were.
func (h *hub) all(ctx context.Context, _ string, t *topic) error {
	there := map[string]bool{}
	for job, err := range h.jobs.List(ctx, jobs.Query{States: active()}) {
		if err != nil {
			return err
		}
		there[job.ID] = true
		t.publish(job)
	}
	for _, id := range t.missing(there) {
		job, err := h.jobs.Get(ctx, id)
		if errors.Is(err, jobs.ErrNotFound) {
			t.forget(id)
			continue
		}
		if err != nil {
			return err
		}
		t.publish(job)
	}
	if err := h.short(ctx, t); err != nil {
		return err
	}
	t.lookedAt()
	return nil
}

// short publishes jobs that were created since it was last looked for them, and have ended
// already. Some may have ended before anybody watched: whose clock says when a job was
// created is not known.
func (h *hub) short(ctx context.Context, t *topic) error {
	if t.looks++; t.looks%shortEvery != 0 {
		return nil
	}
	now := time.Now()
	for job, err := range h.jobs.List(ctx, jobs.Query{States: ended(), Since: t.looked.Add(-skew)}) {
		if err != nil {
			return err
		}
		t.publish(job)
	}
	t.looked = now
	return nil
}

func (t *topic) publish(job *jobs.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.latest[job.ID]
	if known && old.job.Nonce == job.Nonce {
		return
	}
	t.seq++
	now := revision{job: job, seq: t.seq}
	if job.State.Ended() {
		now.gone = time.Now()
	}
	t.latest[job.ID] = now
	t.wake()
}

// missing gives the jobs that had not ended and are not there any more, and forgets
// those that ended a while ago.
func (t *topic) missing(there map[string]bool) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, r := range t.latest {
		switch {
		case there[id]:
		case r.gone.IsZero():
			ids = append(ids, id)
		case time.Since(r.gone) > keepEnded:
			delete(t.latest, id)
		}
	}
	return ids
}

func (t *topic) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.latest, id)
}

func (t *topic) lookedAt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.found {
		t.found = true
		t.wake()
	}
}

func (t *topic) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found, t.err = true, err
	t.wake()
}

// wake tells watchers to look; t.mu is held.
func (t *topic) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// since gives the jobs that changed after a number of changes, in the order of their
// last change, and the number by now.
func (t *topic) since(seq uint64) (list []*jobs.Job, now uint64, changed <-chan struct{}, found bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var revisions []revision
	for _, r := range t.latest {
		if r.seq > seq {
			revisions = append(revisions, r)
		}
	}
	sortRevisions(revisions)
	for _, r := range revisions {
		list = append(list, r.job)
	}
	return list, t.seq, t.changed, t.found, t.err
}

// first waits until it was looked for the first time.
func (t *topic) first(ctx context.Context) ([]*jobs.Job, error) {
	for {
		list, _, changed, found, err := t.since(0)
		if found {
			return list, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
	}
}

func sortRevisions(list []revision) {
	slices.SortFunc(list, func(a, b revision) int { return cmp.Compare(a.seq, b.seq) })
}
