package rebuild_test

import (
	"context"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

// await changes a job as people do, and waits until its worker has seen it.
func (k *kitchen) await(id string, change func(context.Context, string, jobs.Change) (*jobs.Job, error)) {
	k.t.Helper()
	asked, err := change(k.t.Context(), id, jobs.Change{By: "ann"})
	k.must(err)
	eventually(k.t, 30*time.Second, func() bool {
		now, err := k.jobs.Get(k.t.Context(), id)
		k.must(err)
		return now.Nonce != asked.Nonce
	}, func() string { return "the worker does not see what was asked of it" })
}

// at changes a job when it comes to a phase, or to the middle of it, and gives it as its
// worker leaves it.
func (k *kitchen) at(id, phase string, middle bool, change func(context.Context, string, jobs.Change) (*jobs.Job, error)) *jobs.Job {
	k.t.Helper()
	asked := false
	job, err := k.told(id, func(j jobs.Job) {
		if p := &j.Progress; !asked && p.Phase == phase && (!middle || p.Done > p.Begun && p.Done < p.Total) {
			asked = true
			k.await(id, change)
		}
	})
	k.must(err)
	if !asked || job.Progress.Phase != phase {
		k.t.Fatalf("the rebuild is %s in phase %s: %+v", job.State, job.Progress.Phase, job.LastError)
	}
	return job
}

// A rebuild can be paused, resumed and cancelled in every phase: paused it stays in it,
// resumed it ends with the table as if nothing had happened, and cancelled it leaves nothing.
func TestPauseResumeCancelInEveryPhase(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.streams(6, 40)
	k.must(k.publish(t.Context(), "shop:orders", 200))
	k.archiveAll(100)
	all := []string{
		rebuild.PhasePlan, rebuild.PhaseShadow, rebuild.PhaseCarry, rebuild.PhaseLoad, rebuild.PhasePour,
		rebuild.PhaseCatchUp, rebuild.PhaseVerify, rebuild.PhaseApproval, rebuild.PhaseHandOver,
	}
	some := all
	if !*long {
		some = []string{rebuild.PhaseCarry, rebuild.PhaseLoad, rebuild.PhaseHandOver}
	}
	for _, c := range []struct {
		name   string
		scope  rebuild.Scope
		phases []string
		middle bool
	}{
		{"revenue", rebuild.Scope{Tenants: []string{"t1", "t2"}}, all, false}, // every phase has something to do
		{"items", rebuild.Scope{Tenants: []string{"t1", "t2"}}, some, false},
		{"lines", rebuild.Scope{}, []string{rebuild.PhaseLoad}, true},
	} {
		k.build(rebuild.Spec{Projection: c.name})
		spec := rebuild.Spec{Projection: c.name, Scope: c.scope}
		if c.middle {
			spec.Rate, spec.Concurrency = 200, 1
		}
		k.must(k.publish(t.Context(), "shop:orders", 20)) // live only
		k.build(rebuild.Spec{Projection: c.name})
		want := k.contents(c.name)
		for i, phase := range c.phases {
			job := k.create(spec)
			if left := k.at(job.ID, phase, c.middle, k.jobs.Pause); left.State != jobs.Paused {
				t.Fatalf("%s paused in %s is %s: %+v", c.name, phase, left.State, left.LastError)
			}
			live := k.live(c.name)
			_, err := k.jobs.Resume(t.Context(), job.ID, jobs.Change{By: "ann"})
			k.must(err)
			k.run(job.ID)
			if got := k.contents(c.name); got != want || k.live(c.name) == live {
				t.Fatalf("%s paused in %s and resumed: generation %d is live, %s", c.name, phase, k.live(c.name), firstDifference(c.name, got, want))
			}

			job, live = k.create(spec), k.live(c.name)
			var left *jobs.Job
			if i%2 == 0 { // while it runs
				left = k.at(job.ID, phase, c.middle, k.jobs.Cancel)
			} else { // while nobody has it
				k.at(job.ID, phase, c.middle, k.jobs.Pause)
				_, err := k.jobs.Cancel(t.Context(), job.ID, jobs.Change{By: "ann"})
				k.must(err)
				left, err = k.try(t.Context(), k.store, job.ID, time.Minute)
				k.must(err)
			}
			k.isCancelled(c.name, phase, left, live, want)
		}
	}
}

// isCancelled looks at what a rebuild has left that was cancelled.
func (k *kitchen) isCancelled(name, phase string, job *jobs.Job, live uint64, want string) {
	k.t.Helper()
	if job.State != jobs.Cancelled {
		k.t.Fatalf("%s cancelled in %s is %s: %+v", name, phase, job.State, job.LastError)
	}
	tables, err := k.db.Marked(k.t.Context(), "", name)
	k.must(err)
	for _, table := range tables {
		if table.Mark.Rebuild == job.ID {
			k.t.Errorf("%s cancelled in %s leaves table %s", name, phase, table.Table.Name)
		}
	}
	if now := k.live(name); now != live {
		k.t.Errorf("%s cancelled in %s: generation %d is live, want %d", name, phase, now, live)
	}
	if got := k.contents(name); got != want {
		k.t.Errorf("%s cancelled in %s: %s", name, phase, firstDifference(name, got, want))
	}
}
