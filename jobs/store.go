package jobs

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// DefaultKeepFailed is the default of StoreOptions.KeepFailed.
const DefaultKeepFailed = 30 * 24 * time.Hour

// StoreOptions tune a Store. The zero value is the default.
type StoreOptions struct {
	// KeepFailed is how long a failed job can be retried before it is closed;
	// default DefaultKeepFailed. Less than zero closes it at once.
	KeepFailed time.Duration
	Logger     *slog.Logger // default none
}

// Store keeps the documents of jobs on the object store, under "jobs/". It is
// safe for concurrent use, and so are any number of Stores on the same bucket.
type Store struct {
	objects objectstore.Store
	opts    StoreOptions
}

// NewStore returns the Store of the jobs below the root of objects.
func NewStore(objects objectstore.Store, opts StoreOptions) *Store {
	if opts.KeepFailed == 0 {
		opts.KeepFailed = DefaultKeepFailed
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Store{objects, opts}
}

var errMissing = errors.New("not there yet")

// Get returns a job, active or ended. The error wraps ErrNotFound when there is
// none of that ID, and is a *DocumentError when its document cannot be used.
func (s *Store) Get(ctx context.Context, id string) (*Job, error) { return nil, errMissing }

// List gives the jobs that q selects, newest first. Documents of ended jobs are
// read one by one as they are given, and those that States, Kinds and the time
// rule out are not read at all. It is no snapshot, but a job that is there all
// the time is given once.
//
// A job whose document cannot be used is given with nothing but its ID and
// Damaged set, if q selects by nothing but time.
func (s *Store) List(ctx context.Context, q Query) iter.Seq2[*Job, error] {
	return func(yield func(*Job, error) bool) { yield(nil, errMissing) }
}

// Watch gives the job as it is, and then every revision that it sees by looking
// every so often, until one that has ended. It may miss revisions in between.
func (s *Store) Watch(ctx context.Context, id string, every time.Duration) iter.Seq2[*Job, error] {
	return func(yield func(*Job, error) bool) { yield(nil, errMissing) }
}

// Pause makes a pending or running job paused. Its worker, if it has one, stops
// soon after: Job.Lease is nil when it has.
func (s *Store) Pause(ctx context.Context, id string, c Change) (*Job, error) {
	return nil, errMissing
}

// Resume makes a paused job pending, from where it was.
func (s *Store) Resume(ctx context.Context, id string, c Change) (*Job, error) {
	return nil, errMissing
}

// Cancel makes a job that has not succeeded cancelling; a worker then cleans up
// and makes it cancelled.
func (s *Store) Cancel(ctx context.Context, id string, c Change) (*Job, error) {
	return nil, errMissing
}

// Retry makes a failed job pending, from where it was.
func (s *Store) Retry(ctx context.Context, id string, c Change) (*Job, error) {
	return nil, errMissing
}

// Files is the part of the object store that is the job's alone.
func (s *Store) Files(id string) objectstore.Store {
	return objectstore.WithPrefix(s.objects, "jobs/files/"+id)
}

// Create makes a job and returns it.
func (s *Store) Create(ctx context.Context, n New) (*Job, error) { return nil, errMissing }

// Sweep closes the failed jobs that were kept long enough, and moves what is
// closed to the ended ones. Runners do it all the time.
func (s *Store) Sweep(ctx context.Context) error { return errMissing }

// Prune deletes the closed jobs that were created before a time, with their
// files, and the idempotency keys that were used before it. It returns how many
// jobs it deleted.
func (s *Store) Prune(ctx context.Context, before time.Time) (int, error) { return 0, errMissing }
