package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// ErrNoDeadLetter is wrapped when a replay has no dead letter of that key.
var ErrNoDeadLetter = errors.New("no such dead letter")

const listLetters = "`reservoir replay dead-letters list` shows those that there are."

// replayJob gets a job, which must be a replay, and its spec.
func (s *Service) replayJob(ctx context.Context, id string) (*jobs.Job, *Spec, error) {
	job, err := s.opts.Jobs.Get(ctx, id)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // it names the job
	}
	if job.Kind != Kind {
		return nil, nil, fmt.Errorf("%w: job %s is a %s, not a replay", jobs.ErrNotFound, id, job.Kind)
	}
	spec := &Spec{}
	if err := json.Unmarshal(job.Spec, spec); err != nil {
		return nil, nil, fmt.Errorf("read the spec of replay %s: %w", id, err)
	}
	return job, spec, nil
}

// DeadLetters gives what a replay has set aside after the letter of that key, in
// the order of the replay. Letters that are removed meanwhile are left out.
func (s *Service) DeadLetters(ctx context.Context, id, after string) iter.Seq2[*DeadLetter, error] {
	return func(yield func(*DeadLetter, error) bool) {
		if _, _, err := s.replayJob(ctx, id); err != nil {
			yield(nil, err)
			return
		}
		for d, err := range deadLetters(ctx, s.opts.Jobs.Files(id), after) {
			if !yield(d, err) {
				return
			}
		}
	}
}

// DeadLetter gets one dead letter. The error wraps ErrNoDeadLetter when there is
// none of that key.
func (s *Service) DeadLetter(ctx context.Context, id, key string) (*DeadLetter, error) {
	if _, _, err := s.replayJob(ctx, id); err != nil {
		return nil, err
	}
	return s.deadLetter(ctx, id, key)
}

func (s *Service) deadLetter(ctx context.Context, id, key string) (*DeadLetter, error) {
	if err := checkDeadLetterKey(key); err != nil {
		return nil, err
	}
	d, err := readDeadLetter(ctx, s.opts.Jobs.Files(id), key)
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, remedy.Wrap(fmt.Errorf("replay %s: %w: %s", id, ErrNoDeadLetter, key), listLetters)
	}
	return d, err
}

// RetryDeadLetters creates a replay of dead letters of another one, of all of
// them or of those with the given keys, into the same sink and by the same
// policy, as fast as the sink takes them. Each letter is removed when it was
// sent. The name in opts defaults to "retry of" the other's.
func (s *Service) RetryDeadLetters(ctx context.Context, id string, keys []string, opts CreateOptions) (*jobs.Job, error) {
	job, spec, err := s.replayJob(ctx, id)
	if err != nil {
		return nil, err
	}
	if opts.Name == "" {
		opts.Name = "retry of " + id
		if job.Name != "" {
			opts.Name = "retry of " + job.Name
		}
	}
	return s.Create(ctx, Spec{
		DeadLettersOf: id, DeadLetters: keys, Order: spec.Order, Upcast: spec.Upcast,
		Sink: spec.Sink, BackPressure: spec.BackPressure, Failures: spec.Failures,
	}, opts)
}

// PurgeDeadLetters removes dead letters for good: all of them, or those with the
// given keys. It returns how many it removed, also when it fails half-way.
func (s *Service) PurgeDeadLetters(ctx context.Context, id string, keys []string) (int, error) {
	if _, _, err := s.replayJob(ctx, id); err != nil {
		return 0, err
	}
	files := s.opts.Jobs.Files(id)
	if len(keys) == 0 {
		var err error
		if keys, err = deadLetterKeys(ctx, files, ""); err != nil {
			return 0, err
		}
	} else {
		for _, key := range keys {
			if _, err := s.deadLetter(ctx, id, key); err != nil {
				return 0, err
			}
		}
	}
	for n, key := range keys {
		if err := deleteDeadLetter(ctx, files, key); err != nil {
			return n, err
		}
	}
	return len(keys), nil
}

// resolveDeadLetters finds out what a replay of dead letters reads. Its streams
// are those of the other replay, so that positions mean the same.
func (s *Service) resolveDeadLetters(ctx context.Context, spec *Spec, f *Frozen) error {
	id := spec.DeadLettersOf
	if _, _, err := s.replayJob(ctx, id); err != nil {
		return &FieldError{Field: "dead_letters_of", Value: id, Err: err, Want: "`reservoir replay list --all` shows the replays that there are."}
	}
	other, err := s.Plan(ctx, id)
	if err != nil {
		return err
	}
	f.Streams = other.Streams
	f.Events = uint64(len(spec.DeadLetters))
	for _, key := range spec.DeadLetters {
		if _, err := s.deadLetter(ctx, id, key); err != nil {
			return err
		}
	}
	if len(spec.DeadLetters) > 0 {
		return nil
	}
	keys, err := deadLetterKeys(ctx, s.opts.Jobs.Files(id), "")
	if err != nil {
		return err
	}
	if f.Events = uint64(len(keys)); len(keys) == 0 {
		return remedy.Wrap(fmt.Errorf("%w: replay %s has no dead letters", ErrNothing, id), "There is nothing to do.")
	}
	return nil
}
