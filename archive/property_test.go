package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

var errInjected = errors.New("injected fault")

// flakyStore fails some Puts of commits: before the effect, after it, or with
// an effect that only comes later, when late is called.
type flakyStore struct {
	*memStore
	next func() fault
	late []func()
}

type fault int

const (
	noFault fault = iota
	faultBefore
	faultAfter
	faultLate
	faultLostThenRetried // the answer was lost and the client sent it again
)

func (s *flakyStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return objectstore.Info{}, err
	}
	put := func() (objectstore.Info, error) {
		return s.memStore.Put(context.Background(), key, readerOf(b), cond)
	}
	switch s.next() {
	case faultBefore:
		return objectstore.Info{}, errInjected
	case faultAfter:
		_, err := put()
		return objectstore.Info{}, errors.Join(errInjected, err)
	case faultLate:
		s.late = append(s.late, func() {
			if _, err := put(); err != nil && !errors.Is(err, objectstore.ErrPrecondition) {
				panic(err)
			}
		})
		return objectstore.Info{}, errInjected
	case faultLostThenRetried:
		if info, err := put(); err != nil {
			return info, err
		}
		return put()
	case noFault:
	}
	return put()
}

// TestLogAgainstModel lets two writers, a compactor and an expirer work on one
// log over a store that fails in every way, with writes that arrive late. The
// model is what each was told: what was acknowledged must be in the log, once,
// and what failed clearly must not be.
func TestLogAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		faults := rapid.SampledFrom([]fault{noFault, noFault, noFault, noFault, faultBefore, faultAfter, faultLate, faultLostThenRetried})
		armed := false
		store := &flakyStore{memStore: newMemStore()}
		store.next = func() fault {
			if !armed {
				return noFault
			}
			return faults.Draw(t, "fault")
		}
		a, err := Open(ctx, store, Options{})
		if err != nil {
			t.Fatal(err)
		}
		a.snapshotEvery = rapid.Uint64Range(1, 30).Draw(t, "snapshot every")
		if err := a.mark(ctx); err != nil {
			t.Fatal(err)
		}
		logs := []*Log{loadFor(t, a), loadFor(t, a)}
		m := &model{acked: map[string]bool{}, refused: map[string]bool{}}
		armed = true
		for i := range rapid.IntRange(1, 150).Draw(t, "steps") {
			l := logs[rapid.IntRange(0, 1).Draw(t, "writer")]
			switch rapid.SampledFrom([]string{"append", "append", "append", "append", "gap", "seal", "refresh", "late", "compact", "expire", "land"}).Draw(t, "step") {
			case "append":
				m.append(ctx, t, l, fmt.Sprintf("u%d", i))
			case "gap":
				_, err := l.Append(ctx, Commit{Kind: KindGap, Head: l.Head().Next(), Gap: &Gap{After: l.Head(), UpTo: l.Head().Next(), Lost: 1, Exact: true}, EntriesAdded: l.EntriesAdded() + 1})
				m.failed(t, err)
			case "seal":
				if rapid.IntRange(0, 4).Draw(t, "rarely") == 0 {
					_, err := l.Append(ctx, Commit{Kind: KindSeal, Seal: &Seal{Next: l.Incarnation() + 1, Reason: CauseRemoved}})
					m.failed(t, err)
				}
			case "late":
				for _, do := range store.late {
					do()
				}
				store.late = nil
			case "refresh":
				if err := l.Refresh(ctx); err != nil {
					t.Fatal(err)
				}
			case "compact":
				m.replace(ctx, t, a, l, KindCompact, fmt.Sprintf("c%d", i))
			case "expire":
				m.replace(ctx, t, a, l, KindExpire, "")
			case "land":
				m.land()
			}
		}
		armed = false
		for _, do := range store.late {
			do()
		}
		m.check(ctx, t, a)
		for _, l := range logs {
			fresh := loadFor(t, a)
			if err := l.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			if l.Incarnation() != fresh.Incarnation() || l.Head() != fresh.Head() || l.Totals() != fresh.Totals() || l.number() != fresh.number() {
				t.Fatalf("refreshed log at %d/%d, loaded one at %d/%d", l.Incarnation(), l.number(), fresh.Incarnation(), fresh.number())
			}
		}
	})
}

func loadFor(t *rapid.T, a *Archive) *Log {
	l, err := a.Log(context.Background(), "s")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// model knows what the writers were told.
type model struct {
	acked   map[string]bool // keys of spans whose commit was acknowledged
	refused map[string]bool // and of those that lost a conflict
	pending []func()        // replacements of an older view, not committed yet
}

func (m *model) land() {
	for _, do := range m.pending {
		do()
	}
	m.pending = nil
}

func (m *model) failed(t *rapid.T, err error) {
	if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrStale) && !errors.Is(err, errInjected) {
		t.Fatalf("append: %v", err)
	}
}

func (m *model) append(ctx context.Context, t *rapid.T, l *Log, unique string) {
	first := l.Head().Next()
	last := event.ID{Ms: first.Ms, Seq: first.Seq + rapid.Uint64Range(0, 5).Draw(t, "count")}
	adds := fakeSpan(first, last, last.Seq-first.Seq+1, unique)
	_, err := l.Append(ctx, Commit{Kind: KindAppend, Head: last, EntriesAdded: l.EntriesAdded() + adds[0].Count, Adds: adds})
	m.failed(t, err)
	switch {
	case err == nil:
		m.acked[adds[0].Key] = true
	case errors.Is(err, ErrConflict):
		m.refused[adds[0].Key] = true
	}
}

