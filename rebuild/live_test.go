package rebuild_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/rebuild"
)

// eventually waits until ok.
func eventually(t testing.TB, within time.Duration, ok func() bool, what func() string) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal(what())
		case <-tick.C:
		}
	}
}

// reference builds the same projections under other names, in one pass from what
// Redis and the archive hold, and returns what their tables hold.
func (k *kitchen) reference(names ...string) map[string]string {
	k.t.Helper()
	out := map[string]string{}
	for _, name := range names {
		text := k.defs.texts[name]
		other := strings.Replace(text, "name: "+name+"\n", "name: "+name+"_ref\n", 1)
		for _, dep := range []string{"lines_sums", "lines_late", "lines_large", "lines_seen"} {
			other = strings.Replace(other, "name: "+dep+"\n", "name: "+dep+"_ref\n", 1)
		}
		k.defs.put(name+"_ref", other)
		k.build(rebuild.Spec{Projection: name + "_ref", Way: rebuild.WayGo})
		out[name] = k.contents(name + "_ref")
	}
	return out
}

// caughtUp waits until the live tables are what the reference says.
func (k *kitchen) caughtUp(want map[string]string) {
	k.t.Helper()
	for name, text := range want {
		eventually(k.t, 15*time.Second, func() bool { return k.contents(name) == text }, func() string {
			return firstDifference(name, k.contents(name), text)
		})
	}
}

func firstDifference(name, got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := "", ""
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return name + " has " + strings.Join([]string{a, "want", b}, "\n")
		}
	}
	return name + " is equal by now"
}

// writer publishes all the while, until the returned function is called.
func (k *kitchen) writer(every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := k.publish(context.Background(), []string{"shop:orders", "shop:payments"}[n%2], 5); err != nil {
					k.t.Error(err)
					return
				}
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	k.t.Cleanup(stop)
	return stop
}

func TestLiveFromTheStart(t *testing.T) {
	k := newKitchen(t, true)
	names := k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 10))
	k.archiveAll(100)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
	}
	stop := k.project()
	for range 5 {
		k.must(k.publish(t.Context(), "shop:orders", 300))
		k.archiveAll(100)
		k.must(k.publish(t.Context(), "shop:payments", 300)) // a new stream
	}
	k.caughtUp(k.reference(names...))
	stop()
	// Another worker goes on.
	k.must(k.publish(t.Context(), "shop:orders", 300))
	k.project()
	k.caughtUp(k.reference(names...))
}

// Rebuilds in a row of projections that are written to all the time miss nothing, and
// readers see no table go back.
func TestRebuildsUnderWrites(t *testing.T) {
	k := newKitchen(t, true)
	k.examples()
	names := []string{"timeline", "revenue", "orders"}
	k.must(k.publish(t.Context(), "shop:orders", 2000))
	k.archiveAll(500)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
	}
	k.project()
	stopWriting := k.writer(5 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	readers.Go(func() {
		last := ""
		for ctx.Err() == nil {
			got, err := k.ch.Query(context.Background(), "SELECT count() FROM timeline")
			if err != nil {
				t.Errorf("a reader: %v", err)
				return
			}
			if len(got) < len(last) || len(got) == len(last) && got < last {
				t.Errorf("the table went back from %s to %s", last, got)
			}
			last = got
		}
	})
	for i := range between(6, 100) {
		k.build(rebuild.Spec{Projection: names[i%len(names)]})
		if i%5 == 0 {
			k.archiveAll(500)
		}
	}
	stopWriting()
	cancel()
	readers.Wait()
	k.caughtUp(k.reference(names...))
}

func TestRollback(t *testing.T) {
	k := newKitchen(t, false)
	names := k.examples()[:4]
	k.must(k.publish(t.Context(), "shop:orders", 1000))
	k.archiveAll(500)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
	}
	k.project()
	stopWriting := k.writer(5 * time.Millisecond)
	good := k.defs.texts["timeline"]
	k.defs.put("timeline", strings.Replace(good, "JSONExtractFloat(payload, 'total')", "-JSONExtractFloat(payload, 'total')", 1))
	for _, name := range names {
		job := k.build(rebuild.Spec{Projection: name})
		v, err := k.svc.Verification(t.Context(), job.ID)
		k.must(err)
		if name == "timeline" && (v.Difference == nil || v.Difference.Equal() || len(v.Difference.Samples) == 0) {
			t.Errorf("the difference of a changed definition is %+v", v.Difference)
		}
	}
	if k.query("SELECT min(total) < 0 FROM timeline") != "1" {
		t.Error("the new definition is not live")
	}
	for _, name := range names {
		doc, err := k.svc.Rollback(t.Context(), name, "test")
		k.must(err)
		if doc.Live.Generation != 1 {
			t.Errorf("generation %d of %s is live after a rollback", doc.Live.Generation, name)
		}
	}
	stopWriting()
	k.defs.put("timeline", good)
	k.caughtUp(k.reference(names...))
	doc, err := k.svc.Documents().Get(t.Context(), "timeline")
	k.must(err)
	if doc.Live.Generation != 1 || len(doc.Previous) != 1 || doc.Previous[0].Generation.Generation != 2 {
		t.Errorf("the document is %+v", doc)
	}
}
