package e2e_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/rebuild"
)

// TestStaleProjector stops a projector just before or after a write, another takes its
// place, and the first one goes on: nothing that it does then has an effect. The same
// for a worker in the middle of a hand-over.
func TestStaleProjector(t *testing.T) {
	names := []string{"timeline", "revenue"}
	k := newKitchen(t, 2*time.Second, stack.ClickHouseOptions{}, names...)
	for _, lane := range laneNames {
		if err := k.publish(t.Context(), lane, 500); err != nil {
			t.Fatal(err)
		}
	}
	k.archiving(t)
	builder := k.start(t, k.hand())
	k.first(t, names...)
	builder.kill(t)
	engine := k.keepEngine(t)
	r := k.reading(t, 20*time.Millisecond, engine.downs.Load, names...)
	stop := k.writing(t, 5, 20*time.Millisecond)
	deaths := []death{
		{Phase: feeding, Key: "projections/timeline", Nth: 5, When: later}, // announced, not sent
		{Phase: feeding, Key: "projections/revenue", Nth: 6, When: later},
		{Phase: feeding, Key: "projections/revenue", Nth: 6}, // the one before is sent
		{Phase: feeding, Statement: `INSERT INTO [^ ]*timeline`, Nth: 3},
		{Phase: feeding, Statement: `INSERT INTO [^ ]*revenue`, Nth: 3},
		{Phase: feeding, Statement: `INSERT INTO [^ ]*revenue`, Nth: 3, When: amid},
		{Phase: rebuild.PhaseHandOver, Key: "projections/revenue", Nth: 2},
		{Phase: rebuild.PhaseHandOver, Key: "projections/timeline", Nth: 1, When: later},
		{Phase: rebuild.PhaseHandOver, Key: "jobs/", Nth: 3, When: later},
		{Phase: rebuild.PhaseHandOver, Statement: "RENAME TABLE", Nth: 1},
		{Phase: rebuild.PhaseHandOver, Statement: "EXCHANGE TABLES", Nth: 1},
		{Phase: rebuild.PhaseHandOver, Statement: "EXCHANGE TABLES", Nth: 1, When: later},
	}
	if !*long {
		deaths = []death{deaths[4], deaths[10]}
	}
	for _, die := range deaths {
		k.outlive(t, die)
	}
	stop()
	k.start(t, k.hand())
	for _, name := range names {
		k.settled(t, name)
	}
	r.stop(t)
}

// outlive has a process stopped at a write, lets another go on in its place for some
// time, and then has the first one go on too.
func (k *kitchen) outlive(t *testing.T, die death) {
	t.Helper()
	h := k.hand()
	die.How = asleep
	h.Deaths = []death{die}
	first := k.start(t, h)
	if die.Phase != feeding {
		name := "revenue"
		if die.Key == "projections/timeline" {
			name = "timeline"
		}
		first.mustSay(t, working, 0)
		k.order(t, rebuild.Spec{Projection: name}, "")
	}
	first.mustSay(t, frozen, 0)
	second := k.start(t, k.hand())
	second.mustSay(t, working, 0)
	// The one that is stopped has lost everything when both tables grow again.
	for _, name := range []string{"timeline", "revenue"} {
		k.grows(t, name)
	}
	first.signal(t, os.Signal(syscall.SIGCONT))
	pause(t, 2*time.Second, first.ended) // what it does now, it does late
	if !first.running() {
		t.Errorf("a process that was stopped for a while ended by itself:\n%s", tail(first.output()))
	}
	for _, name := range []string{"timeline", "revenue"} {
		if _, err := k.exact(t.Context(), name, name); err != nil && !errors.Is(err, errLook) {
			k.explain(t, name)
			t.Fatalf("stopped at %+v: %v", die, err)
		}
	}
	first.kill(t)
	second.kill(t)
}

// grows waits until a table has events that were written after now.
func (k *kitchen) grows(t *testing.T, name string) {
	t.Helper()
	want, waits := k.written(laneNames[0]), patient(time.Minute)
	for {
		at, err := k.exact(t.Context(), name, name)
		if err != nil && (!errors.Is(err, errLook) || waits.over()) {
			t.Fatal(err)
		}
		if at[laneNames[0]] > want {
			return
		}
		if waits.over() {
			k.explain(t, name)
			t.Fatalf("%s is at %v, and does not grow", name, at)
		}
		pause(t, 50*time.Millisecond, nil)
	}
}
