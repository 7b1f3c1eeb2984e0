package rebuild_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/rebuild"
)

// stalledStore stops at a write, and everything after it fails; that write comes later.
type stalledStore struct {
	objectstore.Store
	at   func(key string) bool
	mu   sync.Mutex
	late func() error
}

func (s *stalledStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return objectstore.Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late == nil && s.at(key) {
		s.late = func() error {
			_, err := s.Store.Put(context.Background(), key, bytes.NewReader(text), cond)
			return err
		}
	}
	if s.late != nil {
		return objectstore.Info{}, faulty.ErrCrashed
	}
	return s.Store.Put(ctx, key, bytes.NewReader(text), cond)
}

// The document of a hand-over that comes while its rebuild is cancelled counts for all of
// the tables or for none.
func TestHandOverComesWhileItIsCancelled(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "lines"})
	want := k.contents("lines")
	for n, read := range []int{2, 1}[:between(1, 2)] {
		job := k.create(rebuild.Spec{Projection: "lines"})
		generation := fmt.Sprint(n + 2)
		stalled := &stalledStore{Store: k.store, at: func(key string) bool {
			comment, err := k.ch.Query(context.Background(), "SELECT comment FROM system.tables WHERE name = 'lines' AND database = currentDatabase()")
			return err == nil && key == "projections/lines.json" && strings.Contains(comment, `"generation":`+generation)
		}}
		for stalled.late == nil { // a busy machine may lose its lease before
			if job, err := k.try(t.Context(), stalled, job.ID, 2*time.Second); err == nil {
				t.Fatalf("the rebuild is %s", job.State)
			}
		}
		_, err := k.jobs.Cancel(t.Context(), job.ID, jobs.Change{By: "ann"})
		k.must(err)
		reads, landed := 0, "not"
		store := faulty.New(k.store, func(s faulty.Step) faulty.Fault {
			if s.Op == faulty.Get && s.Key == "projections/lines.json" {
				if reads++; reads == read {
					landed = fmt.Sprint(stalled.late())
				}
			}
			return faulty.Fault{}
		})
		job, err = k.try(t.Context(), store, job.ID, time.Minute)
		k.must(err)
		if job.State != jobs.Cancelled {
			t.Errorf("the rebuild is %s: %+v", job.State, job.LastError)
		}
		live := k.live("lines")
		t.Logf("at read %d it comes: %v, and generation %d is live", read, landed, live)
		for _, name := range []string{"lines", "lines_sums", "lines_late", "lines_large", "lines_seen"} {
			if comment := k.query("SELECT comment FROM system.tables WHERE name = '%s' AND database = currentDatabase()", name); !strings.Contains(comment, fmt.Sprintf(`"generation":%d,`, live)) {
				t.Fatalf("generation %d is live, and %s is %q; there are %s", live, name, comment, k.tables())
			}
		}
		if got := k.contents("lines"); got != want {
			t.Errorf("%s", firstDifference("lines", got, want))
		}
	}
}
