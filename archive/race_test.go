package archive

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// intrudingStore lets another writer in before the first Put whose key contains at.
type intrudingStore struct {
	*memStore
	at    string
	other func()
}

func (s *intrudingStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	if other := s.other; other != nil && strings.Contains(key, s.at) {
		s.other = nil
		other()
	}
	return s.memStore.Put(ctx, key, body, cond)
}

// intruded returns the harness's archive as seen by someone who meets another
// writer at the next commit.
func (h *harness) intruded(other func()) *Archive {
	h.t.Helper()
	a, err := Open(h.t.Context(), &intrudingStore{h.store, "/" + logDir, other}, Options{Writer: "intruded", Clock: h.store.clock})
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// addHours archives several small spans in each of two hours, and one in each
// of the hours after them, so that no count of what is there runs out.
func (h *harness) addHours() (events int) {
	h.t.Helper()
	defer func() {
		for hour := 9; hour < 13; hour++ {
			h.add("s", hourID(hour, 0), 100)
			events += 100
		}
	}()
	for hour := 7; hour < 9; hour++ {
		for i := range 3 {
			h.add("s", hourID(hour, i*10), 5)
			events += 5
		}
	}
	return events
}

// Two compactions that planned the same merges: what one did first the other
// must leave alone, also the merges that come after the one at which they met.
func TestCompactionsSideBySideMergeOnce(t *testing.T) {
	h := newHarness(t)
	events := h.addHours()
	a := h.intruded(func() {
		if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: "s"}); err != nil {
			t.Error(err)
		}
	})
	if _, err := a.Compact(t.Context(), CompactSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	h.mustVerify("s")
	if got := len(h.ids(h.plan(PlanSpec{Stream: "s"}))); got != events {
		t.Errorf("%d events after two compactions, want %d", got, events)
	}
}

// The other one has done the second merge only, which the commit of the first
// merge passes without a conflict.
func TestCompactionRemembersWhatItsCommitsPassed(t *testing.T) {
	h := newHarness(t)
	events := h.addHours()
	a := h.intruded(func() {
		l := loadLog(t, h.a, "s")
		c := &compaction{a: h.a, spec: CompactSpec{Stream: "s", TargetBytes: 1 << 20, TargetEvents: 1000}}
		v, err := h.a.view(t.Context(), l.dir(), l.number())
		if err != nil {
			t.Fatal(err)
		}
		var second []*Span
		for s, err := range v.spans(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if Hour(s.First) == Hour(hourID(8, 0)) {
				second = append(second, s)
			}
		}
		if err := c.merge(t.Context(), l, second); err != nil {
			t.Error(err)
		}
	})
	if _, err := a.Compact(t.Context(), CompactSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	h.mustVerify("s")
	if got := len(h.ids(h.plan(PlanSpec{Stream: "s"}))); got != events {
		t.Errorf("%d events after two compactions, want %d", got, events)
	}
}

// An expiry in several commits meets a compaction of what its later commits
// were going to remove.
func TestExpiryRemembersWhatItsCommitsPassed(t *testing.T) {
	h := newHarness(t)
	for i := range removesPerCommit/2 + 3 {
		h.add("s", hourID(7, i), 1)
	}
	h.add("s", hourID(8, 0), 50)
	h.add("s", hourID(9, 0), 50)
	before := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	a := h.intruded(func() {
		l := loadLog(t, h.a, "s")
		c := &compaction{a: h.a, spec: CompactSpec{Stream: "s"}}
		v, err := h.a.view(t.Context(), l.dir(), l.number())
		if err != nil {
			t.Fatal(err)
		}
		var last []*Span
		for s, err := range v.spans(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if Hour(s.First) == Hour(hourID(7, 0)) && !s.First.Less(hourID(7, removesPerCommit/2)) {
				last = append(last, s)
			}
		}
		if err := c.merge(t.Context(), l, last); err != nil {
			t.Error(err)
		}
	})
	if _, err := a.Expire(t.Context(), "s", before); err != nil && !errors.Is(err, ErrConflict) {
		t.Fatal(err)
	}
	h.mustVerify("s")
	if _, err := h.a.Expire(t.Context(), "s", before); err != nil {
		t.Fatal(err)
	}
	h.mustVerify("s")
	if got := len(h.ids(h.plan(PlanSpec{Stream: "s"}))); got != 100 {
		t.Errorf("%d events after one hour has expired, want the 100 of the others", got)
	}
}
