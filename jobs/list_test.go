package jobs_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
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

// TestListEndsAtWhatCannotBeRead: who goes on after the last job that was looked at misses
// none, whatever document could not be read.
func TestListEndsAtWhatCannotBeRead(t *testing.T) {
	objects := newMemory()
	var fails string
	failing := faulty.New(objects, func(s faulty.Step) (f faulty.Fault) {
		if fails != "" && s.Op == faulty.Get && strings.Contains(s.Key, fails) {
			f.Err = errors.New("no answer")
		}
		return f
	})
	var ids []string // the newest first
	for range 20 {
		ids = append(ids, create(t, jobs.NewStore(objects, jobs.StoreOptions{}), jobs.New{}).ID)
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	for at := range ids {
		store := jobs.NewStore(failing, jobs.StoreOptions{}) // which has read none yet
		var got []string
		looked := ""
		list := func() error {
			for j, err := range store.List(t.Context(), jobs.Query{After: looked, Looked: func(id string) { looked = id }}) {
				if err != nil {
					return err
				}
				got = append(got, j.ID)
			}
			return nil
		}
		if fails = ids[at]; list() == nil {
			t.Errorf("document %d: no error", at)
		}
		if fails = ""; len(got) > at {
			t.Errorf("document %d: %d jobs before it", at, len(got))
		}
		if err := list(); err != nil || !slices.Equal(got, ids) {
			t.Errorf("document %d: %q, want %q, %v", at, got, ids, err)
		}
	}
}
