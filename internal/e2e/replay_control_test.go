package e2e_test

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
)

// TestReplayControl pauses, resumes and cancels replays, and shuts their workers
// down, while they run.
func TestReplayControl(t *testing.T) {
	t.Parallel()
	events := lighter(24_000, 4)
	rate := fmt.Sprint(events / 6)
	w := newFileWorld(t, stack.RedisOptions{})
	want := sell(t, w, events, nil)
	admin, env := w.admin(t), w.with(workerEnv)
	id := w.create(t, "--stream", "shop:*", "--into", "redis:replayed", "--rate", rate, "--name", "a name", "--reason", "a reason")
	c := newCrew(t, env, 2)

	awaitLength(t, admin, "replayed", 1)
	mustReservoir(t, env, "replay", "pause", id, "--reason", "lunch")
	began := time.Now()
	job := w.awaitState(t, id, jobs.Paused, 10*time.Second)
	t.Logf("paused after %v", time.Since(began))
	if job.StateReason != "lunch" {
		t.Errorf("the reason is %q", job.StateReason)
	}
	n := length(t, admin, "replayed")
	pause(t, 400*time.Millisecond, nil)
	if got := length(t, admin, "replayed"); got != n || n == int64(events) {
		t.Errorf("the paused replay has sent %d events, then %d", n, got)
	}
	for command, texts := range map[string][]string{"list": {id, "paused", "a name"}, "show " + id: {id, "paused", "lunch", "a reason"}} {
		r := mustReservoir(t, env, append([]string{"replay"}, strings.Fields(command)...)...)
		for _, text := range texts {
			if !strings.Contains(r.stdout, text) {
				t.Errorf("replay %s does not show %q:\n%s", command, text, r.stdout)
			}
		}
	}
	wantOneError(t, reservoir(t, env, "replay", "retry", id), 3, "paused", "remedy: ")
	mustReservoir(t, env, "replay", "resume", id)
	awaitLength(t, admin, "replayed", n+1)

	i := c.holder(t, -1)
	c.workers[i].signal(t, syscall.SIGTERM)
	began = time.Now()
	c.holder(t, i)
	took := time.Since(began)
	if status := c.workers[i].wait(t, 20*time.Second); status != 0 || c.workers[i].said(gaveBack) != 1 {
		t.Errorf("the worker ended with status %d:\n%s", status, tail(c.workers[i].output()))
	}
	if t.Logf("handed over after %v", took); took > 5*time.Second {
		t.Errorf("the replay was handed over after %v", took)
	}
	mustReservoir(t, env, "replay", "watch", id)
	checkReplayed(t, admin, "replayed", id, want)

	id = w.create(t, "--stream", "shop:*", "--into", "redis:cancelled", "--rate", rate)
	awaitLength(t, admin, "cancelled", 1)
	mustReservoir(t, env, "replay", "cancel", id)
	w.awaitState(t, id, jobs.Cancelled, 10*time.Second)
	if r := reservoir(t, env, "replay", "watch", id); r.status != 1 {
		t.Errorf("watch of a cancelled replay ends with %d:\n%s", r.status, r.stderr)
	}
	if n := length(t, admin, "cancelled"); n == 0 || n >= int64(events) {
		t.Errorf("the cancelled replay has sent %d events", n)
	} else {
		checkReplayed(t, admin, "cancelled", id, firstOf(want, int(n)))
	}
	wantOneError(t, reservoir(t, env, "replay", "resume", id), 3, "cancelled", "remedy: ")
}

// firstOf gives the first n events in the order of time, of several streams with
// the same millisecond in that of the streams' names.
func firstOf(want map[string][]event.Event, n int) map[string][]event.Event {
	out := map[string][]event.Event{}
	for range n {
		best := ""
		for stream, events := range want {
			at := len(out[stream])
			if at == len(events) {
				continue
			}
			if best == "" || events[at].ID.Ms < want[best][len(out[best])].ID.Ms || events[at].ID.Ms == want[best][len(out[best])].ID.Ms && stream < best {
				best = stream
			}
		}
		out[best] = append(out[best], want[best][len(out[best])])
	}
	return out
}

// TestReplayRetry has a replay fail for good, and go on when the reason is gone.
func TestReplayRetry(t *testing.T) {
	t.Parallel()
	w := newFileWorld(t, stack.RedisOptions{})
	want := sell(t, w, 2000, nil)
	admin, env := w.admin(t), w.with(workerEnv)
	id := w.create(t, "--stream", "shop:*", "--into", "redis:late", "--paused")
	if err := admin.Set(t.Context(), "late", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	start(t, env, "worker")
	mustReservoir(t, env, "replay", "resume", id)
	job := w.awaitState(t, id, jobs.Failed, 20*time.Second)
	if job.LastError == nil || !strings.Contains(job.LastError.Message, "not a stream") || job.LastError.Remedy == "" {
		t.Errorf("the replay failed otherwise:\n%s", describe(job))
	}
	wantOneError(t, reservoir(t, env, "replay", "watch", id), 3, "not a stream", "reservoir replay retry "+id)
	if err := admin.Del(t.Context(), "late").Err(); err != nil {
		t.Fatal(err)
	}
	mustReservoir(t, env, "replay", "retry", id)
	mustReservoir(t, env, "replay", "watch", id)
	checkReplayed(t, admin, "late", id, want)
}

// replayID finds the ID in what `replay run` says.
var replayID = regexp.MustCompile(`(?m)^replay ([0-9A-Z]{26})$`)

// TestReplayRunInterrupted runs a replay in the foreground, which is paused by
// the first signal, goes on in the foreground, is killed, and goes on by a worker.
func TestReplayRunInterrupted(t *testing.T) {
	t.Parallel()
	events := lighter(16_000, 4)
	w := newFileWorld(t, stack.RedisOptions{})
	want := sell(t, w, events, nil)
	admin, env := w.admin(t), w.with(workerEnv)
	d := start(t, env, "replay", "run", "--stream", "shop:*", "--into", "redis:replayed", "--rate", fmt.Sprint(events/5))
	awaitLength(t, admin, "replayed", 1)
	id := replayID.FindStringSubmatch(d.output())[1]
	d.signal(t, syscall.SIGINT)
	if status := d.wait(t, 20*time.Second); status != 130 {
		t.Errorf("status %d, want 130:\n%s", status, tail(d.output()))
	}
	if job := w.job(t, id); job.State != jobs.Paused || job.Lease != nil {
		t.Errorf("the interrupted replay is not paused:\n%s", describe(job))
	}
	n := length(t, admin, "replayed")
	if n >= int64(events) {
		t.Fatal("the replay had ended before it was interrupted")
	}
	d = start(t, env, "replay", "run", id)
	awaitLength(t, admin, "replayed", n+1)
	d.kill(t)
	start(t, env, "worker")
	mustReservoir(t, env, "replay", "watch", id)
	checkReplayed(t, admin, "replayed", id, want)
}
