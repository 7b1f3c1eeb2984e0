// Package foldstore keeps the states of a fold while events go through it: in
// memory up to a bound, beyond that in files of a directory.
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
	"slices"

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
	// MaxBytes bounds about how much memory the states take; default DefaultMaxBytes.
	// What the store of files itself needs, about 32 MiB, comes on top once it is used.
	MaxBytes int64
}

// Store holds the states of the aggregates of one fold, or of a partition of them.
// It is not safe for concurrent use.
type Store struct {
	folder projection.Folder
	opts   Options
	disk   *pebble.DB // nil until it is needed

	// The states in memory, in two halves: what is used moves to the young one, and
	// when that is full the old one goes to disk.
	young, old map[string]*entry
	bytes      int64 // of the young ones, about

	applies   uint64
	meanBytes int64 // of an encoded state, about
	changed   map[string]struct{}
	positions map[string]projection.Position
	buffer    []byte
}

// entry is a state in memory.
type entry struct {
	state any
	seen  []seen
	dirty bool
	bytes int64
}

// seen is how far a state is in a stream.
type seen struct {
	stream string
	at     projection.Position
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
	s := &Store{
		folder: folder, opts: opts, meanBytes: 128,
		young: make(map[string]*entry), old: make(map[string]*entry), changed: make(map[string]struct{}),
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

// Apply takes an event to the state of its aggregate. applied is false for an event
// that is about none, and for one that the state has seen. An error says that the
// event cannot be used, and that nothing has changed; one that wraps ErrBroken,
// that the Store cannot.
func (s *Store) Apply(e *projection.Event) (applied bool, err error) {
	key := s.folder.Key(e)
	if key == "" {
		return false, nil
	}
	held, err := s.get(key)
	if err != nil {
		return false, err
	}
	at := projection.Position{Incarnation: e.Incarnation, ID: e.ID}
	i := slices.IndexFunc(held.seen, func(p seen) bool { return p.stream == e.Stream })
	if i >= 0 && at.Compare(held.seen[i].at) <= 0 {
		return false, nil
	}
	state, err := s.folder.Apply(held.state, e)
	if err != nil {
		return false, err
	}
	if i < 0 {
		held.seen = append(held.seen, seen{e.Stream, at})
	} else {
		held.seen[i].at = at
	}
	held.state, held.dirty = state, true
	s.changed[key] = struct{}{}
	return true, s.measure(key, held)
}

// measureEvery is how many events there are between two of whose states the size is
// measured.
const measureEvery = 32

// measure keeps account of the memory, and makes room.
func (s *Store) measure(key string, held *entry) error {
	if s.applies++; s.applies%measureEvery == 0 {
		text, err := s.folder.Encode(held.state)
		if err != nil {
			return broken("encode", key, err)
		}
		s.meanBytes += (int64(len(text)) - s.meanBytes) / 16
		bytes := footprint(key, int64(len(text)))
		s.bytes += bytes - held.bytes
		held.bytes = bytes
	}
	if s.bytes > s.opts.MaxBytes/2 {
		return s.turn()
	}
	return nil
}

// footprint is about how much memory a state takes, of an encoded size: decoded it
// is larger, and the maps have their share.
func footprint(key string, encoded int64) int64 { return 3*encoded + 2*int64(len(key)) + 256 }

// get finds the state of an aggregate, or makes one.
func (s *Store) get(key string) (*entry, error) {
	if held := s.young[key]; held != nil {
		return held, nil
	}
	held := s.old[key]
	if held == nil {
		var err error
		if held, err = s.load(key); err != nil {
			return nil, err
		}
	}
	delete(s.old, key)
	s.young[key] = held
	s.bytes += held.bytes
	return held, nil
}

// load reads a state from disk, or makes one.
func (s *Store) load(key string) (*entry, error) {
	if s.disk != nil {
		record, closer, err := s.disk.Get(stateKey(key))
		if err == nil {
			held, err := s.decode(key, record)
			return held, errors.Join(err, closer.Close())
		}
		if !errors.Is(err, pebble.ErrNotFound) {
			return nil, broken("read", key, err)
		}
	}
	return &entry{state: s.folder.Init(), bytes: footprint(key, s.meanBytes)}, nil
}

// turn writes the old half to disk, and makes the young one the old one.
func (s *Store) turn() error {
	if err := s.flush(s.old); err != nil {
		return err
	}
	s.old, s.young, s.bytes = s.young, make(map[string]*entry, len(s.old)), 0
	return nil
}

// TakeChanged gives the aggregates that were changed since it was last called, in
// order.
func (s *Store) TakeChanged() []string {
	keys := make([]string, 0, len(s.changed))
	for key := range s.changed {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	clear(s.changed)
	return keys
}

// ForgetChanged is TakeChanged for whoever does not ask which.
func (s *Store) ForgetChanged() { clear(s.changed) }

// Rows makes the rows of an aggregate.
func (s *Store) Rows(key string) ([]projection.Row, error) {
	held, err := s.get(key)
	if err != nil {
		return nil, err
	}
	rows, err := s.folder.Rows(key, held.state)
	if err != nil {
		return nil, err
	}
	if s.bytes > s.opts.MaxBytes/2 {
		return rows, s.turn()
	}
	return rows, nil
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
	if s.disk == nil {
		return nil
	}
	err := s.disk.Close()
	s.disk = nil
	if err != nil {
		return fmt.Errorf("close the states of a fold: %w", err)
	}
	return nil
}
