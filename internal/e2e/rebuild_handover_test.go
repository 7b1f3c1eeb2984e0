package e2e_test

import (
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/rebuild"
)

// TestRebuildsInARow rebuilds projections of all kinds of engines again and again
// under constant writes: at no time is a table anything but the events up to some
// position, each once, and no table goes back.
func TestRebuildsInARow(t *testing.T) {
	rebuilds, names := lighter(100, 5), []string{"timeline", "orders", "revenue", "totals"}
	if !*long {
		rebuilds, names = 6, []string{"timeline", "revenue"}
	}
	k := newKitchen(t, 10*time.Second, stack.ClickHouseOptions{}, names...)
	for _, lane := range laneNames {
		if err := k.publish(t.Context(), lane, 500); err != nil {
			t.Fatal(err)
		}
	}
	k.archivingEvery(t, 10*time.Second) // or a busy machine is as long at small objects as it is at rebuilds
	k.start(t, k.hand())
	k.first(t, names...)
	stop := k.writing(t, 2, 10*time.Millisecond)
	r := k.reading(t, 20*time.Millisecond, nil, names...)
	began := time.Now()
	for n := range rebuilds {
		name := names[n%len(names)]
		k.built(t, k.order(t, rebuild.Spec{Projection: name}, ""), time.Minute)
		if _, err := k.exact(t.Context(), name, name); err != nil {
			t.Fatalf("after rebuild %d: %v", n, err)
		}
	}
	took := time.Since(began)
	stop()
	for _, name := range names {
		k.settled(t, name)
	}
	r.stop(t)
	t.Logf("%d rebuilds in %v under %d and %d numbers, %d looks, lag at most %v", rebuilds, took.Round(time.Millisecond),
		k.written(laneNames[0]), k.written(laneNames[1]), r.looks, r.lag)
}
