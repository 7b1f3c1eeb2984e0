package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

func compile(t *testing.T, f event.Filter) *event.Matcher {
	t.Helper()
	m, err := f.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPlanFilters(t *testing.T) {
	h := newHarness(t)
	for i := range 10 {
		h.add("s", hourID(7, i*3), 1+i%3) // OrderPaid first, since the hour divides by 3
	}
	all := len(h.ids(h.plan(PlanSpec{Stream: "s"})))
	for _, format := range []Format{JSONL, Parquet} {
		p := h.plan(PlanSpec{Stream: "s", Format: format, Filter: compile(t, event.Filter{Types: []string{"OrderShipped"}})})
		ids := h.ids(p)
		if len(ids) != 3 || p.Totals.Segments != 3 || p.Totals.Events != 3 || p.Totals.Exact {
			t.Errorf("%s: %d events, %+v", format, len(ids), p.Totals)
		}
		for _, id := range ids {
			if id.Ms%3 != 2 {
				t.Errorf("%s: event %s", format, id)
			}
		}
	}
	// Through another mapping the summaries say nothing, and the types are the tenants.
	other, err := Open(t.Context(), h.store, Options{Mapping: event.Mapping{EventType: []string{"tenant"}}})
	if err != nil {
		t.Fatal(err)
	}
	h.a = other
	p := h.plan(PlanSpec{Stream: "s", Filter: compile(t, event.Filter{Types: []string{"t*"}})})
	if n := len(h.ids(p)); n != all {
		t.Errorf("through another mapping: %d of %d events", n, all)
	}
	if r := h.verify("s"); r.Problems > 0 {
		t.Errorf("through another mapping: %v", r.Findings)
	}
}

func TestEndedContext(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(7, 0), 5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := h.plan(PlanSpec{Stream: "s"})
	var last error
	for _, last = range p.Batches(ctx) {
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("reading with an ended context: %v", last)
	}
}

func TestExpireKeepsSegmentsThatReachIn(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(7, 0), 10)
	h.add("s", hourID(7, 10), 10)
	removed, err := h.a.Expire(t.Context(), "s", time.UnixMilli(int64(hourID(7, 15).Ms)))
	if err != nil || removed.Events != 10 || removed.Segments != 2 {
		t.Errorf("expired %+v, %v", removed, err)
	}
	if ids := h.ids(h.plan(PlanSpec{Stream: "s"})); len(ids) != 10 || ids[0] != hourID(7, 10) {
		t.Errorf("left: %v", ids)
	}
}

func TestCompactKeepsFormatsApart(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(7, 0), 10)
	h.add("s", hourID(7, 10), 10)
	h.add("s", hourID(7, 20), 10, Parquet)
	h.add("s", hourID(7, 30), 10, Parquet)
	h.add("s", hourID(7, 40), 10, JSONL)
	if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	if r := h.mustVerify("s"); r.Verified.Segments != 4 || r.Verified.Events != 50 {
		t.Errorf("%+v", r.Verified)
	}
	if ids := h.ids(h.plan(PlanSpec{Stream: "s"})); len(ids) != 50 {
		t.Errorf("%d events", len(ids))
	}
}

func TestCompactLeavesTheYoung(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(10, 0), 10)
	h.add("s", hourID(10, 10), 10)
	h.add("s", hourID(11, 3_000_000), 10)
	h.add("s", hourID(11, 3_000_010), 10)
	report, err := h.a.Compact(t.Context(), CompactSpec{Stream: "s", MinAge: time.Hour})
	if err != nil || report.Commits != 1 || report.Events != 20 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestCompactRefusesDamage makes sure that what cannot be read right is not
// replaced.
func TestCompactRefusesDamage(t *testing.T) {
	for _, format := range []Format{JSONL, Parquet} {
		h := newHarness(t)
		h.add("s", hourID(7, 0), 10, format)
		seg := h.add("s", hourID(7, 10), 10, format).Adds[0]
		key := incarnationDir("s", 1) + seg.Key
		o := h.store.objects[key]
		o.body = bytes.Clone(o.body)
		o.body[len(o.body)/2] ^= 0x10
		h.store.objects[key] = o
		before := loadLog(t, h.a, "s").Last().Number
		if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: "s"}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: compacting damage: %v", format, err)
		}
		if l := loadLog(t, h.a, "s"); l.Last().Number != before {
			t.Errorf("%s: it was committed", format)
		}
	}
}

// hookedStore calls listed once, after its first listing of data objects.
type hookedStore struct {
	*memStore
	listed func()
}

func (s *hookedStore) List(ctx context.Context, prefix string, opts objectstore.ListOptions) iter.Seq2[objectstore.Info, error] {
	infos := s.memStore.List(ctx, prefix, opts)
	if hook := s.listed; hook != nil && bytes.HasSuffix([]byte(prefix), []byte("/jsonl/")) {
		s.listed = nil
		hook()
	}
	return infos
}

// TestCollectionLooksAgain commits segments that lay around for longer than the
// grace period between the collector's listing and its deletions.
func TestCollectionLooksAgain(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(7, 0), 10)
	l := loadLog(t, h.a, "s")
	w := h.a.NewSegmentWriter(t.Context(), "s", 1, []Format{JSONL}, hourID(7, 10))
	var b event.Batch
	e := testEvent(hourID(7, 10))
	b.Append(&e)
	if err := w.Write(&b, 0, 1); err != nil {
		t.Fatal(err)
	}
	segments, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(48 * time.Hour)
	store := &hookedStore{memStore: h.store, listed: func() {
		mustAppend(t, l, Commit{Kind: KindAppend, Head: hourID(7, 10), EntriesAdded: 11, Adds: segments})
	}}
	collector, err := Open(t.Context(), store, Options{Clock: h.store.clock})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := collector.GC(t.Context(), GCSpec{Stream: "s"}); err != nil || r.Segments != 0 {
		t.Errorf("collected %+v, %v", r, err)
	}
	h.mustVerify("s")
}

// TestCollectionKeepsWhatWasRemovedLately compacts segments that are older than
// the grace period: whoever planned right before still reads them.
func TestCollectionKeepsWhatWasRemovedLately(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(7, 0), 10)
	h.add("s", hourID(7, 10), 10)
	h.now = h.now.Add(48 * time.Hour)
	p := h.plan(PlanSpec{Stream: "s"})
	if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	if r, err := h.a.GC(t.Context(), GCSpec{Stream: "s"}); err != nil || r.Segments != 0 || r.Kept != 4 {
		t.Errorf("collected %+v, %v", r, err)
	}
	if ids := h.ids(p); len(ids) != 20 {
		t.Errorf("%d events", len(ids))
	}
}

func TestBlockReader(t *testing.T) {
	store := newMemStore()
	object := make([]byte, 5*blockSize+12345)
	random := rand.NewChaCha8([32]byte{1})
	if _, err := random.Read(object); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), "k", bytes.NewReader(object), objectstore.IfAbsent); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		r := newBlockReader(context.Background(), store, "k", int64(len(object)))
		for range 20 {
			offset := rapid.IntRange(0, len(object)+10).Draw(t, "offset")
			length := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 3*blockSize)).Draw(t, "length")
			p := make([]byte, length)
			n, err := r.ReadAt(p, int64(offset))
			want := object[min(offset, len(object)):min(offset+length, len(object))]
			if !bytes.Equal(p[:n], want) || (n < length) != errors.Is(err, io.EOF) || err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", length, offset, n, err)
			}
		}
	})
}
