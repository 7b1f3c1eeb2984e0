package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// TestReplayHTTP replays over HTTP into a server that fails in every way, by
// workers that are killed: every event arrives, in the order of its aggregate,
// repeats carry the same key, and what is left are the dead letters.
func TestReplayHTTP(t *testing.T) {
	t.Parallel()
	const kills, attempts, batch = 6, 6, 1000
	events := lighter(4000, 2)
	seed := newSeed(t)
	rng := newRand(seed, 1)
	w := newFileWorld(t, stack.RedisOptions{})
	target := newReceiver(t, newRand(seed, 2))
	sold := sell(t, w, events, nil)
	for i := range 3 { // of each stream one event is refused, and one breaks the server
		list := sold[slices.Sorted(maps.Keys(sold))[i]]
		target.poison[field(&list[len(list)/3], "event_id")] = refuses
		target.poison[field(&list[len(list)/2], "event_id")] = breaks
	}
	poison := slices.Sorted(maps.Keys(target.poison))
	spec := filepath.Join(t.TempDir(), "replay.yaml")
	writeFile(t, spec, fmt.Sprintf(`
streams: ["shop:*"]
sink: {type: http, options: {url: "%s/hook", secret: "${RESERVOIR_SINK_SECRET}", timeout: 400ms}}
pace: {rate: %d}
failures: {retry: {attempts: %d, initial: 20ms, max: 200ms}, max_dead_letters: %d}
`, target.server.URL, events/10, attempts, len(poison)))
	id := w.create(t, "--file", spec)
	c := newCrew(t, w.with(hastyEnv, target.env()), 2)
	for range kills {
		i := c.holder(t, -1)
		pause(t, moment(rng, 1500*time.Millisecond), c.workers[i].ended)
		c.restart(t, i)
		target.killed()
	}
	if job := w.job(t, id); job.State != jobs.Running {
		t.Fatalf("the replay had ended before the last kill:\n%s", describe(job))
	}
	c.calm(t, w.with(workerEnv, target.env()))
	target.killed()
	job := w.awaitState(t, id, jobs.Succeeded, 2*time.Minute)
	if job.Progress.DeadLetters != uint64(len(poison)) || job.Progress.Selected != uint64(events) {
		t.Errorf("the replay counted wrong:\n%s", describe(job))
	}
	target.check(t, lanes(sold, poison))
	for life, repeats := range target.repeats {
		if len(repeats) > batch {
			t.Errorf("%d events were repeated after kill %d, which are more than a batch", len(repeats), life)
		}
	}
	for what, n := range target.whims {
		t.Logf("%-12s %5d requests", whim(what), n)
		if n == 0 {
			t.Errorf("the server never %s", whim(what))
		}
	}
	letters := w.letters(t, id, attempts)
	if got := slices.Sorted(maps.Keys(letters)); !slices.Equal(got, poison) {
		t.Fatalf("the dead letters are %q, want %q", got, poison)
	}
	w.retryLetters(t, id, target, letters, lanes(sold, nil))
}

// retryLetters retries one letter, then all of them, and discards the rest.
func (w *world) retryLetters(t *testing.T, id string, target *receiver, letters map[string]*replay.DeadLetter, all map[string][]string) {
	t.Helper()
	ids := slices.Sorted(maps.Keys(letters))
	retry := func(args ...string) string {
		r := mustReservoir(t, w.with(workerEnv, target.env()), append([]string{"replay", "dead-letters", "retry", "--json", id}, args...)...)
		var job jobs.Job
		if err := json.Unmarshal([]byte(r.stdout), &job); err != nil {
			t.Fatal(err)
		}
		w.awaitState(t, job.ID, jobs.Succeeded, time.Minute)
		return job.ID
	}
	target.heal(ids[0])
	retry(letters[ids[0]].Key)
	if got := slices.Sorted(maps.Keys(w.letters(t, id, 0))); !slices.Equal(got, ids[1:]) {
		t.Errorf("after one was retried the dead letters are %q, want %q", got, ids[1:])
	}
	target.heal(ids[1:4]...)
	again := retry()
	if got := w.letters(t, id, 0); len(got) != 0 {
		t.Errorf("after all were retried the dead letters are %v", got)
	}
	if got := slices.Sorted(maps.Keys(w.letters(t, again, 0))); !slices.Equal(got, ids[4:]) {
		t.Errorf("the retry set %q aside, want %q", got, ids[4:])
	}
	target.mu.Lock()
	for _, lane := range all {
		for _, e := range lane {
			if _, taken := target.taken[e]; taken == slices.Contains(ids[4:], e) {
				t.Errorf("event %s: taken is %v", e, taken)
			}
		}
	}
	target.mu.Unlock()
	mustReservoir(t, w.env, "replay", "dead-letters", "purge", again, "--all")
	if got := w.letters(t, again, 0); len(got) != 0 {
		t.Errorf("after all were purged the dead letters are %v", got)
	}
}

// letters lists the dead letters of a replay by their event IDs. Those that are
// not refused were tried so often, unless 0.
func (w *world) letters(t *testing.T, id string, attempts int) map[string]*replay.DeadLetter {
	t.Helper()
	r := mustReservoir(t, w.env, "replay", "dead-letters", "list", "--json", "--limit", "0", id)
	var list struct {
		DeadLetters []*replay.DeadLetter `json:"dead_letters"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]*replay.DeadLetter{}
	for _, d := range list.DeadLetters {
		out[d.View.EventID] = d
		if d.Error == "" || d.Attempts != 1 && d.Attempts != attempts && attempts > 0 {
			t.Errorf("event %s was set aside after %d attempts: %s", d.View.EventID, d.Attempts, d.Error)
		}
	}
	return out
}

// lanes gives the event IDs of what was sold by stream and aggregate, in order,
// but for some.
func lanes(sold map[string][]event.Event, without []string) map[string][]string {
	out := map[string][]string{}
	for stream, events := range sold {
		for i := range events {
			lane := "/streams/" + url.PathEscape(stream) + " " + field(&events[i], "aggregate_id")
			if id := field(&events[i], "event_id"); !slices.Contains(without, id) {
				out[lane] = append(out[lane], id)
			}
		}
	}
	return out
}
