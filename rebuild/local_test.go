package rebuild_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/rebuild"
)

// ClickHouse reads an archive in a directory itself, where it can: what it makes of it is
// what this process makes of it.
func TestPushdownFromDirectory(t *testing.T) {
	k := newKitchen(t, false)
	k.opts.Pushdown.Dir = k.dir
	var err error
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 900))
	k.archiveAll(200)
	for _, name := range []string{"lines", "revenue"} {
		k.build(rebuild.Spec{Projection: name, Way: rebuild.WayPushdown})
		want := k.reference(name)[name]
		if got := k.contents(name); got != want {
			t.Error(firstDifference(name, got, want))
		}
	}
}
