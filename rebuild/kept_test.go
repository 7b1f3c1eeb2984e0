package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/rebuild"
)

// A previous generation that is fed is as fresh as the live one, with its dependents, by
// its own definition; after a rollback nothing has to be caught up with.
func TestPreviousGenerationIsFed(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	names := []string{"lines", "revenue"}
	good := map[string]string{}
	for _, name := range names {
		good[name] = k.defs.texts[name] + "retention: {keep: 1h, feed: true}\n"
		k.defs.put(name, good[name])
	}
	k.must(k.publish(t.Context(), "shop:orders", 600))
	k.archiveAll(300)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
	}
	k.defs.put("lines", strings.Replace(good["lines"], "JSONExtractInt(item, 'n') AS n", "JSONExtractInt(item, 'n') + 1000 AS n", 1))
	stop := k.project(names...)
	stopWriting := k.writer(30 * time.Millisecond)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
	}
	k.must(k.publish(t.Context(), "shop:new", 50)) // a stream that is new
	stopWriting()
	k.defs.put("lines", good["lines"])
	want := k.reference(names...)
	for _, name := range names {
		eventually(t, 20*time.Second, func() bool {
			doc, err := k.svc.Documents().Get(t.Context(), name)
			k.must(err)
			kept := doc.Kept(1)
			if kept == nil || !kept.Feed || kept.Table != name+"__g1" {
				t.Fatalf("the previous generations of %s are %+v", name, doc.Previous)
			}
			for stream, at := range doc.Live.Positions {
				if kept.Positions[stream] != at {
					return false
				}
			}
			return len(doc.Live.Positions) == 3 || name == "revenue" && len(doc.Live.Positions) >= 2
		}, func() string { return "the previous generation of " + name + " does not come as far as the live one" })
	}
	if k.query("SELECT min(n) >= 1000 FROM lines") != "1" {
		t.Error("the live table is not that of the new definition")
	}
	stop()
	for _, name := range names {
		_, err := k.svc.Rollback(t.Context(), name, "ann")
		k.must(err)
		if got := k.contents(name); got != want[name] {
			t.Errorf("after the rollback %s", firstDifference(name, got, want[name]))
		}
	}
	// The other way round it goes on too.
	k.project(names...)
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.caughtUp(k.reference(names...))
}
