package rebuild_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
)

// gatedStore lets nothing be written while its gate is held.
type gatedStore struct {
	objectstore.Store
	gate chan struct{}
}

func (s gatedStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	s.gate <- struct{}{}
	<-s.gate
	return s.Store.Put(ctx, key, body, cond)
}

// A worker that is stopped in the middle of a swap, before it names the table that it is
// about to make live, and goes on when its job was paused and the projection is fed again,
// does not exchange anything any more.
func TestSwapThatGoesOnLate(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "items"})
	direct := *k
	line := k.behindLine()
	job := direct.create(rebuild.Spec{Projection: "items"})
	stopped := gatedStore{k.store, make(chan struct{}, 1)}
	held, release := line.Hold(func(said []byte) bool { return bytes.Contains(said, []byte("RENAME TABLE")) })
	done := make(chan error, 1)
	go func() {
		for { // a busy machine may lose its lease before
			_, err := k.try(context.Background(), stopped, job.ID, 5*time.Second)
			select {
			case <-held:
				done <- err
				return
			default:
			}
		}
	}()
	<-held
	stopped.gate <- struct{}{} // and nothing else goes on either
	_, err := k.jobs.Pause(t.Context(), job.ID, jobs.Change{By: "ann"})
	k.must(err)
	stop := direct.project("items")
	k.must(k.publish(t.Context(), "shop:orders", 30))
	want := direct.reference("items")
	direct.caughtUp(want)
	<-stopped.gate
	release()
	t.Logf("the worker that was stopped: %v", <-done)
	if comment := k.query("SELECT JSONExtractUInt(comment, 'reservoir', 'generation') FROM system.tables WHERE name = 'items'"); comment != "1" || k.live("items") != 1 {
		t.Errorf("the table of generation %s is live, and %d by the document; there are %s", comment, k.live("items"), k.tables())
	}
	stop()
	_, err = k.jobs.Resume(t.Context(), job.ID, jobs.Change{By: "ann"})
	k.must(err)
	direct.run(job.ID)
	if k.live("items") != 2 {
		t.Errorf("generation %d is live", k.live("items"))
	}
	direct.caughtUp(want)
}
