package e2e_test

import (
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/rebuild"
)

// TestLagWhileRebuilding publishes 2,000 events a second while a projection is rebuilt
// and swapped again and again: its readers see no event later than two seconds after it
// was written.
func TestLagWhileRebuilding(t *testing.T) {
	takesLong(t)
	perSecond, most := 2000, 2*time.Second
	if raceDetector { // everything takes several times as long
		perSecond, most = 500, 20*time.Second
	}
	const every = 10 * time.Millisecond
	k := newKitchen(t, 10*time.Second, stack.ClickHouseOptions{}, "timeline", "revenue")
	for range lighter(20, 5) {
		for _, lane := range laneNames {
			if err := k.publish(t.Context(), lane, 5000); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustReservoir(t, k.env, "archive", "--once")
	k.archiving(t)
	feeds, builds := k.hand(), k.hand()
	feeds.Rebuilds, builds.Projector = false, false
	k.start(t, feeds)
	k.start(t, builds)
	k.first(t, "timeline", "revenue")
	k.awaitAll(t, "timeline")
	k.awaitAll(t, "revenue")

	stop := k.writing(t, perSecond*int(every)/int(time.Second), every)
	began, before := time.Now(), k.written(laneNames[0])+k.written(laneNames[1])
	r := k.reading(t, 20*time.Millisecond, nil, "timeline", "revenue")
	rebuilds := 0
	for ; rebuilds < 2 || time.Since(began) < 6*time.Second; rebuilds++ {
		k.built(t, k.order(t, rebuild.Spec{Projection: []string{"timeline", "revenue"}[rebuilds%2]}, ""), time.Minute)
	}
	took := time.Since(began)
	stop()
	wanted := k.written(laneNames[0]) + k.written(laneNames[1]) - before
	r.stop(t)
	k.settled(t, "timeline")
	k.settled(t, "revenue")
	t.Logf("%d rebuilds in %v beside %.0f events a second; lag at most %v in %d looks",
		rebuilds, took.Round(time.Millisecond), float64(wanted)*4/3/took.Seconds(), r.lag, r.looks)
	for name, lag := range r.lag {
		if lag > most {
			t.Errorf("%s was behind by %v, want at most %v", name, lag, most)
		}
	}
}
