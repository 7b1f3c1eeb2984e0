package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
)

// Who is killed.
const (
	theWorker    = "worker"
	theEngine    = "ClickHouse"
	both         = "both"
	theProjector = "projector"
)

// strike is a death that the test brings about.
type strike struct {
	death
	victim string
}

// deadly are the moments of each phase of a rebuild that are worth a kill.
var deadly = map[string][]death{
	rebuild.PhasePlan: {{Key: "jobs/active/", When: later}, {Statement: "KILL QUERY"}, {Statement: "KILL QUERY", When: later}},
	rebuild.PhaseShadow: {
		{Statement: "CREATE TABLE"}, {Statement: "CREATE TABLE", When: later}, {Statement: "CREATE TABLE", When: amid},
		{Key: "projections/"}, {Key: "projections/", When: later}, {Key: "jobs/active/", Nth: 2, When: later},
	},
	rebuild.PhaseCarry: {
		{Statement: "REPLACE PARTITION", When: later}, {Statement: "INSERT INTO", When: amid}, {Key: "projections/", When: later},
		{Statement: "REPLACE PARTITION"}, {Key: "projections/", Nth: 2}, {Statement: "INSERT INTO", When: later},
	},
	rebuild.PhaseLoad: {
		{Statement: "INSERT INTO", When: amid}, {Statement: "INSERT INTO", When: later}, {Statement: "INSERT INTO"},
		{Statement: "INSERT INTO", Nth: 2, When: later}, {Statement: "INSERT INTO", Nth: 2, When: amid}, {Key: "jobs/active/", When: later},
	},
	rebuild.PhasePour: {
		{Statement: "INSERT INTO", When: amid}, {Statement: "INSERT INTO", When: later}, {Statement: "DROP TABLE", When: later}, {Statement: "INSERT INTO"},
	},
	rebuild.PhaseCatchUp: {
		{Statement: "INSERT INTO", When: amid}, {Key: "jobs/active/", Nth: 2, When: later}, {Statement: "INSERT INTO", When: later},
		{Key: "jobs/active/", Nth: 2}, {Statement: "INSERT INTO"},
	},
	rebuild.PhaseVerify: {
		{Statement: "SELECT", Nth: 2, When: amid}, {Key: "jobs/files/"}, {Key: "jobs/files/", When: later}, {Statement: "SELECT", When: later},
	},
	rebuild.PhaseApproval: {{Key: "jobs/active/"}, {Key: "jobs/active/", When: later}},
	rebuild.PhaseDone:     {{Key: "jobs/active/"}, {Key: "jobs/active/", When: later}, {Key: "jobs/ended/"}, {Key: "jobs/ended/", When: later}},
}

// handOver are those of the hand-over: before the exchange, at it, and from there on.
var handOver = [][]death{
	{
		{Key: "projections/", When: later}, {Statement: "INSERT INTO", When: amid}, {Key: "jobs/active/", Nth: 2, When: later},
		{Key: "projections/", Nth: 2, When: later}, {Key: "definitions/", When: later}, {Statement: "INSERT INTO", When: later},
	},
	{{Statement: "EXCHANGE TABLES"}, {Key: "projections/", Nth: 2, When: later}, {Key: "jobs/active/", Nth: 3, When: later}},
	{{Statement: "EXCHANGE TABLES", When: later}, {Statement: "EXCHANGE TABLES", When: amid}, {Key: "projections/", Nth: 3}, {Key: "projections/", Nth: 3, When: later}},
}

