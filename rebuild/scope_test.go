package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/rebuild"
)

// A scoped rebuild changes the rows of its scope, and carries the rest over, while the
// table is fed.
func TestScopedRebuild(t *testing.T) {
	k := newKitchen(t, true)
	k.examples()
	names := []string{"items", "orders", "revenue"}
	k.must(k.publish(t.Context(), "shop:orders", 1500))
	k.archiveAll(400)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
	}
	k.project(names...)
	stopWriting := k.writer(10 * time.Millisecond)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name, Scope: rebuild.Scope{Tenants: []string{"t3"}}})
	}
	stopWriting()
	k.caughtUp(k.reference(names...))

	k.defs.put("items", strings.Replace(k.defs.texts["items"], "JSONExtractInt(item, 'n') AS n", "JSONExtractInt(item, 'n') + 1000 AS n", 1))
	k.build(rebuild.Spec{Projection: "items", Scope: rebuild.Scope{Tenants: []string{"t3"}}})
	if got := k.query("SELECT groupUniqArray(tenant) FROM items WHERE n >= 1000"); got != "['t3']" {
		t.Errorf("the new definition was used for %s", got)
	}
	if got := k.query("SELECT count() FROM items WHERE n < 1000 AND tenant = 't3'"); got != "0" {
		t.Errorf("%s rows of the scope are as before", got)
	}
}
