package rebuild_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/rebuild"
)

// A projector feeds the projections that it is told to, and no other, and shows where they
// are.
func TestPositionOfNamedProjections(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("ids", idsYAML)
	k.defs.put("seen", seenYAML)
	k.must(k.publish(t.Context(), "shop:orders", 20))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "ids"})
	k.build(rebuild.Spec{Projection: "seen"})
	reg := prometheus.NewPedanticRegistry()
	k.projectWith(reg, "ids")
	k.must(k.publish(t.Context(), "shop:orders", 10))
	k.has(30)
	last, err := k.raw.XRevRangeN(t.Context(), "shop:orders", "+", "-", 1).Result()
	k.must(err)
	id, err := event.ParseID(last[0].ID)
	k.must(err)
	want := fmt.Sprint(map[string]float64{"ids": float64(id.Ms) / 1000})
	eventually(t, 30*time.Second, func() bool { return fmt.Sprint(k.measured(reg, "position_seconds")) == want }, func() string {
		return fmt.Sprintf("the positions are %v, want %s", k.measured(reg, "position_seconds"), want)
	})
	if lag, ok := k.measured(reg, "lag_seconds")["ids"]; !ok || lag < 0 || lag > time.Since(time.UnixMilli(int64(id.Ms))).Seconds() {
		t.Errorf("the lag is %v, %t", lag, ok)
	}
	if rows := k.query("SELECT count() FROM seen"); rows != "20" {
		t.Errorf("the other table has %s events, want 20", rows)
	}
}
