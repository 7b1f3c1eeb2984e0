package rebuild_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

const countsThatFailYAML = countsYAML + "failures: {dead_letters: 1000}\n"

// cutFold is a fold that can be cut off at any event, and some events of which cannot
// be used.
type cutFold struct {
	left atomic.Int64 // events until it is cut
	cut  atomic.Pointer[context.CancelFunc]
}

func (c *cutFold) function() projection.Function {
	return projection.NewFold("counts", projection.Folds[counted]{
		Apply: func(s counted, e *projection.Event) (counted, error) {
			if c.left.Add(-1) == 0 {
				if cut := c.cut.Load(); cut != nil {
					(*cut)()
				}
			}
			if strings.HasSuffix(e.EventID, "77") {
				return s, errors.New("it ends with 77")
			}
			s.Order, s.Tenant, s.Events, s.Total = e.AggregateID, e.Tenant, s.Events+1, s.Total+int64(e.ID.Seq)
			return s, nil
		},
		Rows: func(_ string, s counted) ([]projection.Row, error) {
			return []projection.Row{{"order_id": s.Order, "tenant": s.Tenant, "events": s.Events, "total": s.Total}}, nil
		},
	})
}

// attempt runs a job by a worker whose folds keep their states often.
func (k *kitchen) attempt(ctx context.Context, id string, lease time.Duration) (*jobs.Job, error) {
	k.t.Helper()
	svc, err := rebuild.New(k.opts)
	k.must(err)
	svc.KeepStates(100)
	runner, err := jobs.NewRunner(k.jobs, jobs.RunnerOptions{Engines: map[string]jobs.Engine{rebuild.Kind: svc.Engine()}, LeaseTTL: lease, Poll: 20 * time.Millisecond})
	k.must(err)
	return runner.RunOne(ctx, id)
}

// letters counts what a rebuild has put aside, each event once.
func (k *kitchen) letters(id string) int {
	k.t.Helper()
	seen := map[string]bool{}
	for l, err := range k.svc.DeadLetters(k.t.Context(), id) {
		k.must(err)
		if seen[l.EventID] {
			k.t.Errorf("%s was put aside twice", l)
		}
		seen[l.EventID] = true
	}
	return len(seen)
}

func messages(job *jobs.Job) string {
	var b strings.Builder
	for _, e := range job.Log {
		fmt.Fprintln(&b, e.Message)
	}
	return b.String()
}

// A fold that is cut off at any event goes on from its states, or without them begins
// anew; every event counts once, and so does every one that cannot be used.
func TestFoldIsCutOff(t *testing.T) {
	fold := &cutFold{}
	k := newKitchen(t, false, fold.function())
	k.withStates()
	k.defs.put("counts", countsThatFailYAML)
	k.must(k.publish(t.Context(), "shop:orders", 1500))
	k.must(k.publish(t.Context(), "shop:payments", 700))
	k.archiveAll(300)
	approved := func() *jobs.Job {
		job := k.create(rebuild.Spec{Projection: "counts"})
		_, err := k.svc.Approve(t.Context(), job.ID, "ann") // whatever is put aside
		k.must(err)
		return job
	}
	first := approved()
	k.run(first.ID)
	want := k.contents("counts")
	if n := k.letters(first.ID); n != 22 {
		t.Fatalf("%d events were put aside, want 22", n)
	}
	if got := k.query("SELECT sum(events) FROM counts FINAL"); got != "2178" {
		t.Fatalf("the fold has %s events, want 2178", got)
	}
	wentOn, generation := 0, 1
	for cut := int64(150); cut < 2200; cut += int64(between(700, 41)) {
		job := approved()
		generation++
		ctx, cancel := context.WithCancel(t.Context())
		fold.cut.Store(&cancel)
		fold.left.Store(cut)
		if _, err := k.attempt(ctx, job.ID, 500*time.Millisecond); ctx.Err() == nil {
			t.Fatalf("it was not cut at event %d: %v", cut, err)
		}
		fold.cut.Store(nil)
		lose := cut%3 == 0
		if lose {
			k.must(os.RemoveAll(filepath.Join(k.opts.StateDir, fmt.Sprintf("counts-g%d", generation))))
		}
		done, err := k.attempt(t.Context(), job.ID, time.Minute)
		k.must(err)
		if done.State != jobs.Succeeded {
			t.Fatalf("the rebuild is %s: %+v", done.State, done.LastError)
		}
		said := messages(done)
		if strings.Contains(said, "goes on from its states") {
			wentOn++
		}
		if lose && !strings.Contains(said, "there are no states on this machine") {
			t.Errorf("without its states it said %s", said)
		}
		if got := k.contents("counts"); got != want {
			t.Fatalf("cut at event %d: %s", cut, firstDifference("counts", got, want))
		}
		if n := k.letters(job.ID); n != 22 {
			t.Errorf("cut at event %d: %d events were put aside, want 22", cut, n)
		}
	}
	if wentOn == 0 {
		t.Error("no fold went on from its states")
	}
}

// States of another build are not taken for one's own, and the projector that has none
// folds all events again: both are said.
func TestForeignStates(t *testing.T) {
	fold := &cutFold{}
	k := newKitchen(t, false, fold.function())
	var log lockedBuffer
	k.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	k.withStates()
	k.defs.put("counts", countsThatFailYAML)
	k.must(k.publish(t.Context(), "shop:orders", 300))
	k.archiveAll(100)
	build := func() *jobs.Job {
		job := k.create(rebuild.Spec{Projection: "counts"})
		_, err := k.svc.Approve(t.Context(), job.ID, "ann")
		k.must(err)
		return k.run(job.ID)
	}
	build()
	want := k.contents("counts")
	k.must(os.Rename(filepath.Join(k.opts.StateDir, "counts-g1"), filepath.Join(k.opts.StateDir, "counts-g2")))
	if said := messages(build()); !strings.Contains(said, "thrown away, and the fold begins with the first event") {
		t.Errorf("with states of another build it said %s", said)
	}
	if got := k.contents("counts"); got != want {
		t.Error(firstDifference("counts", got, want))
	}
	k.must(os.RemoveAll(filepath.Join(k.opts.StateDir, "counts-g2")))
	k.project("counts")
	k.must(k.publish(t.Context(), "shop:orders", 300))
	const sum = "SELECT sum(events) FROM counts FINAL"
	eventually(t, 30*time.Second, func() bool { return k.query(sum) == "594" }, func() string { return "the fold has " + k.query(sum) + " events, want 594" })
	if !strings.Contains(log.String(), "all events are folded again") {
		t.Errorf("the log says %s", log.String())
	}
}

// lockedBuffer is a log that is written and read at once.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
