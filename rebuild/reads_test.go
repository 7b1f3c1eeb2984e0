package rebuild_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

const readsYAML = `
name: %s
kind: map
source: {streams: ["shop:*"], types: ["Order*"]}
table:
  engine: MergeTree
  order_by: [tenant]
  columns: {tenant: LowCardinality(String), total: Float64, unread: String, at: "DateTime64(6, 'UTC')", version: Int64, position: String}
failures: {dead_letters: 1000000}
`

// What a function does not look at need not be read: its rows are the same, whether they
// are loaded or fed, and letters say of their events what they always do.
func TestFunctionsThatReadPartOfEvents(t *testing.T) {
	f := func(e *projection.Event) ([]projection.Row, error) {
		var p struct{ Total float64 }
		if err := e.Decode(&p); err != nil {
			return nil, err
		}
		return []projection.Row{{
			"tenant": e.Tenant, "total": p.Total, "unread": fmt.Sprint(e.EventID, e.Type, e.AggregateID, e.CorrelationID, len(e.Fields)),
			"at": e.OccurredAt, "version": e.Version, "position": fmt.Sprint(e.Stream, e.Incarnation, e.ID),
		}}, nil
	}
	k := newKitchen(t, false,
		projection.NewMap("part", f).Reads(event.Tenant, event.OccurredAt, event.Payload),
		projection.NewMap("whole", func(e *projection.Event) ([]projection.Row, error) {
			c := projection.Event{Stream: e.Stream, Incarnation: e.Incarnation, ID: e.ID, Tenant: e.Tenant, OccurredAt: e.OccurredAt, Payload: e.Payload}
			return f(&c)
		}),
	)
	texts := map[string]string{"part": fmt.Sprintf(readsYAML, "part"), "whole": fmt.Sprintf(readsYAML, "whole")}
	for name, text := range texts {
		k.defs.put(name, text)
	}
	const sum = "SELECT count(), sum(cityHash64(tenant, total, unread, at, version, position)) FROM %s"
	k.must(k.publish(t.Context(), "shop:orders", 1500))
	k.must(k.raw.Do(t.Context(), "XADD", "shop:orders", "*", "event_id", "spoiled", "type", "OrderPaid", "tenant", "t1", "payload", `{"total":`).Err())
	k.must(k.publish(t.Context(), "shop:orders", 1500))
	k.archiveAll(1000)
	for name := range texts {
		job := k.build(rebuild.Spec{Projection: name})
		letters := 0
		for l, err := range k.svc.DeadLetters(t.Context(), job.ID) {
			k.must(err)
			if letters++; l.EventID != "spoiled" || l.Type != "OrderPaid" {
				t.Errorf("the letter of %s is %+v", name, l)
			}
		}
		if letters != 1 {
			t.Errorf("%s has %d letters", name, letters)
		}
	}
	same := func() bool { return k.query(sum, "part") == k.query(sum, "whole") }
	if !same() {
		t.Errorf("the rows are %s, and %s when all is read", k.query(sum, "part"), k.query(sum, "whole"))
	}
	before := k.query(sum, "part")
	k.project("part", "whole")
	k.must(k.publish(t.Context(), "shop:orders", 500))
	eventually(t, 20*time.Second, func() bool { return same() && k.query(sum, "part") != before }, func() string {
		return "fed, the rows are " + k.query(sum, "part") + ", and " + k.query(sum, "whole") + " when all is read"
	})
}