// replace compacts the first two spans of an incarnation, or drops the first
// one; when land is called, which may be many commits later.
func (m *model) replace(ctx context.Context, t *rapid.T, a *Archive, current *Log, kind Kind, unique string) {
	incarnation := rapid.IntRange(1, current.Incarnation()).Draw(t, "incarnation")
	l, err := a.logOf(ctx, "s", incarnation)
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.view(ctx, l.dir(), l.number())
	if err != nil || l.last == nil {
		return
	}
	var spans []*Span
	for s, err := range v.spans(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		spans = append(spans, s)
	}
	if len(spans) < 2 {
		return
	}
	c, removed := Commit{Kind: kind}, spans[0].Segments
	if kind == KindCompact {
		removed = append(slices.Clone(removed), spans[1].Segments...)
		c.Adds = fakeSpan(spans[0].First, spans[1].Last, spans[0].Count()+spans[1].Count(), unique)
	}
	m.pending = append(m.pending, func() {
		_, err := l.commit(ctx, c, removed)
		m.failed(t, err)
	})
}

// check replays every incarnation naively and compares.
func (m *model) check(ctx context.Context, t *rapid.T, a *Archive) {
	seen := map[string]bool{}
	for inc, err := range a.Incarnations(ctx, "s") {
		if err != nil {
			t.Fatal(err)
		}
		if inc.Last == nil {
			break
		}
		head := event.ID{}
		live := map[string]Segment{}
		dir := incarnationDir("s", inc.Number)
		for c, err := range a.commits(ctx, dir, 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if c.Prev != head {
				t.Fatalf("commit %d follows %s, not %s", c.Number, c.Prev, head)
			}
			head = c.Head
			for _, key := range c.Removes {
				if _, ok := live[key]; !ok {
					t.Fatalf("commit %d removes %s, which is not live", c.Number, key)
				}
				delete(live, key)
			}
			for _, s := range c.Adds {
				if seen[s.Key] {
					t.Fatalf("%s was added twice", s.Key)
				}
				seen[s.Key] = true
				live[s.Key] = s
			}
		}
		m.checkView(ctx, t, a, dir, inc.Last.Totals, live)
	}
	for key := range m.acked {
		if !seen[key] {
			t.Fatalf("%s was acknowledged and is not in the log", key)
		}
	}
	for key := range m.refused {
		if seen[key] {
			t.Fatalf("%s was refused and is in the log", key)
		}
	}
	r, err := a.Verify(ctx, VerifySpec{Stream: "s", Range: event.Range{From: event.MaxID, To: event.MaxID}})
	if err != nil || r.Problems > 0 || r.Warnings > 0 {
		t.Fatalf("verify: %v, %v", r.Findings, err)
	}
}

func (m *model) checkView(ctx context.Context, t *rapid.T, a *Archive, dir string, totals Totals, live map[string]Segment) {
	v, err := a.view(ctx, dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got Totals
	last := event.ID{}
	for p, err := range v.parts(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if p.gap != nil {
			got.Gaps++
			got.Lost += p.gap.Lost
			continue
		}
		if !last.Less(p.span.First) {
			t.Fatalf("span at %s is not after %s", p.span.First, last)
		}
		last = p.span.Last
		got.add(p.span)
		for _, s := range p.span.Segments {
			if want, ok := live[s.Key]; !ok || s.Last != want.Last || s.Count != want.Count || s.SHA256 != want.SHA256 {
				t.Fatalf("segment %+v, want %+v", s, want)
			}
			delete(live, s.Key)
		}
	}
	if got != totals || len(live) > 0 {
		t.Fatalf("view adds up to %+v, commits say %+v; not in the view: %v", got, totals, live)
	}
}

// TestConcurrentWriters lets goroutines append to one log as fast as they can:
// every acknowledged commit is there once, and the head never has two.
func TestConcurrentWriters(t *testing.T) {
	a := openTest(t, newMemStore())
	ctx := t.Context()
	var mu sync.Mutex
	acked := map[uint64]int{}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			l := loadLog(t, a, "s")
			for n := 0; n < 60; {
				c := appendOf(l, 1)
				c.Adds = fakeSpan(c.Adds[0].First, c.Adds[0].Last, 1, fmt.Sprintf("w%d-%d", w, n))
				got, err := l.Append(ctx, c)
				if errors.Is(err, ErrConflict) {
					if err := l.Refresh(ctx); err != nil {
						t.Error(err)
						return
					}
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[got.Number]++
				mu.Unlock()
				n++
			}
		})
	}
	wg.Wait()
	if l := loadLog(t, a, "s"); l.number() != 240 || l.Totals().Events != 240 || len(acked) != 240 {
		t.Errorf("%d commits, %d events, %d acknowledged", l.number(), l.Totals().Events, len(acked))
	}
}

// TestClockGoesBack makes sure that nothing depends on the times of commits:
// not for a writer whose clock goes back either.
func TestClockGoesBack(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a, err := Open(t.Context(), newMemStore(), Options{Clock: func() time.Time { now = now.Add(-time.Hour); return now }})
	if err != nil {
		t.Fatal(err)
	}
	l := loadLog(t, a, "s")
	for range 3 {
		mustAppend(t, l, appendOf(l, 1))
	}
	if _, err := a.GC(t.Context(), GCSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
}