// chain gives the strikes that a rebuild has to bear: one in each of its phases and
// three in the hand-over. Another round gives others.
func chain(round int, adds, scoped bool) []strike {
	victims := []string{theWorker, theEngine, both, theWorker}
	var out []strike
	add := func(phase string, moments []death) {
		d := moments[round%len(moments)]
		d.Phase, d.Nth = phase, max(d.Nth, 1)
		s := strike{d, victims[(round+len(out))%len(victims)]}
		if s.victim != theWorker {
			s.How = held
		}
		out = append(out, s)
	}
	for _, phase := range phaseOrder {
		switch {
		case phase == rebuild.PhasePour && !adds, phase == rebuild.PhaseCarry && !scoped:
		case phase == rebuild.PhaseHandOver:
			for _, moments := range handOver {
				add(phase, moments)
			}
		default:
			add(phase, deadly[phase])
		}
	}
	return out
}

// slaughter is who was killed, and in which phase of a rebuild.
type slaughter struct {
	engine *engineKeeper

	mu     sync.Mutex
	counts map[string]map[string]int // by phase and victim
	kills  int
}

func (s *slaughter) note(victim, phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[phase] == nil {
		s.counts[phase] = map[string]int{}
	}
	s.counts[phase][victim]++
	s.kills++
}

// TestKill9Rebuilds kills the processes that rebuild and feed projections, and
// ClickHouse, again and again, at all that matters in each phase and at random moments,
// while events flow: tables of every kind of engine end up as if nothing had happened,
// and on the way are never anything but the events up to some position, each once.
func TestKill9Rebuilds(t *testing.T) {
	rounds, names := 13, []string{"timeline", "orders", "revenue", "totals", "folded"}
	if !*long {
		rounds, names = 1, []string{"revenue"}
	}
	rounds = lighter(rounds, min(rounds, 3))
	seed := newSeed(t)
	k := newKitchen(t, 4*time.Second, stack.ClickHouseOptions{}, names...)
	for _, lane := range laneNames {
		if err := k.publish(t.Context(), lane, 2000); err != nil {
			t.Fatal(err)
		}
	}
	k.archiving(t)
	helper := k.start(t, k.hand())
	k.first(t, names...)
	helper.kill(t)

	s := &slaughter{engine: k.keepEngine(t), counts: map[string]map[string]int{}}
	r := k.reading(t, 50*time.Millisecond, s.engine.downs.Load, names...)
	stop := k.writing(t, 5, 20*time.Millisecond)
	over := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { k.killProjectors(t, newRand(seed, 1), s, over) })
	if *long {
		group.Go(func() { k.killEngine(t, newRand(seed, 2), s, over) })
	}
	finish := sync.OnceFunc(func() { close(over); group.Wait() })
	defer finish()
	began := time.Now()
	for round := range rounds {
		name := names[(round+round/len(names))%len(names)]
		spec := rebuild.Spec{Projection: name}
		scoped := round/len(names)%2 == 1
		if scoped {
			spec.Scope.Tenants = []string{fmt.Sprintf("t%d", round%7)}
		}
		k.endure(t, s, spec, chain(round, name == "revenue" || name == "totals", scoped))
		if t.Failed() {
			break
		}
	}
	took := time.Since(began)
	finish()
	stop()
	k.start(t, k.hand())
	for _, name := range names {
		k.settled(t, name)
	}
	r.stop(t)
	t.Logf("%d kills in %d rebuilds and %v, %d and %d numbers, %d looks", s.kills, rounds, took.Round(time.Second), k.written(laneNames[0]), k.written(laneNames[1]), r.looks)
	for _, phase := range append(slices.Clone(phaseOrder), feeding) {
		t.Logf("killed in %s: %v", phase, s.counts[phase])
		if *long && !raceDetector && len(s.counts[phase]) < 2 {
			t.Errorf("too few were killed in %s", phase)
		}
	}
}

