// Package foldstore keeps the states of a fold while events go through it: in
// memory up to a bound, beyond that in files of a directory.
//
// The aggregates are split by the hash of their keys into parts, at each of which a
// goroutine of its own may work. All parts share the files, and one checkpoint: their
// states and the positions up to which they are become durable together, so it does
// not matter how many parts there were the last time.
//
// A state remembers up to which event of each stream it is. An event that it has
// seen changes nothing, so whoever starts again from a checkpoint, from which on
// some states are ahead, ends with the same states as one who was never
// interrupted.
package foldstore

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// DefaultMaxBytes is the default of Options.MaxBytes.
const DefaultMaxBytes = 128 << 20

// Options say where states are kept.
type Options struct {
	// Dir is a directory for this Store alone, which need not exist. It is on local
	// disk: whoever loses it begins again from the first event.
	Dir string
	// Identity says what the states are of, such as a job and the digest of a
	// definition. A directory with states of another identity is emptied.
	Identity string
	// MaxBytes bounds about how much memory the states of all parts take; default
	// DefaultMaxBytes. What the store of files itself needs, about 100 MiB, comes on top
	// once it is used.
	MaxBytes int64
	// Parts is how many parts there are; default 1.
	Parts int
}

// Store holds the states of the aggregates of one fold. Its parts may be used at the
// same time, each by one goroutine; Checkpoint, Each and Close by one while no part is
// used.
type Store struct {
	folder projection.Folder
	opts   Options
	parts  []*Part
	lost   string

	opening sync.Mutex                // of disk
	disk    atomic.Pointer[pebble.DB] // nil until it is needed

	positions map[string]projection.Position
	refused   atomic.Int64
}

// Open opens the Store of a directory, with what its last checkpoint left there and
// what came after it. The caller closes it.
func Open(folder projection.Folder, opts Options) (*Store, error) {
	if opts.Dir == "" {
		return nil, errors.New("open the states of a fold: no directory is given")
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	opts.Parts = max(opts.Parts, 1)
	s := &Store{folder: folder, opts: opts}
	for range opts.Parts {
		s.parts = append(s.parts, newPart(s, opts.MaxBytes/int64(opts.Parts)))
	}
	entries, err := os.ReadDir(opts.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open the states of a fold: %w", err)
	}
	if len(entries) == 0 {
		return s, nil
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// Positions are those of the last checkpoint: the events after them are to be
// applied, again or for the first time. Nil when there was none.
func (s *Store) Positions() map[string]projection.Position { return s.positions }

// Lost says why what was in the directory is not used: it was of another identity, or
// damaged. It is "" when it is used, or nothing was there.
func (s *Store) Lost() string { return s.lost }

// Parts returns how many parts there are.
func (s *Store) Parts() int { return len(s.parts) }

// Part returns a part, from 0.
func (s *Store) Part(i int) *Part { return s.parts[i] }

// PartOf says in which part an aggregate is.
func (s *Store) PartOf(key string) int { return Partition(key, len(s.parts)) }

// Partition gives one of n parts to an aggregate, always the same.
func Partition(key string, n int) int {
	hash := uint64(14695981039346656037) // FNV-1a
	for i := range len(key) {
		hash = (hash ^ uint64(key[i])) * 1099511628211
	}
	hash ^= hash >> 32 // its lower bits alone are poor
	return int(hash % uint64(n))
}

// ErrBroken is wrapped where states can no longer be read or written: the Store is
// to be closed, and what it did since the last checkpoint done again.
var ErrBroken = errors.New("states of a fold are broken")

func broken(doing, key string, err error) error {
	return remedy.Wrap(fmt.Errorf("%s the state of %.80q: %w", doing, key, errors.Join(ErrBroken, err)),
		"look for room on the disk of the directory of states; without the directory the fold begins anew")
}

// Close closes the Store. What was applied since the last checkpoint may be lost.
func (s *Store) Close() error {
	disk := s.disk.Swap(nil)
	if disk == nil {
		return nil
	}
	if err := disk.Close(); err != nil {
		return fmt.Errorf("close the states of a fold: %w", err)
	}
	return nil
}
