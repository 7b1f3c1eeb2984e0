package jobs_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// counted counts the objects that are read.
type counted struct {
	objectstore.Store
	gets atomic.Int64
}

func (c *counted) Get(ctx context.Context, key string, r objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	c.gets.Add(1)
	return c.Store.Get(ctx, key, r)
}

// TestListReadsWhatChanged: a list reads the documents that another server changed or
// made, shows each as it is, and no others; and nobody who changes what it was given
// changes what others are.
func TestListReadsWhatChanged(t *testing.T) {
	objects := newMemory()
	reads := &counted{Store: objects}
	here, there := jobs.NewStore(reads, jobs.StoreOptions{}), jobs.NewStore(objects, jobs.StoreOptions{})
	var ids []string
	for range 20 {
		ids = append(ids, create(t, there, jobs.New{}).ID)
	}
	listed := func(want int64) map[string]*jobs.Job {
		t.Helper()
		before := reads.gets.Load()
		found := map[string]*jobs.Job{}
		for j, err := range here.List(t.Context(), jobs.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			found[j.ID] = j
		}
		if got := reads.gets.Load() - before; got != want {
			t.Errorf("read %d documents, want %d", got, want)
		}
		return found
	}
	listed(20)
	listed(0)
	paused, err := there.Pause(t.Context(), ids[3], jobs.Change{By: "ann", Reason: "later"})
	if err != nil {
		t.Fatal(err)
	}
	more := create(t, there, jobs.New{})
	found := listed(2)
	if len(found) != 21 || found[more.ID] == nil {
		t.Errorf("found %d jobs", len(found))
	}
	j := found[paused.ID]
	if j.State != jobs.Paused || j.ETag != paused.ETag || len(j.Log) != len(paused.Log) {
		t.Errorf("%+v, want %+v", j, paused)
	}
	j.Log[0].Message, j.State = "changed", jobs.Failed
	if again := listed(0)[paused.ID]; again.State != jobs.Paused || again.Log[0].Message != paused.Log[0].Message {
		t.Errorf("%+v, want %+v", again, paused)
	}
}
