package foldstore

import (
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reservoirhq/reservoir/projection"
)

// Part holds the states of some of the aggregates of a Store: those of which PartOf
// says so. It is not safe for concurrent use.
type Part struct {
	store    *Store
	maxBytes int64

	// The states in memory, in two halves: what is used moves to the young one, and
	// when that is full the old one goes to disk.
	young, old map[string]*entry
	bytes      int64 // of the young ones, about

	applies   uint64
	meanBytes int64 // of an encoded state, about
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

func newPart(s *Store, maxBytes int64) *Part {
	return &Part{store: s, maxBytes: maxBytes, meanBytes: 128, young: make(map[string]*entry), old: make(map[string]*entry)}
}

// Apply takes an event to the state of an aggregate of this part, by the Key of the
// fold. applied is false for an event that the state has seen. An error says that the
// event cannot be used, and that nothing has changed; one that wraps ErrBroken,
// that the Store cannot.
func (p *Part) Apply(key string, e *projection.Event) (applied bool, err error) {
	held, err := p.get(key)
	if err != nil {
		return false, err
	}
	at := projection.Position{Incarnation: e.Incarnation, ID: e.ID}
	i := slices.IndexFunc(held.seen, func(s seen) bool { return s.stream == e.Stream })
	if i >= 0 && at.Compare(held.seen[i].at) <= 0 {
		return false, nil
	}
	state, err := p.store.folder.Apply(held.state, e)
	if err != nil {
		return false, err
	}
	if i < 0 {
		held.seen = append(held.seen, seen{e.Stream, at})
	} else {
		held.seen[i].at = at
	}
	held.state, held.dirty = state, true
	return true, p.measure(key, held)
}

// measureEvery is how many events there are between two of whose states the size is
// measured.
const measureEvery = 32

// measure keeps account of the memory, and makes room.
func (p *Part) measure(key string, held *entry) error {
	if p.applies++; p.applies%measureEvery == 0 {
		text, err := p.store.folder.Encode(held.state)
		if err != nil {
			return broken("encode", key, err)
		}
		p.meanBytes += (int64(len(text)) - p.meanBytes) / 16
		bytes := footprint(key, int64(len(text)))
		p.bytes += bytes - held.bytes
		held.bytes = bytes
	}
	return p.makeRoom()
}

// makeRoom writes the old half to disk, and makes the young one the old one, when
// that is full.
func (p *Part) makeRoom() error {
	if p.bytes <= p.maxBytes/2 {
		return nil
	}
	if err := p.flush(p.old); err != nil {
		return err
	}
	p.old, p.young, p.bytes = p.young, make(map[string]*entry, len(p.old)), 0
	return nil
}

// footprint is about how much memory a state takes, of an encoded size: decoded it
// is larger, and the maps have their share.
func footprint(key string, encoded int64) int64 { return 3*encoded + 2*int64(len(key)) + 256 }

// get finds the state of an aggregate, or makes one.
func (p *Part) get(key string) (*entry, error) {
	if held := p.young[key]; held != nil {
		return held, nil
	}
	held := p.old[key]
	if held == nil {
		var err error
		if held, err = p.load(key); err != nil {
			return nil, err
		}
	}
	delete(p.old, key)
	p.young[key] = held
	p.bytes += held.bytes
	return held, nil
}

// load reads a state from disk, or makes one.
func (p *Part) load(key string) (*entry, error) {
	if disk := p.store.disk.Load(); disk != nil {
		record, closer, err := disk.Get(stateKey(key))
		if err == nil {
			held, err := p.store.decode(key, record)
			return held, errors.Join(err, closer.Close())
		}
		if !errors.Is(err, pebble.ErrNotFound) {
			return nil, broken("read", key, err)
		}
	}
	return &entry{state: p.store.folder.Init(), bytes: footprint(key, p.meanBytes)}, nil
}

// Rows makes the rows of an aggregate of this part.
func (p *Part) Rows(key string) ([]projection.Row, error) {
	held, err := p.get(key)
	if err != nil {
		return nil, err
	}
	rows, err := p.store.folder.Rows(key, held.state)
	if err != nil {
		return nil, err
	}
	return rows, p.makeRoom()
}

// maxBatch bounds the bytes that are written to disk at once.
const maxBatch = 1 << 20

// flush writes what was changed of some states. They are durable with the next
// checkpoint.
func (p *Part) flush(entries map[string]*entry) (err error) {
	disk, err := p.store.needDisk()
	if err != nil {
		return err
	}
	batch := disk.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	for key, held := range entries {
		if !held.dirty {
			continue
		}
		if err := p.encode(held); err != nil {
			return broken("encode", key, err)
		}
		if err := batch.Set(stateKey(key), p.buffer, nil); err != nil {
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
		return broken("write", "some aggregates", err)
	}
	return nil
}
