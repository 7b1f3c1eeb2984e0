package foldstore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/reservoirhq/reservoir/projection"
)

func refusedKey(stream string, at projection.Position) []byte {
	return appendPlace([]byte{refusedPrefix}, stream, at)
}

func refusedRange() *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: []byte{refusedPrefix}, UpperBound: []byte{refusedPrefix + 1}}
}

// Refuse remembers an event that could not be used: a state that is ahead of it, when
// it comes again after a crash, does not tell. The note is kept as durably as
// whatever states are written later. It may be called by all parts at once.
func (s *Store) Refuse(stream string, at projection.Position, note []byte) error {
	disk, err := s.needDisk()
	if err != nil {
		return err
	}
	key := refusedKey(stream, at)
	if known, err := s.refusal(disk, key); err != nil || known != nil {
		return err
	}
	if err := disk.Set(key, note, pebble.NoSync); err != nil {
		return fmt.Errorf("note an event that a fold cannot use: %w", errors.Join(ErrBroken, err))
	}
	s.refused.Add(1)
	return nil
}

// Refusal returns the note of an event, or nil.
func (s *Store) Refusal(stream string, at projection.Position) ([]byte, error) {
	if s.refused.Load() == 0 {
		return nil, nil
	}
	return s.refusal(s.disk.Load(), refusedKey(stream, at))
}

func (s *Store) refusal(disk *pebble.DB, key []byte) ([]byte, error) {
	note, closer, err := disk.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for an event that a fold cannot use: %w", errors.Join(ErrBroken, err))
	}
	return append([]byte{}, note...), closer.Close()
}

// Refusals returns how many events could not be used.
func (s *Store) Refusals() int { return int(s.refused.Load()) }

// Refused gives the notes of all of them, by stream.
func (s *Store) Refused(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if s.refused.Load() == 0 {
			return
		}
		notes, err := s.disk.Load().NewIterWithContext(ctx, refusedRange())
		if err != nil {
			yield(nil, fmt.Errorf("read which events a fold cannot use: %w", err))
			return
		}
		for ok := notes.First(); ok; ok = notes.Next() {
			if !yield(notes.Value(), nil) {
				break
			}
		}
		if err := errors.Join(notes.Error(), notes.Close()); err != nil {
			yield(nil, fmt.Errorf("read which events a fold cannot use: %w", err))
		}
	}
}

func (s *Store) countRefused(disk *pebble.DB) error {
	notes, err := disk.NewIter(refusedRange())
	if err != nil {
		return fmt.Errorf("count the events that a fold cannot use: %w", err)
	}
	for ok := notes.First(); ok; ok = notes.Next() {
		s.refused.Add(1)
	}
	return errors.Join(notes.Error(), notes.Close())
}
