package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
)

// killsEach is how many kills each rebuild bears.
const killsEach = 8

// slaughter is who was killed, and in which phase of a rebuild.
type slaughter struct {
	engine *engineKeeper
	left   atomic.Int64 // kills that the rebuild of now has still to bear: then it may end

	mu     sync.Mutex
	counts map[string]int
	kills  int
}

func (s *slaughter) note(who, phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[who+" in "+phase]++
	s.kills++
}

func (s *slaughter) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kills
}

// TestKill9Rebuilds kills the processes that rebuild and feed projections, and
// ClickHouse, again and again, at random moments and at writes of every phase, while
// events flow: tables of every kind of engine end up as if nothing had happened, and on
// the way are never anything but the events up to some position, each once.
func TestKill9Rebuilds(t *testing.T) {
	takesLong(t)
	kills := lighter(60, 3)
	seed := newSeed(t)
	names := []string{"timeline", "orders", "revenue", "totals"}
	k := newKitchen(t, time.Second, stack.ClickHouseOptions{}, names...)
	for _, lane := range laneNames {
		if err := k.publish(t.Context(), lane, 2000); err != nil {
			t.Fatal(err)
		}
	}
	k.archiving(t)
	helper := k.start(t, k.hand())
	k.first(t, names...)
	helper.kill(t)

	s := &slaughter{engine: k.keepEngine(t), counts: map[string]int{}}
	r := k.reading(t, 50*time.Millisecond, s.engine.downs.Load, names...)
	stop := k.writing(t, 5, 20*time.Millisecond)
	over := make(chan struct{})
	var group sync.WaitGroup
	for i := range 2 {
		group.Go(func() { k.mortals(t, newRand(seed, 1+i), s, over) })
	}
	group.Go(func() { k.killEngine(t, newRand(seed, 3), s, over) })
	finish := sync.OnceFunc(func() { close(over); group.Wait() })
	defer finish()
	rebuilds := 0
	for ; s.count() < kills && !t.Failed(); rebuilds++ {
		s.left.Store(killsEach)
		k.endure(t, rebuild.Spec{Projection: names[rebuilds%len(names)]}, fmt.Sprint("kill-", rebuilds))
	}
	finish()
	stop()
	k.start(t, k.hand())
	for _, name := range names {
		k.settled(t, name)
	}
	r.stop(t)
	t.Logf("%d kills, %d rebuilds, %d and %d numbers, %d looks, ClickHouse ended %d times without our doing: %v", s.count(), rebuilds, k.written(laneNames[0]), k.written(laneNames[1]), r.looks, s.engine.alone.Load(), s.counts)
}

// endure waits until a rebuild has succeeded, whatever happens to those who run it.
func (k *kitchen) endure(t *testing.T, spec rebuild.Spec, key string) {
	t.Helper()
	k.built(t, k.order(t, spec, key), 2*time.Minute)
}

// mortals are lives of a process that each end by a kill: some at a moment, others at
// a write of a rebuild in some phase.
func (k *kitchen) mortals(t *testing.T, rng *rand.Rand, s *slaughter, over <-chan struct{}) {
	phases := []string{
		rebuild.PhaseShadow, rebuild.PhaseLoad, rebuild.PhasePour, rebuild.PhaseCatchUp, rebuild.PhaseVerify, rebuild.PhaseApproval,
		rebuild.PhaseHandOver, rebuild.PhaseHandOver, rebuild.PhaseHandOver, rebuild.PhaseDone, feeding,
	}
	for {
		k.mu.Lock()
		h := k.hand()
		k.mu.Unlock()
		limit := moment(rng, 2*time.Second)
		switch {
		case s.left.Add(-1) < 0: // until there is another rebuild to kill
			limit = 0
		case rng.IntN(4) > 0:
			h.Die = death{Phase: phases[rng.IntN(len(phases))], Write: between(rng, 1, 3), After: rng.IntN(2) == 0}
			switch h.Die.Phase {
			case rebuild.PhaseHandOver:
				h.Die.Write = between(rng, 1, 10)
			case feeding:
				h.Die.Key, h.Die.Write = "projections/", between(rng, 1, 30)
			}
			limit += 10 * time.Second
		}
		d := k.start(t, h)
		if limit == 0 {
			if !s.awaitMore(over, d.ended) {
				d.kill(t)
				return
			}
			limit = time.Millisecond
		}
		timer := time.NewTimer(limit)
		select {
		case <-d.ended:
			if d.said(frozen) == 0 {
				t.Errorf("a process ended by itself:\n%s", tail(d.output()))
				return
			}
			s.note("worker", h.Die.Phase)
		case <-timer.C:
			phase := k.phase(t)
			d.kill(t)
			s.note("worker", phase)
		case <-over:
			d.kill(t)
			return
		}
		timer.Stop()
	}
}

// awaitMore waits until there is something to kill. It is not when all is over.
func (s *slaughter) awaitMore(over, ended <-chan struct{}) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.left.Load() <= 0 {
		select {
		case <-tick.C:
		case <-ended:
			return true
		case <-over:
			return false
		}
	}
	return true
}

// killEngine kills ClickHouse now and then, and it is started again.
func (k *kitchen) killEngine(t *testing.T, rng *rand.Rand, s *slaughter, over <-chan struct{}) {
	for {
		wait := time.NewTimer(time.Second + moment(rng, 3*time.Second))
		select {
		case <-over:
			wait.Stop()
			return
		case <-wait.C:
		}
		if s.left.Add(-1) < 0 && !s.awaitMore(over, nil) {
			return
		}
		s.note("ClickHouse", k.phase(t))
		if err := s.engine.kill(k); err != nil {
			t.Errorf("kill ClickHouse: %v", err)
			return
		}
	}
}

// phase is that of a rebuild that is not over, or what is done where there is none.
func (k *kitchen) phase(t *testing.T) string {
	for job, err := range k.jobs.List(t.Context(), jobs.Query{Kinds: []string{rebuild.Kind}, States: []jobs.State{jobs.Pending, jobs.Running}}) {
		if errors.Is(err, objectstore.ErrNotFound) || t.Context().Err() != nil {
			break
		}
		if err != nil {
			t.Errorf("list the rebuilds: %v", err)
			break
		}
		if job.Progress.Phase != "" {
			return job.Progress.Phase
		}
	}
	return feeding
}
