package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

func openTest(t testing.TB, store objectstore.Store) *Archive {
	t.Helper()
	a, err := Open(t.Context(), store, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func loadLog(t testing.TB, a *Archive, stream string) *Log {
	t.Helper()
	l, err := a.Log(context.Background(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fakeSpan describes a span whose objects do not exist.
func fakeSpan(first, last event.ID, count uint64, unique string) []Segment {
	sum := sha256.Sum256([]byte(unique))
	var segments []Segment
	for _, format := range []Format{JSONL, Parquet} {
		segments = append(segments, Segment{
			Format: format, Version: 1, Key: segmentKey(format, first, unique), First: first, Last: last,
			Count: count, Bytes: int64(count) * 10, Raw: int64(count) * 50, SHA256: hex.EncodeToString(sum[:]),
			Summary: Summary{Types: map[string]uint64{"a": count}},
		})
	}
	return segments
}

// appendOf is an append commit of n events right after the head.
func appendOf(l *Log, n uint64) Commit {
	first := l.Head().Next()
	last := event.ID{Ms: first.Ms, Seq: first.Seq + n - 1}
	return Commit{Kind: KindAppend, Head: last, EntriesAdded: l.EntriesAdded() + n, Adds: fakeSpan(first, last, n, fmt.Sprint(l.number()))}
}

func mustAppend(t testing.TB, l *Log, c Commit) *Commit {
	t.Helper()
	got, err := l.Append(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLogAppendsAndReloads(t *testing.T) {
	store := newMemStore()
	a := openTest(t, store)
	l := loadLog(t, a, "orders")
	if l.Head() != (event.ID{}) || l.Last() != nil || l.Incarnation() != 1 {
		t.Fatalf("new log: head %s, last %v, incarnation %d", l.Head(), l.Last(), l.Incarnation())
	}
	for i := range uint64(250) {
		c := mustAppend(t, l, appendOf(l, 3))
		if c.Number != i+1 || c.Totals.Events != 3*(i+1) || c.Totals.Segments != 2*(i+1) {
			t.Fatalf("commit %d: %+v", i+1, c)
		}
		if i%41 == 0 || i == 99 || i == 100 {
			again := loadLog(t, openTest(t, store), "orders")
			if again.Head() != l.Head() || again.Last().Nonce != c.Nonce || again.Totals() != l.Totals() {
				t.Fatalf("reloaded after %d: %+v, want %+v", i+1, again.Last(), c)
			}
		}
	}
	for _, n := range []uint64{100, 200} {
		if _, ok := store.objects[l.dir()+snapshotKey(n)]; !ok {
			t.Errorf("no snapshot %d", n)
		}
	}
}

func TestAppendConflicts(t *testing.T) {
	a := openTest(t, newMemStore())
	one, two := loadLog(t, a, "s"), loadLog(t, a, "s")
	mustAppend(t, one, appendOf(one, 1))
	if _, err := two.Append(t.Context(), appendOf(two, 2)); !errors.Is(err, ErrConflict) {
		t.Fatalf("second append of commit 1: %v", err)
	}
	if _, err := two.Append(t.Context(), appendOf(two, 2)); !errors.Is(err, ErrStale) {
		t.Fatalf("append after a failed one: %v", err)
	}
	if err := two.Refresh(t.Context()); err != nil || two.Head() != one.Head() {
		t.Fatalf("refreshed head %s, want %s: %v", two.Head(), one.Head(), err)
	}
	mustAppend(t, two, appendOf(two, 2))
}

func TestSealLeadsToNextIncarnation(t *testing.T) {
	a := openTest(t, newMemStore())
	l, other := loadLog(t, a, "s"), loadLog(t, a, "s")
	mustAppend(t, l, appendOf(l, 5))
	base := event.ID{Seq: 3}
	mustAppend(t, l, Commit{Kind: KindSeal, Seal: &Seal{Reason: CauseFailover, Next: 2, Base: base, BaseEntriesAdded: 3, BaseDigest: "d"}})
	for _, l := range []*Log{l, loadLog(t, a, "s")} {
		if l.Incarnation() != 2 || l.Head() != base || l.EntriesAdded() != 3 || l.HeadDigest() != "d" || l.Last() != nil {
			t.Fatalf("successor: incarnation %d, head %s, added %d", l.Incarnation(), l.Head(), l.EntriesAdded())
		}
	}
	if err := other.Refresh(t.Context()); err != nil || other.Incarnation() != 2 || other.Head() != base {
		t.Fatalf("refresh over a seal: incarnation %d: %v", other.Incarnation(), err)
	}
	mustAppend(t, l, appendOf(l, 1))
	mustAppend(t, l, Commit{Kind: KindSeal, Seal: &Seal{Reason: CauseRemoved, Next: 3}})
	if l := loadLog(t, a, "s"); l.Incarnation() != 3 || !l.Head().IsZero() {
		t.Fatalf("third incarnation: %d at %s", l.Incarnation(), l.Head())
	}
	var numbers []int
	for inc, err := range a.Incarnations(t.Context(), "s") {
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, inc.Number)
	}
	if fmt.Sprint(numbers) != "[1 2 3]" {
		t.Errorf("incarnations %v", numbers)
	}
}
