package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
)

// TestReplayKill9 kills the workers again and again at random moments while they
// compete for a replay: the target ends up as if nothing had happened.
func TestReplayKill9(t *testing.T) {
	t.Parallel()
	const kills, life = 52, 200 * time.Millisecond
	events := lighter(200_000, 5)
	seed := newSeed(t)
	rng := newRand(seed, 1)
	w := newFileWorld(t, stack.RedisOptions{})
	want := sell(t, w, events, func(e *event.Event) bool { return field(e, "tenant") != "wonka" })
	// At this rate the lives are half of what the replay takes.
	rate := float64(events) / (2 * kills * life.Seconds() / 2)
	id := w.create(t, "--stream", "shop:*", "--where", `tenant != "wonka"`, "--into", "redis:replayed", "--rate", fmt.Sprintf("%.0f", rate))
	c := newCrew(t, w.with(hastyEnv), 2)
	idle := 0
	for n := range kills {
		i := c.holder(t, -1)
		pause(t, moment(rng, life), c.workers[i].ended)
		if n%6 == 5 { // both at once
			c.restart(t, 1-i)
			idle++
		}
		c.restart(t, i)
	}
	if job := w.job(t, id); job.State != jobs.Running {
		t.Fatalf("the replay had ended before the last kill:\n%s", describe(job))
	}
	c.calm(t, w.with(workerEnv))
	mustReservoir(t, w.with(workerEnv), "replay", "watch", id)
	job := w.awaitState(t, id, jobs.Succeeded, time.Second)
	checkReplayed(t, w.admin(t), "replayed", id, want)
	if job.Progress.Selected != uint64(events) || job.Progress.Done != job.Progress.Total || !job.Progress.Exact {
		t.Errorf("the replay counted wrong:\n%s", describe(job))
	}
	t.Logf("%d events, %d kills of the worker at work and %d of the other, %d epochs", events, kills, idle, job.Epoch)
	if job.Epoch <= kills {
		t.Errorf("%d epochs are too few to prove anything", job.Epoch)
	}
}

// TestReplayStaleWorker stops the worker at work for longer than its lease, lets
// another one take over, and lets the stale one go on: it writes nothing more. (In a
// directory who is stopped while it writes keeps a lock that all others wait for.)
func TestReplayStaleWorker(t *testing.T) {
	t.Parallel()
	const rounds = 6
	events := lighter(60_000, 4)
	seed := newSeed(t)
	rng := newRand(seed, 1)
	w := newS3World(t, stack.RedisOptions{})
	want := sell(t, w, events, nil)
	rate := events / 12
	id := w.create(t, "--stream", "shop:*", "--into", "redis:replayed", "--rate", fmt.Sprint(rate))
	c, admin := newCrew(t, w.with(hastyEnv), 2), w.admin(t)
	for range rounds {
		stale := c.holder(t, -1)
		pause(t, moment(rng, 300*time.Millisecond), c.workers[stale].ended)
		d := c.workers[stale]
		lost := d.said(lostJob)
		d.signal(t, syscall.SIGSTOP)
		other := c.holder(t, stale)
		awaitLength(t, admin, "replayed", length(t, admin, "replayed")+1) // the other one is at work
		d.signal(t, syscall.SIGCONT)
		d.mustSay(t, lostJob, lost)
		if !has(c.workers[other]) {
			t.Errorf("the stale worker took the job from the other:\n%s", tail(c.workers[other].output()))
		}
	}
	if job := w.job(t, id); job.State != jobs.Running {
		t.Fatalf("the replay had ended before the last round:\n%s", describe(job))
	}
	// The last one goes on only when all is done.
	stale := c.holder(t, -1)
	d, lost := c.workers[stale], c.workers[stale].said(lostJob)
	d.signal(t, syscall.SIGSTOP)
	w.awaitState(t, id, jobs.Succeeded, time.Minute)
	d.signal(t, syscall.SIGCONT)
	d.mustSay(t, lostJob, lost)
	checkReplayed(t, admin, "replayed", id, want)
	job := w.job(t, id)
	t.Logf("%d events, %d workers gone stale, %d epochs", events, rounds+1, job.Epoch)
	if job.State != jobs.Succeeded || job.Epoch != uint64(c.takes()) || job.Epoch < rounds+2 {
		t.Errorf("%d epochs, and %d times a worker took the job:\n%s", job.Epoch, c.takes(), describe(job))
	}
}

