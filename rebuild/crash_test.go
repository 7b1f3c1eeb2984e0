package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/rebuild"
)

// A worker that is killed at any write of the object store, before or after its effect,
// leaves a rebuild that another one ends, with the table as if nothing had happened.
func TestWorkerIsKilledAtEveryStep(t *testing.T) {
	k := newKitchen(t, false)
	k.lease = 2 * time.Second
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 600))
	k.archiveAll(200)
	k.must(k.publish(t.Context(), "shop:orders", 100))
	for _, name := range []string{"items", "revenue", "lines"} {
		k.build(rebuild.Spec{Projection: name})
		want := k.contents(name)
		if lines := strings.Count(want, "\n") + 1; name == "items" && lines != 1400 {
			t.Fatalf("items has %d rows, want 1400", lines)
		}
		quiet := faulty.New(k.store, nil)
		if job, err := k.try(t.Context(), quiet, k.create(rebuild.Spec{Projection: name}).ID, 10*time.Second); err != nil || job.State != jobs.Succeeded {
			t.Fatalf("%+v, %v", job, err)
		}
		steps := quiet.Steps()
		for step := 1; step <= steps; step += between(47, 3) {
			job := k.create(rebuild.Spec{Projection: name})
			dying := faulty.New(k.store, faulty.CrashAt(step, step%2 == 0))
			if _, err := k.try(t.Context(), dying, job.ID, 100*time.Millisecond); err == nil {
				break // it is never reached
			} else if !errors.Is(err, faulty.ErrCrashed) {
				t.Logf("step %d: %v", step, err)
			}
			k.run(job.ID)
			if got := k.contents(name); got != want {
				t.Fatalf("killed at step %d of %d: %d lines, want %d: %s", step, steps, strings.Count(got, "\n")+1, strings.Count(want, "\n")+1, firstDifference(name, got, want))
			}
		}
	}
}

// ClickHouse is killed again and again while projections are rebuilt, fed and written to.
func TestClickHouseIsKilled(t *testing.T) {
	k := newKitchen(t, true)
	k.examples()
	names := []string{"timeline", "revenue", "lines"}
	k.must(k.publish(t.Context(), "shop:orders", 3000))
	k.archiveAll(300)
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
	}
	k.project()
	stopWriting := k.writer(10 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	killed := make(chan int)
	random := rand.New(rand.NewPCG(7, 9))
	go func() {
		kills := 0
		defer func() { killed <- kills }()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(2000+random.IntN(3000)) * time.Millisecond):
			}
			if err := errors.Join(k.ch.Kill(), k.ch.Restart(context.Background())); err != nil {
				t.Error(err)
				return
			}
			kills++
		}
	}()
	for i := range between(2, 3) {
		job, err := k.svc.Create(t.Context(), rebuild.Spec{Projection: names[i%len(names)], Approval: "automatic"}, rebuild.CreateOptions{IdempotencyKey: fmt.Sprint(i)})
		for err != nil { // ClickHouse is down
			job, err = k.svc.Create(t.Context(), rebuild.Spec{Projection: names[i%len(names)], Approval: "automatic"}, rebuild.CreateOptions{IdempotencyKey: fmt.Sprint(i)})
		}
		k.run(job.ID)
	}
	cancel()
	t.Logf("killed %d times", <-killed)
	stopWriting()
	k.caughtUp(k.reference(names...))
}
