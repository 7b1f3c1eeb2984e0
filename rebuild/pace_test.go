package rebuild_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

// told runs a job by a worker of its own, which tells of everything that it reports.
func (k *kitchen) told(id string, tell func(jobs.Job)) (*jobs.Job, error) {
	k.t.Helper()
	runner, err := jobs.NewRunner(k.jobs, jobs.RunnerOptions{
		Engines: map[string]jobs.Engine{rebuild.Kind: k.svc.Engine()}, LeaseTTL: time.Minute, Poll: 20 * time.Millisecond, Reported: tell,
	})
	k.must(err)
	return runner.RunOne(k.t.Context(), id)
}

// streams publishes so many events to each of so many streams, of which each is a chunk.
func (k *kitchen) streams(streams, events int) {
	k.t.Helper()
	for i := range streams {
		k.must(k.publish(k.t.Context(), fmt.Sprintf("shop:%d", i), events))
	}
	k.archiveAll(1000)
}

// A rebuild takes the time that its rate gives it, however many chunks are loaded at once,
// and when it goes on after a pause too.
func TestRate(t *testing.T) {
	const streams, events, rate = 4, 500, 500
	k := newKitchen(t, false)
	k.defs.put("ids", idsYAML)
	k.streams(streams, events)
	job := k.create(rebuild.Spec{Projection: "ids", Rate: rate, Concurrency: 4})
	began, paused := map[string]time.Time{}, false
	tell := func(j jobs.Job) {
		p := &j.Progress
		if p.Phase == rebuild.PhaseLoad && p.Done >= streams*events/2 && !paused {
			paused = true
			k.await(j.ID, k.jobs.Pause)
		}
		if began[p.Phase].IsZero() {
			began[p.Phase] = time.Now()
		}
	}
	first := time.Now()
	stopped, err := k.told(job.ID, tell)
	k.must(err)
	if stopped.State != jobs.Paused || stopped.Progress.Phase != rebuild.PhaseLoad {
		t.Fatalf("the rebuild is %s in phase %s", stopped.State, stopped.Progress.Phase)
	}
	loaded := stopped.Progress.Done
	if least := time.Duration(loaded-events) * time.Second / rate; time.Since(first) < least {
		t.Errorf("%d events took %v, want %v at the least", loaded, time.Since(first), least)
	}
	_, err = k.jobs.Resume(t.Context(), job.ID, jobs.Change{By: "ann"})
	k.must(err)
	clear(began)
	job, err = k.told(job.ID, tell)
	k.must(err)
	if job.State != jobs.Succeeded {
		t.Fatalf("the rebuild is %s: %+v", job.State, job.LastError)
	}
	left := streams*events - loaded
	took, until := began[rebuild.PhaseCatchUp].Sub(began[rebuild.PhaseLoad]), began[rebuild.PhaseVerify].Sub(began[rebuild.PhaseLoad])
	if least := time.Duration(left-events) * time.Second / rate; took < least {
		t.Errorf("the other %d events took %v, want %v at the least", left, took, least)
	}
	if least := time.Duration(left) * time.Second / rate; until < least {
		t.Errorf("the table begins to catch up before the last chunk has had its time: after %v, want %v at the least", until, least)
	}
	if got := k.query("SELECT count() FROM ids"); got != fmt.Sprint(streams*events) {
		t.Errorf("the table has %s rows", got)
	}
}

// The progress shows what statements have read that run, and takes it back when they fail.
func TestProgressOfRunningStatements(t *testing.T) {
	const streams, events = 5, 200
	k := newKitchen(t, false)
	k.defs.put("ids", idsYAML)
	k.streams(streams, events)
	job := k.create(rebuild.Spec{Projection: "ids", Rate: events, Concurrency: 1})
	sure, killed, back, caught := uint64(0), false, false, uint64(0)
	job, err := k.told(job.ID, func(j jobs.Job) {
		p := &j.Progress
		if p.Phase == rebuild.PhaseCatchUp {
			caught = max(caught, p.Total)
		}
		if p.Phase != rebuild.PhaseLoad {
			return
		}
		switch {
		case p.Done > p.Total || p.Total != streams*events || p.Begun > events || p.Done-p.Begun < sure:
			t.Errorf("%d of %d events are done, %d of them begun, and %d were done before", p.Done, p.Total, p.Begun, sure)
		case p.Begun > 0 && !killed:
			killed = true
			k.must(k.ch.Kill())
		case killed && !back && p.Holding != "":
			back = p.Begun == 0 && p.Done == sure
			if !back {
				t.Errorf("%d events are done when the statement has failed, %d of them begun, want %d", p.Done, p.Begun, sure)
			}
			back = true
			k.must(k.ch.Restart(context.Background()))
		}
		sure = p.Done - p.Begun
	})
	k.must(err)
	if job.State != jobs.Succeeded || !killed || !back || sure != streams*events {
		t.Errorf("the rebuild is %s: shown %v, taken back %v, %d events loaded", job.State, killed, back, sure)
	}
	if caught != 0 {
		t.Errorf("there were %d events to catch up with", caught)
	}
}

// What a table has to catch up with is known as far as it is archived.
func TestTotalOfCatchUp(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("ids", idsYAML)
	k.streams(2, 100)
	job := k.create(rebuild.Spec{Projection: "ids"})
	k.streams(3, 1000)
	totals := map[uint64]uint64{}
	_, err := k.told(job.ID, func(j jobs.Job) {
		if p := &j.Progress; p.Phase == rebuild.PhaseCatchUp && p.Total > 0 {
			totals[p.Total] = p.Done
		}
	})
	k.must(err)
	if len(totals) != 1 || totals[3000] != 3000 {
		t.Errorf("the totals were %v", totals)
	}
}

// The verification says how many rows of both tables it has to read, and what is poured or
// made of other tables how many of these.
func TestTotalOfPhasesThatReadTables(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	for _, stream := range []string{"shop:orders", "shop:payments"} {
		k.must(k.publish(t.Context(), stream, 1000))
	}
	k.archiveAll(1000)
	for _, name := range []string{"items", "lines", "revenue"} {
		k.build(rebuild.Spec{Projection: name})
		last := map[string]jobs.Progress{}
		job, err := k.told(k.create(rebuild.Spec{Projection: name}).ID, func(j jobs.Job) {
			p := j.Progress
			if (p.Unit == "rows") != (p.Phase == rebuild.PhaseVerify || p.Phase == rebuild.PhasePour || p.Phase == rebuild.PhaseCarry) {
				t.Errorf("%s: phase %s counts %s", name, p.Phase, p.Counts())
			}
			last[p.Phase] = p
		})
		k.must(err)
		if job.State != jobs.Succeeded {
			t.Fatalf("%s: %+v", name, job.LastError)
		}
		pour, verify := last[rebuild.PhasePour], last[rebuild.PhaseVerify]
		if (pour.Done > 0) != (name != "items") || pour.Done != pour.Total {
			t.Errorf("%s: %d of %d rows were poured", name, pour.Done, pour.Total)
		}
		if verify.Done == 0 || verify.Done > verify.Total || name == "items" && (verify.Done != 4000 || verify.Total != 4000) { // of the others some may be merged just then
			t.Errorf("%s: %d of %d rows were compared", name, verify.Done, verify.Total)
		}
	}
}
