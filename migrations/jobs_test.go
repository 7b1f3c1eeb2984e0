package migrations_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/jobs"
)

func TestJobs(t *testing.T) {
	b := newBench(t, false)
	b.up()
	ctx := t.Context()
	store := jobs.NewStore(b.store, jobs.StoreOptions{})
	create := func(kind, target, name, spec string) *jobs.Job {
		t.Helper()
		job, err := store.Create(ctx, jobs.New{Kind: kind, Target: target, Name: name, Reason: "it was wrong", CreatedBy: "ann", Spec: json.RawMessage(spec), Paused: true})
		b.must(err)
		return job
	}
	rebuild := create("rebuild", "projection:orders", "fix", `{"projection":"orders","concurrency":2}`)
	replay := create("replay", "the orders", "again", `{"streams":["orders"],"sink":{"type":"http","password":"sesame"}}`)
	sync := func(jobs, changed, events uint64) {
		t.Helper()
		r, err := b.m.SyncJobs(ctx, store)
		b.must(err)
		if r.Jobs != jobs || r.Changed != changed || r.Events < events || events == 0 && r.Events > 0 {
			t.Errorf("report %+v, want %d %d %d", r, jobs, changed, events)
		}
	}
	sync(2, 2, 2)
	sync(2, 0, 0)
	if got := b.query("SELECT concat(id, ' ', projection, ' ', name, ' ', reason, ' ', created_by, ' ', state, ' ', JSONExtractString(spec, 'projection'), ' ', toString(ended_at IS NULL)) FROM shop.rebuilds"); got != `"`+rebuild.ID+` orders fix it was wrong ann paused orders 1"` {
		t.Errorf("rebuilds: %s", got)
	}
	if got := b.query("SELECT concat(id, ' ', target, ' ', spec) FROM shop.replays"); got != fmt.Sprintf("%q", replay.ID+` the orders {"streams":["orders"]}`) {
		t.Errorf("replays: %s", got)
	}
	_, err := store.Cancel(ctx, replay.ID, jobs.Change{By: "bob", Reason: "not needed"})
	b.must(err)
	sync(2, 1, 1)
	if got := b.query("SELECT concat(state, ' ', state_reason) FROM shop.replays"); !strings.HasPrefix(got, `"cancel`) {
		t.Errorf("replays after cancel: %s", got)
	}
	if got := b.query("SELECT count() FROM shop.job_log WHERE by = 'bob' AND job = '" + replay.ID + "'"); got != "1" {
		t.Errorf("what bob did: %s", got)
	}
	// The log of the table is that of the document.
	for _, id := range []string{rebuild.ID, replay.ID} {
		job, err := store.Get(ctx, id)
		b.must(err)
		if got := b.query("SELECT count() FROM shop.job_log WHERE job = '" + id + "'"); got != fmt.Sprint(len(job.Log)+job.LogDropped) {
			t.Errorf("log of %s: %s, want %d", id, got, len(job.Log))
		}
	}
}

// TestJobsAtOnce has many copy the same at the same time.
func TestJobsAtOnce(t *testing.T) {
	b := newBench(t, false)
	b.up()
	store := jobs.NewStore(b.store, jobs.StoreOptions{})
	const n = 1200 // more than two pages
	for i := range n {
		_, err := store.Create(t.Context(), jobs.New{Kind: "rebuild", Target: fmt.Sprintf("projection:p%d", i), Spec: map[string]int{"n": i}, Paused: true})
		b.must(err)
	}
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			_, err := b.m.SyncJobs(t.Context(), store)
			return err
		})
	}
	b.must(group.Wait())
	if got := b.query("SELECT concat(toString(count()), ' ', toString(uniq(projection)), ' ', toString(min(state)), ' ', toString((SELECT count() FROM shop.job_log))) FROM shop.rebuilds"); !strings.HasPrefix(got, `"1200 1200 paused`) {
		t.Errorf("rebuilds: %s", got)
	}
	r, err := b.m.SyncJobs(t.Context(), store)
	if err != nil || r.Jobs != n || r.Changed != 0 || r.Events != 0 {
		t.Errorf("again: %+v, %v", r, err)
	}
}