// TestReplayRedisRestarts crashes the target while a replay writes to it.
// Whatever Redis then has lost, it has lost of the entries and of the checkpoint
// alike, so that the replay goes on where the target is.
func TestReplayRedisRestarts(t *testing.T) {
	t.Parallel()
	type setting struct {
		name     string
		opts     stack.RedisOptions
		restarts int
		before   func(*testing.T, *world) // before it is killed
		between  func(*testing.T, string) // while it is dead, with its directory
		loses    bool
	}
	for _, s := range []setting{
		{name: "fsync always", opts: stack.RedisOptions{AOF: true}, restarts: 4},
		{name: "fsync everysec", opts: stack.RedisOptions{AOF: true, Fsync: "everysec"}, restarts: 4},
		// As everysec when the machine itself fails: the file ends anywhere.
		{name: "tail lost", opts: stack.RedisOptions{AOF: true, Fsync: "everysec"}, restarts: 3, between: cutAOF, loses: true},
		{name: "snapshot only", restarts: 2, before: snapshot, loses: true},
		{name: "nothing kept", restarts: 2, loses: true},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			events := lighter(40_000, 4)
			rng := newRand(newSeed(t), 1)
			s.opts.Dir = t.TempDir()
			w := newFileWorld(t, s.opts)
			want := sell(t, w, events, nil)
			id := w.create(t, "--stream", "shop:*", "--into", "redis:replayed", "--rate", fmt.Sprint(events/5))
			d := start(t, w.with(workerEnv), "worker")
			for range s.restarts {
				awaitLength(t, w.admin(t), "replayed", 1)
				if s.before != nil {
					s.before(t, w)
				}
				pause(t, moment(rng, 800*time.Millisecond), d.ended)
				if err := w.redis.Kill(); err != nil {
					t.Fatal(err)
				}
				if s.between != nil {
					s.between(t, s.opts.Dir)
				}
				pause(t, moment(rng, 300*time.Millisecond), d.ended)
				if err := w.redis.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if job := w.job(t, id); job.State != jobs.Running {
				t.Fatalf("the replay had ended before the last restart:\n%s", describe(job))
			}
			job := w.awaitState(t, id, jobs.Succeeded, time.Minute)
			checkReplayed(t, w.admin(t), "replayed", id, want)
			if job.Progress.Selected != uint64(events) || job.Progress.Done != uint64(events) {
				t.Errorf("the replay counted wrong:\n%s", describe(job))
			}
			if s.loses {
				mustLog(t, job, goingBack)
			}
		})
	}
}

// snapshot has Redis write its data to disk, once.
func snapshot(t *testing.T, w *world) {
	t.Helper()
	admin := w.admin(t)
	before := admin.LastSave(t.Context()).Val()
	pause(t, time.Second-time.Duration(time.Now().Nanosecond()), nil) // LASTSAVE counts seconds
	if err := admin.BgSave(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for admin.LastSave(t.Context()).Val() == before {
		pause(t, 10*time.Millisecond, nil)
	}
}

// cutAOF takes the last part of the append-only file away.
func cutAOF(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no append-only file: %v", err)
	}
	slices.Sort(files)
	file := files[len(files)-1]
	info, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, max(0, info.Size()-500_001))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReplayFaultyS3 has the object store fail before and after the effect,
// answer slowly and cut connections, while workers replay and are killed now and
// then.
func TestReplayFaultyS3(t *testing.T) {
	t.Parallel()
	const kills = 6
	events := lighter(60_000, 4)
	seed := newSeed(t)
	rng := newRand(seed, 1)
	w := newS3World(t, stack.RedisOptions{})
	want := sell(t, w, events, nil)
	id := w.create(t, "--stream", "shop:*", "--into", "redis:replayed", "--rate", fmt.Sprint(events/12))
	p := newProxy(t, w.s3.Endpoint(), newRand(seed, 2))
	p.percent.Store(1)
	env := w.with(hastyEnv, impatientEnv, p.env())
	var pair [2]*daemon
	for i := range pair {
		pair[i] = start(t, env, "worker")
	}
	deadline, killed, failed := time.Now().Add(90*time.Second), 0, 0
	for {
		if job := w.job(t, id); job.State.Ended() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the replay does not end:\n%s", describe(w.job(t, id)))
		}
		i := rng.IntN(len(pair))
		pause(t, 400*time.Millisecond+moment(rng, time.Second), pair[i].ended)
		switch {
		case !pair[i].running(): // it may have failed at its start, and must say why
			if status := pair[i].wait(t, 0); status != 3 || pair[i].said(working) > 0 {
				t.Fatalf("the worker ended by itself, with status %d:\n%s", status, tail(pair[i].output()))
			}
			failed++
		case killed < kills && has(pair[i]):
			pair[i].kill(t)
			killed++
		default:
			continue
		}
		pair[i] = start(t, env, "worker")
	}
	job := w.awaitState(t, id, jobs.Succeeded, time.Second)
	checkReplayed(t, w.admin(t), "replayed", id, want)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("%d events, %d kills, %d workers that could not start, %d epochs", events, killed, failed, job.Epoch)
	for f := range numFaults {
		t.Logf("%-12s %5d requests, %4d of them changes of jobs", f, p.faults[f], p.commit[f])
	}
	if p.commit[before]+p.commit[cutBefore]+p.commit[cutRequest] == 0 || p.commit[after]+p.commit[cutAfter]+p.commit[cutResponse]+p.commit[silent] < 3 {
		t.Error("too few changes of jobs that failed, or whose answer was lost, prove nothing")
	}
}
