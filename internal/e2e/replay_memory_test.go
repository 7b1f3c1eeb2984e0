package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
)

// maxMemory is the most that a worker may ever have had in memory.
const maxMemory = 128 << 20

// TestReplayMemory replays long ranges, many streams and large values in little
// memory. With the race detector only what arrives is looked at.
func TestReplayMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		fill func(*testing.T, *world) map[string][]event.Event
	}{
		{"long streams", func(t *testing.T, w *world) map[string][]event.Event {
			return sell(t, w, lighter(500_000, 50), nil)
		}},
		{"many streams", func(t *testing.T, w *world) map[string][]event.Event {
			rec := newRecord()
			for i := range lighter(100, 5) {
				fill(t, w, rec, fmt.Sprintf("stream %d", i), 1000)
			}
			return rec.streams
		}},
		{"large values", func(t *testing.T, w *world) map[string][]event.Event {
			rec := newRecord()
			p, noise := newProducers(t, w.redis.URL(), rec, 1)[0], rand.NewChaCha8([32]byte{})
			for i := range lighter(200, 4) {
				value := make([]byte, 1<<20)
				if _, err := noise.Read(value[:1<<19]); err != nil { // half of it cannot be compressed
					t.Fatal(err)
				}
				copy(value[1<<19:], bytes.Repeat([]byte("reservoir"), 1<<19/9))
				e := event.Event{ID: event.ID{Ms: uint64(i/4 + 1), Seq: uint64(i)}, Fields: []event.Field{{Name: []byte("payload"), Value: value}}}
				if err := p.send(t.Context(), []entry{{fmt.Sprintf("large %d", i%4), e}}); err != nil {
					t.Fatal(err)
				}
			}
			return rec.streams
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newFileWorld(t, stack.RedisOptions{})
			want := c.fill(t, w)
			mustReservoir(t, w.env, "archive", "--once")
			id := w.create(t, "--stream", "*", "--into", "redis:replayed")
			d := start(t, w.with(workerEnv), "worker")
			job := w.awaitState(t, id, jobs.Succeeded, 2*time.Minute)
			peak := peakMemory(t, d)
			checkReplayed(t, w.admin(t), "replayed", id, want)
			t.Logf("%d events in %v, with %d MiB", job.Progress.Done, job.EndedAt.Sub(job.StartedAt), peak>>20)
			if peak > maxMemory && !raceDetector {
				t.Errorf("the worker has had %d MiB, want at most %d", peak>>20, maxMemory>>20)
			}
		})
	}
}

var highWater = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// peakMemory is the most that a process has had in memory so far.
func peakMemory(t *testing.T, d *daemon) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := highWater.FindSubmatch(status)
	if found == nil {
		t.Fatalf("no VmHWM:\n%s", status)
	}
	kb, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
