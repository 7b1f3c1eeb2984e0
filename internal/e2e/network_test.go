package e2e_test

import (
	"slices"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// impatientEnv sends no request a second time, so that the archiver itself has
// to deal with what the S3 client would have smoothed out.
var impatientEnv = []string{"RESERVOIR_STORE_MAX_ATTEMPTS=1", "RESERVOIR_STORE_TIMEOUT=1s"}

// TestFaultyS3 has the object store fail before and after the effect, answer
// slowly and cut connections, while the archiver is killed now and then.
func TestFaultyS3(t *testing.T) {
	t.Parallel()
	const lives, life = 10, 2 * time.Second
	seed := newSeed(t)
	rng := newRand(seed, 1)
	w, rec := newS3World(t, stack.RedisOptions{}), newRecord()
	p := newProxy(t, w.s3.Endpoint(), newRand(seed, 2))
	p.percent.Store(1)
	stop := produce(t, newProducers(t, w.redis.URL(), rec, seed))
	env := w.with(busyEnv, impatientEnv, p.env())
	for n := 0; n < lives || n < 4*lives && !p.proves(); {
		d := start(t, env, "archive")
		pause(t, life/2+time.Duration(rng.Int64N(int64(life))), d.ended)
		if d.running() {
			n++
			d.kill(t)
			continue
		}
		// It may have failed at its start, and must say why.
		if status := d.wait(t, 0); status != 3 || d.said("archiving") > 0 {
			t.Fatalf("the archiver ended by itself, with status %d:\n%s", status, tail(d.output()))
		}
	}
	stop()
	for range 3 { // which may leave something, and must not spoil anything
		if r := reservoir(t, w.with(impatientEnv, p.env()), "archive", "--once"); r.status != 0 && r.status != 1 && r.status != 3 {
			t.Fatalf("archive --once: status %d\n%s\n%s", r.status, r.stdout, tail(r.stderr))
		}
	}
	w.finish(t, rec)
	commits, writers := w.commits(t, rec)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("%d entries, %d kills, %d commits by %d processes", rec.count(), lives, commits, writers)
	for f := range numFaults {
		t.Logf("%-12s %5d requests, %4d of them commits", f, p.faults[f], p.commit[f])
		if p.faults[f] == 0 {
			t.Errorf("no request met the fault %q", f)
		}
	}
	if !p.lostCommits() || commits < 5*lives {
		t.Errorf("%d commits, and too few whose answer was lost, prove nothing", commits)
	}
}

// proves says whether every fault was met, and commits' answers were lost.
func (p *proxy) proves() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.Contains(p.faults[:], 0) && p.lostCommits()
}

func (p *proxy) lostCommits() bool {
	return p.commit[after]+p.commit[cutAfter]+p.commit[cutResponse]+p.commit[silent] >= 5
}

// TestRedisRestarts crashes Redis and stops it in good order while the archiver
// follows it: what it has acknowledged is archived once.
func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	const restarts = 8
	seed := newSeed(t)
	rng := newRand(seed, 1)
	w, rec := newFileWorld(t, stack.RedisOptions{AOF: true}), newRecord()
	stop := produce(t, newProducers(t, w.redis.URL(), rec, seed))
	d := start(t, w.with(busyEnv), "archive")
	before := 0
	for n := range restarts {
		d.mustSay(t, committed, before)
		pause(t, time.Duration(between(rng, 100, 1200))*time.Millisecond, d.ended)
		end := w.redis.Kill
		if n%4 == 3 {
			end = w.redis.Stop
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		pause(t, time.Duration(between(rng, 0, 300))*time.Millisecond, d.ended)
		if err := w.redis.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		before = d.said(committed)
		if n%3 == 2 { // and the archiver dies with it
			d.kill(t)
			d, before = start(t, w.with(busyEnv), "archive"), 0
		}
	}
	d.mustSay(t, committed, before)
	if !d.running() {
		t.Fatalf("the archiver ended by itself, with status %d:\n%s", d.wait(t, 0), tail(d.output()))
	}
	d.kill(t)
	stop()
	w.finish(t, rec)
	commits, writers := w.commits(t, rec)
	t.Logf("%d entries, %d restarts of Redis, %d commits by %d processes", rec.count(), restarts, commits, writers)
	if commits < 10*restarts {
		t.Errorf("%d commits are too few to prove anything", commits)
	}
}
