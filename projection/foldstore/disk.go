package foldstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// The keys on disk: one for the checkpoint, and the aggregates'.
const (
	checkpointPrefix = 0
	statePrefix      = 1
	formatVersion    = 1
)

func checkpointKey() []byte        { return []byte{checkpointPrefix} }
func stateKey(key string) []byte   { return append([]byte{statePrefix}, key...) }
func keyOfState(key []byte) string { return string(key[1:]) }

// checkpoint is what is kept beside the states.
type checkpoint struct {
	Version   int                            `json:"version"`
	Identity  string                         `json:"identity"`
	Positions map[string]projection.Position `json:"positions"`
}

const (
	cacheBytes    = 8 << 20
	memTableBytes = 8 << 20
)

// open opens the directory; one of another identity is emptied first.
func (s *Store) open() error {
	disk, err := openDisk(s.opts.Dir)
	if err != nil {
		return err
	}
	s.disk = disk
	kept, err := s.readCheckpoint()
	if err != nil {
		return errors.Join(err, s.Close())
	}
	if kept == nil || kept.Version != formatVersion || kept.Identity != s.opts.Identity {
		if err := s.Close(); err != nil {
			return err
		}
		if err := os.RemoveAll(s.opts.Dir); err != nil {
			return fmt.Errorf("empty the directory of states: %w", err)
		}
		return nil // it is made anew when it is needed
	}
	s.positions = kept.Positions
	return nil
}

func openDisk(dir string) (*pebble.DB, error) {
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	options := &pebble.Options{Cache: cache, MemTableSize: memTableBytes, MaxOpenFiles: 200, Logger: quiet{}}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most aggregates that are looked for are new
	}
	disk, err := pebble.Open(dir, options)
	if err != nil {
		return nil, fmt.Errorf("open the directory of states %s: %w", dir, err)
	}
	return disk, nil
}

func (s *Store) readCheckpoint() (*checkpoint, error) {
	text, closer, err := s.disk.Get(checkpointKey())
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint of a fold: %w", err)
	}
	var kept checkpoint
	err = errors.Join(json.Unmarshal(text, &kept), closer.Close())
	return &kept, err
}

// needDisk opens the directory, and says whose it is.
func (s *Store) needDisk() error {
	if s.disk != nil {
		return nil
	}
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of states: %w", errors.Join(ErrBroken, err))
	}
	disk, err := openDisk(s.opts.Dir)
	if err != nil {
		return errors.Join(ErrBroken, err)
	}
	s.disk = disk
	return s.writeCheckpoint(s.positions)
}

func (s *Store) writeCheckpoint(positions map[string]projection.Position) error {
	text, err := json.Marshal(checkpoint{formatVersion, s.opts.Identity, positions})
	if err == nil {
		// What was written before is in the log before it, and durable with it.
		err = s.disk.Set(checkpointKey(), text, pebble.Sync)
	}
	if err != nil {
		return fmt.Errorf("write the checkpoint of a fold: %w", errors.Join(ErrBroken, err))
	}
	return nil
}

// Checkpoint makes what was applied durable, together with the positions up to
// which that is. It returns when both are on disk.
func (s *Store) Checkpoint(positions map[string]projection.Position) error {
	if err := s.flushAll(); err != nil {
		return err
	}
	if err := s.writeCheckpoint(positions); err != nil {
		return err
	}
	s.positions = maps.Clone(positions)
	return nil
}

func (s *Store) flushAll() error {
	if err := s.needDisk(); err != nil {
		return err
	}
	return errors.Join(s.flush(s.old), s.flush(s.young))
}

// maxBatch bounds the bytes that are written to disk at once.
const maxBatch = 1 << 20

// flush writes what was changed of some states.
func (s *Store) flush(entries map[string]*entry) (err error) {
	if err := s.needDisk(); err != nil {
		return err
	}
	batch := s.disk.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	for key, held := range entries {
		if !held.dirty {
			continue
		}
		if s.buffer, err = s.encode(s.buffer[:0], held); err != nil {
			return broken("encode", key, err)
		}
		if err := batch.Set(stateKey(key), s.buffer, nil); err != nil {
			return broken("write", key, err)
		}
		held.dirty = false
		if batch.Len() > maxBatch {
			if err := batch.Commit(pebble.NoSync); err != nil {
				return broken("write", key, err)
			}
			batch.Reset()
		}
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write the states of a fold: %w", errors.Join(ErrBroken, err))
	}
	return nil
}

