package rebuild_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/rebuild"
)

const idsYAML = `
name: ids
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: MergeTree
  order_by: [id]
  columns: {id: String}
select: SELECT event_id AS id FROM events
`

// trim leaves the last n entries of a stream in Redis.
func (k *kitchen) trim(ctx context.Context, n int) error {
	return k.raw.XTrimMaxLen(ctx, "shop:orders", int64(n)).Err()
}

// has waits until the table has each of so many events once.
func (k *kitchen) has(n int) {
	k.t.Helper()
	want, got := fmt.Sprintf("%d\t%d", n, n), ""
	eventually(k.t, 30*time.Second, func() bool {
		got = k.query("SELECT count(), uniqExact(id) FROM ids")
		return got == want
	}, func() string { return "the table has " + got + " events, want " + want })
}

// Streams are trimmed by retention while they are fed from and rebuilt: what is archived
// is read from there.
func TestTrimmedWhileFed(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("ids", idsYAML)
	k.must(k.publish(t.Context(), "shop:orders", 300))
	k.archiveAll(100)
	k.must(k.trim(t.Context(), 0))
	k.build(rebuild.Spec{Projection: "ids"})
	reg := prometheus.NewPedanticRegistry()
	stop := k.projectWith(reg, "ids")
	events := 300
	for round := range 5 {
		k.must(k.publish(t.Context(), "shop:orders", 150))
		k.archiveAll(100)
		k.must(k.trim(t.Context(), 10*(round%2)))
		k.must(k.publish(t.Context(), "shop:orders", 30))
		if events += 180; round%3 == 2 {
			k.build(rebuild.Spec{Projection: "ids"})
		}
		if round == 3 { // what comes until there is another one is archived and trimmed
			k.has(events)
			stop()
			defer k.projectWith(nil, "ids")()
		}
	}
	k.has(events)
	if n := k.lost(reg); n != 0 {
		t.Errorf("%v entries are said to be lost", n)
	}
}

// loud makes the service anew, and gives what its log says from now on.
func (k *kitchen) loud() *lockedBuffer {
	k.t.Helper()
	said := &lockedBuffer{}
	k.opts.Logger = slog.New(slog.NewTextHandler(said, nil))
	var err error
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	return said
}

// lost is what a projector says of how many entries were lost.
func (k *kitchen) lost(reg prometheus.Gatherer) float64 {
	k.t.Helper()
	return k.measured(reg, "lost_total")["ids"]
}

// measured is a metric of a projector, by projection.
func (k *kitchen) measured(reg prometheus.Gatherer, name string) map[string]float64 {
	k.t.Helper()
	families, err := reg.Gather()
	k.must(err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "reservoir_projector_"+name {
				values[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return values
}

// What was trimmed before anybody has archived or read it is said, with where it was:
// whether the projector finds out by itself, or the archiver has recorded it before.
func TestLossesAreNamed(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("ids", idsYAML)
	k.must(k.publish(t.Context(), "shop:orders", 20))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "ids"})
	said := k.loud()

	k.must(k.publish(t.Context(), "shop:orders", 10))
	k.must(k.trim(t.Context(), 1))
	k.archiveAll(100) // it records the loss of 9
	k.must(k.publish(t.Context(), "shop:orders", 7))
	k.must(k.trim(t.Context(), 1)) // another 6 are lost, and nobody knows yet
	reg := prometheus.NewPedanticRegistry()
	k.projectWith(reg, "ids")
	k.has(22)
	for _, part := range []string{"9 entries", "6 entries"} {
		text := "level=ERROR msg=\"entries were lost before they were read\" projection=ids stream=shop:orders loss=\"" + part + " after "
		if strings.Count(said.String(), text) != 1 {
			t.Errorf("the log does not say once that %s were lost:\n%s", part, said.String())
		}
	}
	if n := k.lost(reg); n != 15 {
		t.Errorf("%v entries are said to be lost, want 15", n)
	}
}

// A loss with nothing behind it does not move the place of a table. It is told once all the
// same, however often the table is opened.
func TestLossesAreToldOnce(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("ids", idsYAML)
	k.must(k.publish(t.Context(), "shop:orders", 20))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "ids"})
	k.build(rebuild.Spec{Projection: "ids"})
	said := k.loud()
	k.must(k.publish(t.Context(), "shop:orders", 8))
	k.must(k.trim(t.Context(), 0))
	reg := prometheus.NewPedanticRegistry()
	k.projectWith(reg, "ids")
	eventually(t, 30*time.Second, func() bool { return k.lost(reg) > 0 }, func() string { return "nothing is said to be lost" })
	_, err := k.svc.Rollback(t.Context(), "ids", "ann")
	k.must(err)
	k.must(k.publish(t.Context(), "shop:orders", 1))
	k.has(21)
	if n := k.lost(reg); n != 8 {
		t.Errorf("%v entries are said to be lost, want 8", n)
	}
	text := "level=ERROR msg=\"entries were lost before they were read\" projection=ids stream="
	if n := strings.Count(said.String(), text); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, said.String())
	}
}