// endure has a rebuild succeed, whatever happens to those who run it.
func (k *kitchen) endure(t *testing.T, s *slaughter, spec rebuild.Spec, strikes []strike) {
	t.Helper()
	id := k.order(t, spec, fmt.Sprintf("%s after %d kills", spec.Projection, s.kills))
	for {
		k.mu.Lock()
		h := k.hand()
		k.mu.Unlock()
		h.Projector, h.States = false, filepath.Join(k.states, "rebuilds") // what the one before has left
		for _, s := range strikes {
			h.Deaths = append(h.Deaths, s.death)
		}
		d := k.start(t, h)
		gone := k.live(t, d, id, s, strikes, patient(3*time.Minute))
		if gone < 0 {
			d.kill(t)
			return
		}
		strikes = strikes[gone:]
	}
}

// live has a worker live until it is killed, and gives how many of the strikes are over
// then; or -1 when the rebuild has succeeded.
func (k *kitchen) live(t *testing.T, d *daemon, id string, s *slaughter, strikes []strike, waits *patience) int {
	t.Helper()
	for struck := 0; ; {
		if d.said(frozen) > struck {
			struck++
			at := d.said(frozen) + d.said(missed) - 1
			hit := strikes[at]
			s.note(hit.victim, hit.Phase)
			if hit.victim == theWorker {
				pause(t, time.Minute, d.ended)
				d.kill(t)
				return at + 1
			}
			err := s.engine.kill(t.Context(), func() {
				if hit.victim == both {
					d.kill(t)
				} else {
					d.signal(t, syscall.SIGCONT)
				}
			})
			if err != nil {
				t.Fatalf("kill ClickHouse: %v", err)
			}
			if hit.victim == both {
				return at + 1
			}
			continue
		}
		if !d.running() {
			t.Fatalf("a worker ended by itself:\n%s", tail(d.output()))
		}
		job, err := k.jobs.Get(t.Context(), id)
		switch {
		case err != nil:
			t.Fatal(err)
		case job.State == jobs.Succeeded:
			return -1
		case job.State.Ended() || job.State == jobs.Paused || waits.over():
			t.Fatalf("the rebuild did not succeed:\n%s", describe(job))
		}
		pause(t, 20*time.Millisecond, d.ended)
	}
}

// killProjectors has projectors killed, one after the other: at a moment, or at a write
// or a statement.
func (k *kitchen) killProjectors(t *testing.T, rng *rand.Rand, s *slaughter, over <-chan struct{}) {
	moments := []death{
		{Key: "projections/"}, {Key: "projections/", When: later}, {Statement: "INSERT INTO"}, {Statement: "INSERT INTO", When: amid}, {Statement: "INSERT INTO", When: later},
	}
	for n := 0; ; n++ {
		k.mu.Lock()
		h := k.hand()
		k.mu.Unlock()
		h.Rebuilds = false
		limit := time.Second + moment(rng, 4*time.Second)
		if n%3 > 0 {
			d := moments[rng.IntN(len(moments))]
			d.Phase, d.Nth = feeding, between(rng, 1, 60)
			h.Deaths, limit = []death{d}, 10*time.Second
		}
		d := k.start(t, h)
		timer := time.NewTimer(limit)
		select {
		case <-d.ended:
			if d.said(frozen) == 0 {
				t.Errorf("a projector ended by itself:\n%s", tail(d.output()))
				return
			}
		case <-timer.C:
			d.kill(t)
		case <-over:
			d.kill(t)
			return
		}
		timer.Stop()
		s.note(theProjector, k.phase(t))
	}
}

// killEngine kills ClickHouse now and then at any moment.
func (k *kitchen) killEngine(t *testing.T, rng *rand.Rand, s *slaughter, over <-chan struct{}) {
	var took time.Duration // until it was there again: on a busy machine all takes longer
	for {
		wait := time.NewTimer(5*time.Second + moment(rng, 10*time.Second) + 5*took)
		select {
		case <-over:
			wait.Stop()
			return
		case <-wait.C:
		}
		s.note(theEngine, k.phase(t))
		began := time.Now()
		if err := s.engine.kill(t.Context(), func() {}); err != nil {
			t.Errorf("kill ClickHouse: %v", err)
			return
		}
		took = time.Since(began)
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
