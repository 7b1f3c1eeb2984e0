package foldstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// The keys on disk: one for the checkpoint, the aggregates', and those of events that
// could not be used.
const (
	checkpointPrefix = 0
	statePrefix      = 1
	refusedPrefix    = 2
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
	cacheBytes    = 64 << 20
	memTableBytes = 16 << 20
)

// open opens the directory; what is of another identity, or damaged, is removed: it
// can be made again.
func (s *Store) open() error {
	disk, err := openDisk(s.opts.Dir)
	if err != nil {
		if pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) {
			return s.empty("they are damaged: " + err.Error())
		}
		return err
	}
	s.disk.Store(disk)
	kept, err := s.readCheckpoint(disk)
	switch {
	case err != nil && !pebble.IsCorruptionError(err):
		return errors.Join(err, s.Close())
	case err != nil:
		return s.empty("they are damaged: " + err.Error())
	case kept == nil:
		return s.empty("they were never finished")
	case kept.Version != formatVersion || kept.Identity != s.opts.Identity:
		return s.empty("they are of another build: " + kept.Identity)
	}
	s.positions = kept.Positions
	return s.countRefused(disk)
}

// empty removes the directory. It is made anew when it is needed.
func (s *Store) empty(why string) error {
	s.lost = why
	if err := s.Close(); err != nil && !pebble.IsCorruptionError(err) {
		return err
	}
	if err := os.RemoveAll(s.opts.Dir); err != nil {
		return fmt.Errorf("empty the directory of states: %w", err)
	}
	return nil
}

func openDisk(dir string) (*pebble.DB, error) {
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	options := &pebble.Options{FS: vfs.Default, Cache: cache, MemTableSize: memTableBytes, MaxOpenFiles: 200, Logger: quiet{}}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most aggregates that are looked for are new
	}
	disk, err := pebble.Open(dir, options)
	if err != nil {
		return nil, fmt.Errorf("open the directory of states %s: %w", dir, err)
	}
	return disk, nil
}

func (s *Store) readCheckpoint(disk *pebble.DB) (*checkpoint, error) {
	text, closer, err := disk.Get(checkpointKey())
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

// needDisk opens the directory, and says whose it is. The parts may ask at once.
func (s *Store) needDisk() (*pebble.DB, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if disk := s.disk.Load(); disk != nil {
		return disk, nil
	}
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of states: %w", errors.Join(ErrBroken, err))
	}
	disk, err := openDisk(s.opts.Dir)
	if err != nil {
		return nil, errors.Join(ErrBroken, err)
	}
	if err := s.writeCheckpoint(disk, s.positions); err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	s.disk.Store(disk)
	return disk, nil
}

func (s *Store) writeCheckpoint(disk *pebble.DB, positions map[string]projection.Position) error {
	text, err := json.Marshal(checkpoint{formatVersion, s.opts.Identity, positions})
	if err == nil {
		// What was written before is in the log before it, and durable with it.
		err = disk.Set(checkpointKey(), text, pebble.Sync)
	}
	if err != nil {
		return fmt.Errorf("write the checkpoint of a fold: %w", errors.Join(ErrBroken, err))
	}
	return nil
}

// Checkpoint makes what was applied to all parts durable, together with the positions
// up to which that is. It returns when both are on disk.
func (s *Store) Checkpoint(positions map[string]projection.Position) error {
	disk, err := s.flushAll()
	if err != nil {
		return err
	}
	if err := s.writeCheckpoint(disk, positions); err != nil {
		return err
	}
	s.positions = maps.Clone(positions)
	return nil
}

func (s *Store) flushAll() (*pebble.DB, error) {
	disk, err := s.needDisk()
	if err != nil {
		return nil, err
	}
	var group errgroup.Group
	for _, p := range s.parts {
		group.Go(func() error { return errors.Join(p.flush(p.old), p.flush(p.young)) })
	}
	return disk, group.Wait()
}

// encode puts a state into the part's buffer: how many streams it has seen, each with
// its name and position, and the state itself.
func (p *Part) encode(held *entry) error {
	text, err := p.store.folder.Encode(held.state)
	if err != nil {
		return err
	}
	p.meanBytes += (int64(len(text)) - p.meanBytes) / 16
	to := binary.AppendUvarint(p.buffer[:0], uint64(len(held.seen)))
	for _, at := range held.seen {
		to = appendPlace(to, at.stream, at.at)
	}
	p.buffer = append(to, text...)
	return nil
}

func appendPlace(to []byte, stream string, at projection.Position) []byte {
	to = binary.AppendUvarint(to, uint64(len(stream)))
	to = append(to, stream...)
	to = binary.AppendVarint(to, int64(at.Incarnation))
	to = binary.AppendUvarint(to, at.ID.Ms)
	return binary.AppendUvarint(to, at.ID.Seq)
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
