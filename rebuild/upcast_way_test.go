package rebuild_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/upcast"
)

// A definition with upcasters gets its events as they leave them, whatever its kind, also
// where ClickHouse could read the archive itself: the job says which way they go.
func TestUpcastersTakeTheWayThroughGo(t *testing.T) {
	k := newKitchen(t, true, functions()...)
	set, err := upcast.New(
		upcast.Func("OrderPaid", "", "2", "total is 5000", func(e *upcast.Edit) error { return e.Set("total", 5000) }),
		upcast.Rule{Type: "Noise", To: "2", NewType: "OrderLost", Name: "noise is an order that was lost", Func: func(*upcast.Edit) error { return nil }},
	)
	k.must(err)
	k.opts.Upcasters = set
	k.withStates()
	upcasting := func(text string) string { return strings.Replace(text, "kind: ", "upcast: true\nkind: ", 1) }
	k.defs.put("timeline", timelineYAML)
	k.defs.put("totals", upcasting(strings.Replace(timelineYAML, "name: timeline", "name: totals", 1)))
	k.defs.put("mapped", upcasting(mappedYAML))
	k.defs.put("counts", upcasting(countsYAML))
	k.must(k.publish(t.Context(), "shop:orders", 300))
	k.archiveAll(100)
	k.must(k.publish(t.Context(), "shop:orders", 50)) // through the batches of the catch-up

	said := func(job *jobs.Job) bool {
		return strings.Contains(messages(job), "the events go through upcasters, and so through this process")
	}
	if said(k.build(rebuild.Spec{Projection: "timeline"})) {
		t.Error("a definition without upcasters goes through them")
	}
	if !said(k.build(rebuild.Spec{Projection: "totals"})) {
		t.Error("a rebuild in SQL does not say that it goes through upcasters")
	}
	for _, name := range []string{"mapped", "counts"} {
		k.build(rebuild.Spec{Projection: name})
	}
	const upcasted = "if(what = 'OrderPaid', 5000, total)"
	want := k.query("SELECT count(), countIf(what = 'OrderPaid') * 5000 FROM timeline")
	noise := k.query("SELECT 350 - count() FROM timeline")
	for _, name := range []string{"totals", "mapped"} {
		if got := k.query("SELECT countIf(what != 'OrderLost'), sumIf(total, what = 'OrderPaid')::UInt64 FROM %s", name); got != want {
			t.Errorf("%s has %s orders and what was paid, want %s", name, got, want)
		}
		if got := k.query("SELECT countIf(what = 'OrderLost') FROM %s", name); got != noise || noise == "0" {
			t.Errorf("%s has %s lost orders, want %s", name, got, noise)
		}
		if got := k.query("SELECT count() FROM (SELECT position, %s FROM timeline EXCEPT SELECT position, total FROM %s)", upcasted, name); got != "0" {
			t.Errorf("%s has not the totals of %s events", name, got)
		}
	}
	if got, want := k.query("SELECT sum(events), sum(total) FROM counts FINAL"), k.query("SELECT count(), sum(floor(total))::Int64 FROM totals"); got != want {
		t.Errorf("the fold has %s events and their total, want %s", got, want)
	}

	for _, name := range []string{"totals", "mapped", "counts"} {
		_, err := k.svc.Create(t.Context(), rebuild.Spec{Projection: name, Way: rebuild.WayPushdown}, rebuild.CreateOptions{})
		if !errors.Is(err, rebuild.ErrInvalid) || !strings.Contains(err.Error(), "cannot be pushed down") || name == "totals" && !strings.Contains(err.Error(), "upcasters") {
			t.Errorf("%s pushed down: %v", name, err)
		}
	}
}
