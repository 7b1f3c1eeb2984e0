package foldstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reservoirhq/reservoir/projection"
)

// Aggregate is what a fold made of one.
type Aggregate struct {
	Key  string
	Rows []projection.Row
	// Err says why there are no rows of it.
	Err error
}

// eachBatch is how many states are handed to a worker at once, and eachBytes about
// how large they may be.
const (
	eachBatch = 512
	eachBytes = 1 << 20
)

// record is a state on its way to a worker: in memory, or as it is on disk.
type record struct {
	key  string
	held *entry
	text []byte
}

// Each gives every aggregate that an event was applied to, each once, to one of some
// workers, which run at once. do gets the worker's number, from 0. For each worker the
// keys grow. The first error ends it.
func (s *Store) Each(ctx context.Context, workers int, do func(ctx context.Context, worker int, a Aggregate) error) error {
	group, ctx := errgroup.WithContext(ctx)
	batches := make(chan []record, workers)
	group.Go(func() error {
		defer close(batches)
		return s.hand(ctx, batches)
	})
	for worker := range workers {
		group.Go(func() error {
			for batch := range batches {
				for _, r := range batch {
					if err := s.one(ctx, worker, r, do); err != nil {
						return err
					}
				}
			}
			return context.Cause(ctx)
		})
	}
	return group.Wait()
}

func (s *Store) one(ctx context.Context, worker int, r record, do func(context.Context, int, Aggregate) error) error {
	if r.held == nil {
		var err error
		if r.held, err = s.decode(r.key, r.text); err != nil {
			return err
		}
	}
	if len(r.held.seen) == 0 {
		return nil
	}
	rows, err := s.folder.Rows(r.key, r.held.state)
	return do(ctx, worker, Aggregate{r.key, rows, err})
}

// hand sends all states.
func (s *Store) hand(ctx context.Context, to chan<- []record) error {
	var batch []record
	bytes := 0
	send := func() error {
		select {
		case to <- batch:
			batch, bytes = nil, 0
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for r, err := range s.records(ctx) {
		if err != nil {
			return err
		}
		batch = append(batch, r)
		if bytes += len(r.text); len(batch) >= eachBatch || bytes >= eachBytes {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

// records gives all states in the order of their keys.
func (s *Store) records(ctx context.Context) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		if s.disk.Load() == nil {
			s.inMemory(yield)
			return
		}
		if err := s.onDisk(ctx, yield); err != nil {
			yield(record{}, err)
		}
	}
}

func (s *Store) inMemory(yield func(record, error) bool) {
	all := map[string]*entry{}
	for _, p := range s.parts {
		maps.Copy(all, p.old)
		maps.Copy(all, p.young)
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !yield(record{key: key, held: all[key]}, nil) {
			return
		}
	}
}

func (s *Store) onDisk(ctx context.Context, yield func(record, error) bool) (err error) {
	disk, err := s.flushAll()
	if err != nil {
		return err
	}
	states, err := disk.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: []byte{statePrefix}, UpperBound: []byte{statePrefix + 1}})
	if err != nil {
		return fmt.Errorf("read the states of a fold: %w", err)
	}
	defer func() { err = errors.Join(err, states.Close()) }()
	for ok := states.First(); ok; ok = states.Next() {
		text := states.Value()
		if !yield(record{key: keyOfState(states.Key()), text: append(make([]byte, 0, len(text)), text...)}, nil) {
			return nil
		}
	}
	return states.Error()
}
