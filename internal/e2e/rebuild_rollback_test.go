package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/rebuild"
)

// TestRollbackUnderWrites swaps in tables of a definition with a mistake, and takes them
// back: the earlier generations are live again, as if they had been fed all the time.
func TestRollbackUnderWrites(t *testing.T) {
	names := []string{"timeline", "orders", "revenue", "totals"}
	if !*long {
		names = names[1:3]
	}
	k := newKitchen(t, 10*time.Second, stack.ClickHouseOptions{}, names...)
	for _, lane := range laneNames {
		if err := k.publish(t.Context(), lane, 500); err != nil {
			t.Fatal(err)
		}
	}
	k.archiving(t)
	k.start(t, k.hand())
	k.first(t, names...)
	stop := k.writing(t, 5, 20*time.Millisecond)
	for _, name := range names {
		text := kitchenTables[name]
		k.define(t, name, strings.ReplaceAll(text, "JSONExtractUInt(payload, 'n')", "JSONExtractUInt(payload, 'n') + 1"))
		k.built(t, k.order(t, rebuild.Spec{Projection: name}, ""), time.Minute)
		// To orders a number more looks like one event more.
		if _, err := k.exact(t.Context(), name, name); err == nil && name != "orders" {
			t.Errorf("the definition of %s with the mistake is not live", name)
		}
		doc, err := k.svc.Rollback(t.Context(), name, "test")
		if err != nil {
			t.Fatal(err)
		}
		if doc.Live.Generation != 1 || len(doc.Previous) != 1 {
			t.Errorf("generation %d of %s is live after the rollback, and %d are kept", doc.Live.Generation, name, len(doc.Previous))
		}
		if _, err := k.exact(t.Context(), name, name); err != nil {
			t.Errorf("just after the rollback: %v", err)
		}
		k.define(t, name, text)
	}
	r := k.reading(t, 20*time.Millisecond, nil, names...)
	stop()
	for _, name := range names {
		k.settled(t, name)
	}
	r.stop(t)
}
