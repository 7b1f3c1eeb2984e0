package rebuild_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/rebuild"
)

// exchanged does something when the table of a generation has the live name and the
// document does not say so yet.
func (k *kitchen) exchanged(name, generation string, do func() faulty.Fault) *faulty.Store {
	var once sync.Once
	return faulty.New(k.store, func(s faulty.Step) (fault faulty.Fault) {
		if s.Op != faulty.Put || s.Key != "projections/"+name+".json" {
			return fault
		}
		comment, err := k.ch.Query(context.Background(), "SELECT comment FROM system.tables WHERE name = '"+name+"' AND database = currentDatabase()")
		if err == nil && strings.Contains(comment, `"generation":`+generation) {
			once.Do(func() { fault = do() })
		}
		return fault
	})
}

// live gives the generation that is live.
func (k *kitchen) live(name string) uint64 {
	k.t.Helper()
	doc, err := k.svc.Documents().Get(context.Background(), name)
	k.must(err)
	return doc.Live.Generation
}

// Whoever leaves between the exchange and the document leaves both as one.
func TestSwapIsNotCutShortByLeaving(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "items"})
	ctx, leave := context.WithCancel(t.Context())
	left := false
	store := k.exchanged("items", "2", func() faulty.Fault {
		leave()
		left = true
		return faulty.Fault{Delay: 300 * time.Millisecond} // it fails if ctx ends meanwhile
	})
	job := k.create(rebuild.Spec{Projection: "items"})
	if _, err := k.try(ctx, store, job.ID, time.Minute); err != nil {
		t.Log(err)
	}
	if live := k.live("items"); !left || live != 2 {
		t.Errorf("generation %d is live", live)
	}
	k.run(job.ID)
	if got := k.tables(); got != "items items__g1" {
		t.Errorf("there are %s", got)
	}
}

// A swap whose worker has died is said to be cut short, and taken back if the job is
// paused: the projection is fed. The job goes on later.
func TestSwapOfPausedJobIsTakenBack(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "lines"})
	job := k.create(rebuild.Spec{Projection: "lines"})
	dying := k.exchanged("lines", "2", func() faulty.Fault { return faulty.Fault{Crash: true} })
	for !dying.Crashed() { // a busy machine may lose its lease before
		if job, err := k.try(t.Context(), dying, job.ID, 2*time.Second); err == nil {
			t.Fatalf("the rebuild is %s", job.State)
		}
	}
	var said lockedBuffer
	k.opts.Logger = slog.New(slog.NewTextHandler(&said, nil))
	var err error
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	k.project("lines")
	eventually(t, 10*time.Second, func() bool { return strings.Contains(said.String(), job.ID) }, func() string {
		return "nobody says that the swap is cut short: " + said.String()
	})
	_, err = k.jobs.Pause(t.Context(), job.ID, jobs.Change{By: "ann"})
	k.must(err)
	k.must(k.publish(t.Context(), "shop:orders", 20))
	k.caughtUp(k.reference("lines"))
	if live := k.live("lines"); live != 1 {
		t.Errorf("generation %d is live", live)
	}
	_, err = k.jobs.Resume(t.Context(), job.ID, jobs.Change{By: "ann"})
	k.must(err)
	k.run(job.ID)
	if live := k.live("lines"); live != 2 {
		t.Errorf("generation %d is live", live)
	}
	k.caughtUp(k.reference("lines"))
}

// A rollback after a swap whose worker died before it noted that is not undone by the one
// that goes on.
func TestSwapIsNotRepeatedAfterRollback(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 50))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "items"})
	job := k.create(rebuild.Spec{Projection: "items"})
	dying := faulty.New(k.store, func(s faulty.Step) faulty.Fault {
		return faulty.Fault{Crash: s.Op == faulty.Put && strings.HasPrefix(s.Key, "jobs/") && k.live("items") == 2}
	})
	for !dying.Crashed() { // a busy machine may lose its lease before
		if job, err := k.try(t.Context(), dying, job.ID, 2*time.Second); err == nil {
			t.Fatalf("the rebuild is %s", job.State)
		}
	}
	_, err := k.svc.Rollback(t.Context(), "items", "ann")
	k.must(err)
	k.run(job.ID)
	if live := k.live("items"); live != 1 {
		t.Errorf("generation %d is live after a rollback", live)
	}
}

// A swap that has begun is ended, whatever the definition says by then: readers see some of
// the new tables already.
func TestSwapThatHasBegunOutlastsDefinition(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "lines"})
	want := k.reference("lines")
	live := func() (tables string) {
		tables, err := k.ch.Query(context.Background(), `SELECT arrayStringConcat(arraySort(groupArray(name)), ' ') FROM system.tables
			WHERE database = currentDatabase() AND comment LIKE '%"projection":"lines"%"generation":2%' AND name NOT LIKE '%\\_\\_%' FORMAT TSVRaw`)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(tables)
	}
	job := k.create(rebuild.Spec{Projection: "lines"})
	dying := faulty.New(k.store, func(s faulty.Step) faulty.Fault {
		return faulty.Fault{Crash: s.Op == faulty.Put && s.Key == "projections/lines.json" && live() == "lines_sums"}
	})
	for !dying.Crashed() { // a busy machine may lose its lease before
		if job, err := k.try(t.Context(), dying, job.ID, 2*time.Second); err == nil {
			t.Fatalf("the rebuild is %s: %+v", job.State, job.LastError)
		}
	}
	k.defs.put("lines", strings.Replace(linesYAML, "lines_large", "lines_great", 1))
	k.run(job.ID)
	if got := live(); got != "lines lines_large lines_late lines_seen lines_sums" || k.live("lines") != 2 {
		t.Errorf("of generation %d %q are live", k.live("lines"), got)
	}
	for name, contents := range want {
		if k.contents(name) != contents {
			t.Errorf("%s is another one", name)
		}
	}
}
