package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/reservoirhq/reservoir/internal/recent"
	"github.com/reservoirhq/reservoir/objectstore"
)

// DefaultKeepFailed is the default of StoreOptions.KeepFailed.
const DefaultKeepFailed = 30 * 24 * time.Hour

// StoreOptions tune a Store. The zero value is the default.
type StoreOptions struct {
	// KeepFailed is how long a failed job can be retried before a worker cleans up
	// after it and closes it; default DefaultKeepFailed. Less than zero is at once.
	KeepFailed time.Duration
	// KeepEnded is how long a closed job is kept, with its files; then a Runner deletes
	// it. 0 is for ever.
	KeepEnded time.Duration
	Logger    *slog.Logger // default none
}

// Store keeps the documents of jobs on the object store, under "jobs/". It is
// safe for concurrent use, and so are any number of Stores on the same bucket.
type Store struct {
	objects objectstore.Store
	opts    StoreOptions
	listed  *recent.Cache[*Job] // by key; nobody changes them
}

// maxListed bounds the bytes of memory for documents that were read for lists.
const maxListed = 8 << 20

// NewStore returns the Store of the jobs below the root of objects.
func NewStore(objects objectstore.Store, opts StoreOptions) *Store {
	if opts.KeepFailed == 0 {
		opts.KeepFailed = DefaultKeepFailed
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Store{objects, opts, recent.New[*Job](maxListed)}
}

// Get returns a job, active or ended. The error wraps ErrNotFound when there is
// none of that ID, and a *DocumentError when its document cannot be used.
func (s *Store) Get(ctx context.Context, id string) (*Job, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	j, err := s.get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	return j, nil
}

// get looks where a job may be: it is written to the ended ones before it is
// removed from the active ones. It looks at those once more because it may
// just have been created.
func (s *Store) get(ctx context.Context, id string) (*Job, error) {
	for _, look := range []func(context.Context, string) (*Job, error){s.active, s.ended, s.active} {
		j, err := look(ctx, id)
		if !errors.Is(err, ErrNotFound) {
			return j, err
		}
	}
	return nil, ErrNotFound
}

func (s *Store) active(ctx context.Context, id string) (*Job, error) {
	return s.orNotFound(s.read(ctx, id, activeKey(id)))
}

func (s *Store) ended(ctx context.Context, id string) (*Job, error) {
	for info, err := range s.objects.List(ctx, endedPrefix(id), objectstore.ListOptions{}) {
		if err != nil {
			return nil, err
		}
		return s.orNotFound(s.read(ctx, id, info.Key))
	}
	return nil, ErrNotFound
}

func (s *Store) orNotFound(j *Job, err error) (*Job, error) {
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, ErrNotFound
	}
	return j, err
}

// Files is the part of the object store that is the job's alone.
func (s *Store) Files(id string) objectstore.Store {
	return objectstore.WithPrefix(s.objects, filesDir+id)
}
