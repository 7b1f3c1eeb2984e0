package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

var errCrashed = errors.New("crashed")

// crashStore fails every operation from the one with number at on, as if the
// process had died there. With after, that one still takes effect.
type crashStore struct {
	*memStore
	mu    sync.Mutex
	at    int
	after bool
	steps int
	write bool // the operation with number at is one that can take effect
}

// step reports whether the operation takes effect, and whether it is answered.
func (s *crashStore) step(write bool) (effect, answer bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps++
	if s.steps == s.at {
		s.write = write
	}
	if s.at == 0 || s.steps < s.at {
		return true, true
	}
	return s.after && s.steps == s.at, false
}

func (s *crashStore) Head(ctx context.Context, key string) (objectstore.Info, error) {
	if _, answer := s.step(false); !answer {
		return objectstore.Info{}, errCrashed
	}
	return s.memStore.Head(ctx, key)
}

func (s *crashStore) Get(ctx context.Context, key string, r objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	if _, answer := s.step(false); !answer {
		return nil, objectstore.Info{}, errCrashed
	}
	return s.memStore.Get(ctx, key, r)
}

func (s *crashStore) List(ctx context.Context, prefix string, opts objectstore.ListOptions) iter.Seq2[objectstore.Info, error] {
	if _, answer := s.step(false); !answer {
		return func(yield func(objectstore.Info, error) bool) { yield(objectstore.Info{}, errCrashed) }
	}
	return s.memStore.List(ctx, prefix, opts)
}

func (s *crashStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	effect, answer := s.step(true)
	if !effect {
		return objectstore.Info{}, errCrashed
	}
	info, err := s.memStore.Put(ctx, key, body, cond)
	if !answer {
		return objectstore.Info{}, errCrashed
	}
	return info, err
}

func (s *crashStore) Delete(ctx context.Context, key string) error {
	effect, answer := s.step(true)
	if effect {
		if err := s.memStore.Delete(ctx, key); err != nil {
			return err
		}
	}
	if !answer {
		return errCrashed
	}
	return nil
}

// TestCrashSweep dies at every single operation of a small life of an archive
// (appends, a seal, compaction, expiry, garbage collection), starts afresh, and
// demands the same archive as without the crash.
func TestCrashSweep(t *testing.T) {
	const workers = 4
	for offset := 1; offset <= workers; offset++ {
		t.Run(fmt.Sprint(offset), func(t *testing.T) {
			t.Parallel()
			for at := offset; ; at += workers {
				if !crashAt(t, at, false) {
					t.Logf("swept %d operations", at)
					return
				}
			}
		})
	}
}

// crashAt dies at one operation, before or after its effect; it reports whether
// there was such an operation at all.
func crashAt(t *testing.T, at int, after bool) bool {
	t.Helper()
	store := &crashStore{memStore: newMemStore(), at: at, after: after}
	if err := life(t.Context(), store); err != nil && !errors.Is(err, errCrashed) {
		t.Fatalf("crash at %d: %v", at, err)
	}
	crashed := store.steps >= at
	store.at = 0
	if err := life(t.Context(), store); err != nil {
		t.Fatalf("fresh start after a crash at %d (effect %t): %v", at, after, err)
	}
	checkLife(t, store, at)
	if store.write && !after {
		crashAt(t, at, true)
	}
	return crashed
}

// life archives two incarnations, of 2 and 4 spans of 5 events. Half of each is
// expired, and the rest compacted. It goes on from wherever an earlier one ended.
func life(ctx context.Context, store objectstore.Store) error {
	now := time.Now().Add(time.Minute) // later than all that is stored
	a, err := Open(ctx, store, Options{Clock: func() time.Time { return now }})
	if err != nil {
		return err
	}
	a.snapshotEvery = 4
	l, err := a.Log(ctx, "s")
	if err != nil {
		return err
	}
	for _, incarnation := range []int{1, 2} {
		if l.Incarnation() != incarnation {
			continue
		}
		for span := range 2 * incarnation {
			if err := archiveSpan(ctx, a, l, hourID(4+span/incarnation, span*5)); err != nil {
				return err
			}
		}
		if incarnation == 1 {
			if _, err := l.Append(ctx, Commit{Kind: KindSeal, Seal: &Seal{Next: 2, Reason: CauseRemoved}}); err != nil {
				return err
			}
		}
	}
	if _, err := a.Expire(ctx, "s", time.UnixMilli(int64(hourID(5, 0).Ms))); err != nil {
		return err
	}
	if _, err := a.Compact(ctx, CompactSpec{Stream: "s"}); err != nil {
		return err
	}
	_, err = a.GC(ctx, GCSpec{Stream: "s", Grace: time.Nanosecond, Force: true})
	return err
}

// archiveSpan archives 5 events from first on, unless the log has them.
func archiveSpan(ctx context.Context, a *Archive, l *Log, first event.ID) error {
	if !l.Head().Less(first) {
		return nil
	}
	var b event.Batch
	for i := range uint64(5) {
		e := testEvent(event.ID{Ms: first.Ms + i})
		b.Append(&e)
	}
	w := a.NewSegmentWriter(ctx, l.Stream(), l.Incarnation(), []Format{JSONL, Parquet}, first)
	defer w.Abort()
	if err := w.Write(&b, 0, b.Len()); err != nil {
		return err
	}
	segments, err := w.Close()
	if err != nil {
		return err
	}
	_, err = l.Append(ctx, Commit{Kind: KindAppend, Head: w.Last(), EntriesAdded: l.EntriesAdded() + 5, Adds: segments})
	return err
}

func checkLife(t *testing.T, store objectstore.Store, at int) {
	t.Helper()
	a := openTest(t, store)
	r, err := a.Verify(t.Context(), VerifySpec{Stream: "s"})
	if err != nil || r.Problems+r.Warnings > 0 || r.Verified.Events != 15 || r.Incarnations != 2 {
		t.Fatalf("crash at %d: verified %+v, %v: %v", at, r.Verified, r.Findings, err)
	}
	p, err := a.Plan(t.Context(), PlanSpec{Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := range p.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := testEvent(e.ID); !e.Equal(&want) {
			t.Fatalf("crash at %d: event %v", at, e)
		}
		n++
	}
	if n != 15 || p.Totals.Segments != 2 {
		t.Fatalf("crash at %d: %d events in %d segments", at, n, p.Totals.Segments)
	}
}
