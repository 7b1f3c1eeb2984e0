// Package faulty decorates an object store with faults, for tests: errors before
// an operation's effect and after it (its answer lost), answers that break off,
// delays, and a crash at any step.
//
// A [Plan] says what happens at each step. To sweep over all crashes of a run,
// run it once with no faults and count its [Store.Steps], then once for each step
// with [CrashAt], each time followed by a fresh start without faults.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

var (
	// ErrInjected is wrapped by the errors that [Random] injects.
	ErrInjected = errors.New("injected fault")
	// ErrCrashed is wrapped by the errors of everything from a crash on.
	ErrCrashed = errors.New("injected crash")
)

// Op is an operation of a store.
type Op string

// The operations.
const (
	Head   Op = "head"
	Get    Op = "get"
	Put    Op = "put"
	Delete Op = "delete"
	List   Op = "list" // a step at its start, whatever the number of keys
)

// Step is one operation.
type Step struct {
	N   int // counts from 1 in the order in which operations begin
	Op  Op
	Key string // the prefix, for List
}

// Fault says what goes wrong at a step. The zero value is nothing.
type Fault struct {
	Delay time.Duration // before anything else; ends with the context
	Err   error         // what the operation returns
	After bool          // Err comes after the effect of a Put or Delete, not instead of it
	Crash bool          // from now on all operations fail with ErrCrashed, and so do open bodies and listings
	Break bool          // the body of a Get breaks off with io.ErrUnexpectedEOF after Keep bytes
	Keep  int64
}

// Plan says what goes wrong at each step. It is called for one step at a time.
type Plan func(Step) Fault

// Store is a store with faults.
type Store struct {
	store objectstore.Store
	plan  Plan

	mu      sync.Mutex
	steps   int
	crashed bool
}

// New decorates a store. A nil plan injects nothing, and counts.
func New(store objectstore.Store, plan Plan) *Store {
	if plan == nil {
		plan = func(Step) Fault { return Fault{} }
	}
	return &Store{store: store, plan: plan}
}

// Steps returns how many operations have begun.
func (s *Store) Steps() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps
}

// Crashed says whether the plan's crash has come.
func (s *Store) Crashed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crashed
}

// begin counts a step, waits for its delay, and returns its fault.
func (s *Store) begin(ctx context.Context, op Op, key string) (Fault, error) {
	fault, err := s.next(op, key)
	if err != nil || fault.Delay <= 0 {
		return fault, err
	}
	select {
	case <-ctx.Done():
		return fault, ctx.Err()
	case <-time.After(fault.Delay):
		return fault, nil
	}
}

func (s *Store) next(op Op, key string) (Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps++
	if s.crashed {
		return Fault{}, fmt.Errorf("%s %s: %w", op, key, ErrCrashed)
	}
	fault := s.plan(Step{s.steps, op, key})
	if fault.Crash {
		s.crashed = true
		fault.Err = ErrCrashed
	}
	if fault.Err != nil {
		fault.Err = fmt.Errorf("%s %s: %w", op, key, fault.Err)
	}
	return fault, nil
}

// Head implements objectstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objectstore.Info, error) {
	fault, err := s.begin(ctx, Head, key)
	if err = errors.Join(err, fault.Err); err != nil {
		return objectstore.Info{}, err
	}
	return s.store.Head(ctx, key)
}

// Get implements objectstore.Store.
func (s *Store) Get(ctx context.Context, key string, r objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	fault, err := s.begin(ctx, Get, key)
	if err = errors.Join(err, fault.Err); err != nil {
		return nil, objectstore.Info{}, err
	}
	body, info, err := s.store.Get(ctx, key, r)
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	return &brokenBody{body, s, fault.Break, fault.Keep}, info, nil
}

// brokenBody fails after so many bytes, or when the store crashes.
type brokenBody struct {
	io.ReadCloser
	store  *Store
	breaks bool
	left   int64
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.store.Crashed() {
		return 0, ErrCrashed
	}
	if !b.breaks {
		return b.ReadCloser.Read(p)
	}
	if b.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Put implements objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	fault, err := s.begin(ctx, Put, key)
	if err != nil {
		return objectstore.Info{}, err
	}
	if fault.Err != nil && !fault.After {
		return objectstore.Info{}, fault.Err
	}
	info, err := s.store.Put(ctx, key, body, cond)
	if err = lost(err, fault); err != nil {
		return objectstore.Info{}, err
	}
	return info, nil
}

// Delete implements objectstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	fault, err := s.begin(ctx, Delete, key)
	if err != nil {
		return err
	}
	if fault.Err != nil && !fault.After {
		return fault.Err
	}
	return lost(s.store.Delete(ctx, key), fault)
}

// lost gives the fault's error instead of the operation's.
func lost(err error, fault Fault) error {
	if fault.Err != nil {
		return fault.Err
	}
	return err
}

// List implements objectstore.Store.
func (s *Store) List(ctx context.Context, prefix string, opts objectstore.ListOptions) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		fault, err := s.begin(ctx, List, prefix)
		if err = errors.Join(err, fault.Err); err != nil {
			yield(objectstore.Info{}, err)
			return
		}
		for info, err := range s.store.List(ctx, prefix, opts) {
			if s.Crashed() {
				yield(objectstore.Info{}, ErrCrashed)
				return
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