// encode appends a state: how many streams it has seen, each with its name and
// position, and the state itself.
func (s *Store) encode(to []byte, held *entry) ([]byte, error) {
	text, err := s.folder.Encode(held.state)
	if err != nil {
		return nil, err
	}
	s.meanBytes += (int64(len(text)) - s.meanBytes) / 16
	to = binary.AppendUvarint(to, uint64(len(held.seen)))
	for _, p := range held.seen {
		to = binary.AppendUvarint(to, uint64(len(p.stream)))
		to = append(to, p.stream...)
		to = binary.AppendVarint(to, int64(p.at.Incarnation))
		to = binary.AppendUvarint(to, p.at.ID.Ms)
		to = binary.AppendUvarint(to, p.at.ID.Seq)
	}
	return append(to, text...), nil
}

// decode reads what encode wrote.
func (s *Store) decode(key string, record []byte) (*entry, error) {
	r := &recordReader{rest: record}
	held := &entry{}
	for range r.uvarint() {
		name := r.bytes(r.uvarint())
		at := projection.Position{Incarnation: int(r.varint()), ID: event.ID{Ms: r.uvarint(), Seq: r.uvarint()}}
		if r.bad {
			break
		}
		held.seen = append(held.seen, seen{string(name), at})
	}
	if r.bad {
		return nil, broken("read", key, errors.New("its record is damaged"))
	}
	state, err := s.folder.Decode(r.rest)
	if err != nil {
		return nil, broken("decode", key, err)
	}
	held.state, held.bytes = state, footprint(key, int64(len(r.rest)))
	return held, nil
}

// recordReader reads numbers and texts until something is wrong.
type recordReader struct {
	rest []byte
	bad  bool
}

func (r *recordReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *recordReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *recordReader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// Aggregate is what a fold made of one.
type Aggregate struct {
	Key  string
	Rows []projection.Row
	// Err says why there are no rows of it.
	Err error
}

// All gives all aggregates in the order of their keys. Nothing may be applied
// meanwhile.
func (s *Store) All(ctx context.Context) iter.Seq2[Aggregate, error] {
	return func(yield func(Aggregate, error) bool) {
		if s.disk == nil {
			s.allInMemory(ctx, yield)
			return
		}
		if err := s.allOnDisk(ctx, yield); err != nil {
			yield(Aggregate{}, err)
		}
	}
}

func (s *Store) allInMemory(ctx context.Context, yield func(Aggregate, error) bool) {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(s.old)), maps.Keys(s.young))
	slices.Sort(keys)
	for _, key := range keys {
		held := s.young[key]
		if held == nil {
			held = s.old[key]
		}
		if ctx.Err() != nil {
			yield(Aggregate{}, context.Cause(ctx))
			return
		}
		if !s.yield(key, held, yield) {
			return
		}
	}
}

// yield gives an aggregate, if any event was applied to it.
func (s *Store) yield(key string, held *entry, yield func(Aggregate, error) bool) bool {
	if len(held.seen) == 0 {
		return true
	}
	rows, err := s.folder.Rows(key, held.state)
	return yield(Aggregate{key, rows, err}, nil)
}

func (s *Store) allOnDisk(ctx context.Context, yield func(Aggregate, error) bool) (err error) {
	if err := s.flushAll(); err != nil {
		return err
	}
	states, err := s.disk.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: []byte{statePrefix}, UpperBound: []byte{statePrefix + 1}})
	if err != nil {
		return fmt.Errorf("read the states of a fold: %w", err)
	}
	defer func() { err = errors.Join(err, states.Close()) }()
	for ok := states.First(); ok; ok = states.Next() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		key := keyOfState(states.Key())
		held, err := s.decode(key, states.Value())
		if err != nil {
			return err
		}
		if !s.yield(key, held, yield) {
			return nil
		}
	}
	return states.Error()
}

// Partition gives one of n parts to an aggregate, always the same.
func Partition(key string, n int) int {
	hash := uint64(14695981039346656037) // FNV-1a
	for i := range len(key) {
		hash = (hash ^ uint64(key[i])) * 1099511628211
	}
	hash ^= hash >> 32 // its lower bits alone are poor
	return int(hash % uint64(n))
}

// quiet is a logger for what is also returned as an error.
type quiet struct{}

// Infof implements pebble.Logger.
func (quiet) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (quiet) Errorf(string, ...any) {}

// Fatalf implements pebble.Logger.
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...)) //nolint:forbidigo // Pebble must not go on
}
