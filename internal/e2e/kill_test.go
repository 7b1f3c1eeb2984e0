package e2e_test

import (
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// What the archiver logs.
const (
	committed = "committed"
	outrun    = "another archiver committed first"
)

// TestKill9 kills the archiver again and again at random moments while
// producers write: the archive ends up as if nothing had happened.
func TestKill9(t *testing.T) {
	t.Parallel()
	const kills = 60
	seed := newSeed(t)
	rng := newRand(seed, 1)
	w, rec := newS3World(t, stack.RedisOptions{}), newRecord()
	stop := produce(t, newProducers(t, w.redis.URL(), rec, seed))
	for n := range kills {
		d := start(t, w.with(busyEnv), "archive")
		// Half of the lives end wherever they are, beginnings included, the
		// others soon after they have begun to commit.
		if n%2 == 1 {
			d.mustSay(t, committed, 0)
		}
		pause(t, time.Duration(between(rng, 20, 400))*time.Millisecond, d.ended)
		if !d.running() {
			t.Fatalf("the archiver ended by itself, with status %d:\n%s", d.wait(t, 0), tail(d.output()))
		}
		d.kill(t)
	}
	stop()
	w.finish(t, rec)
	commits, writers := w.commits(t, rec)
	t.Logf("%d entries, %d kills, %d commits by %d processes", rec.count(), kills, commits, writers)
	if writers < kills/3 || commits < 2*kills {
		t.Errorf("%d commits by %d processes are too few to prove anything", commits, writers)
	}
}

// TestKill9TwoArchivers has two archivers on the same streams, which are killed
// in turns.
func TestKill9TwoArchivers(t *testing.T) {
	t.Parallel()
	const kills = 52
	seed := newSeed(t)
	rng := newRand(seed, 1)
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	stop := produce(t, newProducers(t, w.redis.URL(), rec, seed))
	var pair [2]*daemon
	for i := range pair {
		pair[i] = start(t, w.with(busyEnv), "archive")
	}
	lost := 0
	for n := range kills {
		i := rng.IntN(len(pair))
		if n%2 == 1 {
			pair[i].mustSay(t, committed, 0)
		}
		pause(t, time.Duration(between(rng, 20, 400))*time.Millisecond, pair[i].ended)
		if !pair[i].running() {
			t.Fatalf("an archiver ended by itself, with status %d:\n%s", pair[i].wait(t, 0), tail(pair[i].output()))
		}
		pair[i].kill(t)
		lost += pair[i].said(outrun)
		pair[i] = start(t, w.with(busyEnv), "archive")
	}
	for _, d := range pair {
		d.mustSay(t, committed, 0)
		lost += d.said(outrun)
		d.kill(t)
	}
	stop()
	w.finish(t, rec)
	commits, writers := w.commits(t, rec)
	t.Logf("%d entries, %d kills, %d commits by %d processes, %d races lost", rec.count(), kills, commits, writers, lost)
	if writers < kills/3 || commits < 2*kills || lost == 0 {
		t.Errorf("%d commits by %d processes and %d lost races are too few to prove anything", commits, writers, lost)
	}
}