// Entries that are lost while a rebuild runs are a warning: a person decides. That is so
// until the swap, also where none was asked before.
func TestLossesWhileRebuilding(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("ids", idsYAML)
	k.must(k.publish(t.Context(), "shop:orders", 20))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "ids"})
	events := 20
	lose := func(ctx context.Context) error {
		events++
		if err := k.publish(ctx, "shop:orders", 5); err != nil {
			return err
		}
		return k.trim(ctx, 1)
	}
	held := func(id string, job *jobs.Job, err error) {
		t.Helper()
		k.must(err)
		warned := slices.ContainsFunc(job.Log, func(e jobs.LogEntry) bool {
			return strings.HasPrefix(e.Message, `stream "shop:orders" lost entries before they were read: 4 entries after `)
		})
		if job.State != jobs.Paused || !strings.Contains(job.StateReason, "waits for approval") || !warned {
			t.Errorf("the rebuild is %s: %s, %+v", job.State, job.StateReason, job.Log)
		}
		doc, err := k.svc.Documents().Get(t.Context(), "ids")
		k.must(err)
		if live := k.query("SELECT JSONExtractUInt(comment, 'reservoir', 'generation') = %d FROM system.tables WHERE name = 'ids'", doc.Live.Generation); live != "1" {
			t.Errorf("the live table is not that of generation %d: %s", doc.Live.Generation, k.query("SELECT name, comment FROM system.tables WHERE name LIKE 'ids%%'"))
		}
		_, err = k.svc.Approve(t.Context(), id, "ann")
		k.must(err)
		k.run(id)
		if got := k.query("SELECT count() FROM ids"); got != strconv.Itoa(events) {
			t.Errorf("the table has %s events, want %d", got, events)
		}
	}

	job := k.create(rebuild.Spec{Projection: "ids"})
	writes := 0
	lossy := faulty.New(k.store, func(s faulty.Step) faulty.Fault {
		if s.Op != faulty.Put || !strings.HasPrefix(s.Key, "projections/") {
			return faulty.Fault{}
		}
		if writes++; writes == 2 { // the first gave the generation its number, and this is the hand-over
			return faulty.Fault{Err: lose(t.Context())}
		}
		return faulty.Fault{}
	})
	tried, err := k.try(t.Context(), lossy, job.ID, time.Minute)
	held(job.ID, tried, err)

	k.archiveAll(100)
	job = k.create(rebuild.Spec{Projection: "ids"})
	k.must(lose(t.Context()))
	k.archiveAll(100) // recorded, but not when the rebuild was planned
	events += 3
	k.must(k.publish(t.Context(), "shop:orders", 3))
	tried, err = k.try(t.Context(), k.store, job.ID, time.Minute)
	held(job.ID, tried, err)
}
