package rebuild_test

import (
	"errors"
	"testing"

	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// A rollback whose answer was lost may be asked for again: it does not bring back what it
// has taken away. Whoever wants that says so.
func TestRollbackIsRepeated(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 50))
	k.archiveAll(100)
	for range 3 {
		k.build(rebuild.Spec{Projection: "items"})
	}
	for i, c := range []struct {
		to, live uint64
		err      error
	}{
		{to: 2, live: 2},
		{to: 2, live: 2},
		{live: 2, err: rebuild.ErrInvalid}, // back to 3?
		{to: 3, live: 3},
		{live: 2},
		{live: 2, err: rebuild.ErrInvalid},
		{to: 1, live: 1},
		{to: 9, live: 1, err: rebuild.ErrInvalid},
	} {
		_, err := k.svc.RollbackTo(t.Context(), "items", rebuild.RollbackOptions{By: "ann", To: c.to})
		if live := k.live("items"); live != c.live || !errors.Is(err, c.err) {
			t.Fatalf("step %d: generation %d is live, want %d; %v", i, live, c.live, err)
		}
	}
	hold, err := k.svc.Documents().Acquire(t.Context(), "items", projection.Claim{Worker: "w", Kind: projection.Rebuilder, TTL: k.opts.TTL})
	k.must(err)
	k.must(hold.DamageKept(t.Context(), 2, "a disk was lost", "ann"))
	k.must(hold.Release(t.Context()))
	if _, err := k.svc.RollbackTo(t.Context(), "items", rebuild.RollbackOptions{By: "ann", To: 2}); !errors.Is(err, projection.ErrDamaged) || k.live("items") != 1 {
		t.Errorf("a damaged generation becomes live: %v", err)
	}
	_, err = k.svc.RollbackTo(t.Context(), "items", rebuild.RollbackOptions{By: "ann", To: 2, Damaged: true})
	if k.must(err); k.live("items") != 2 {
		t.Errorf("generation %d is live", k.live("items"))
	}
}
