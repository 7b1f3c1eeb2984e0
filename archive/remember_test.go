package archive

import (
	"context"
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

// askedStore counts how often it is asked.
type askedStore struct {
	objectstore.Store
	gets atomic.Int64
}

func (s *askedStore) Get(ctx context.Context, key string, r objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	s.gets.Add(1)
	return s.Store.Get(ctx, key, r)
}

// TestRememberedLogsAreNoOlder: who remembers commits sees each new one at once, seals
// included, for one request, and plans the same as who does not.
func TestRememberedLogsAreNoOlder(t *testing.T) {
	objects := newMemStore()
	asked := &askedStore{Store: objects}
	writer, plain := openTest(t, objects), openTest(t, objects)
	reader, err := Open(t.Context(), asked, Options{Remember: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	planned := func(a *Archive) (keys []string, gaps uint64) {
		plan, err := a.Plan(t.Context(), PlanSpec{Stream: "s"})
		if err != nil {
			t.Fatal(err)
		}
		for seg, err := range plan.Segments(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, seg.Path)
		}
		return keys, plan.Totals.Gaps
	}
	l := loadLog(t, writer, "s")
	for i := range 250 {
		switch i {
		case 120:
			mustAppend(t, l, Commit{Kind: KindGap, Gap: &Gap{After: l.Head(), UpTo: l.Head().Next(), Lost: 1, Cause: CauseTrimmed}, Head: l.Head().Next(), EntriesAdded: l.EntriesAdded() + 1})
		case 130:
			mustAppend(t, l, Commit{Kind: KindSeal, Seal: &Seal{Reason: CauseFailover, Next: 2, Base: event.ID{Seq: 3}, BaseEntriesAdded: 3}})
		default:
			mustAppend(t, l, appendOf(l, 3))
		}
		if got := loadLog(t, reader, "s"); got.Head() != l.Head() || got.Incarnation() != l.Incarnation() || got.Totals() != l.Totals() {
			t.Fatalf("after commit %d the head is %s of incarnation %d, want %s of %d", i+1, got.Head(), got.Incarnation(), l.Head(), l.Incarnation())
		}
		if i%31 != 0 {
			continue
		}
		want, wantGaps := planned(plain)
		if got, gaps := planned(reader); !slices.Equal(got, want) || gaps != wantGaps {
			t.Fatalf("after commit %d: plans %q with %d gaps, want %q with %d", i+1, got, gaps, want, wantGaps)
		}
	}
	before := asked.gets.Load()
	for inc, err := range reader.Incarnations(t.Context(), "s") {
		if err != nil || inc.Last == nil {
			t.Fatal(inc, err)
		}
	}
	if n := asked.gets.Load() - before; n != 2 { // one for each incarnation: what comes after its end
		t.Errorf("looked at %d objects for the ends of two logs", n)
	}
	before = asked.gets.Load()
	planned(reader)
	if n := asked.gets.Load() - before; n > 10 {
		t.Errorf("looked at %d objects for what was planned before", n)
	}
}
