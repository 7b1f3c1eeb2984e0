package rebuild_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
)

// Rows of a chunk that its statement has not written, such as those of one that was on its
// way for long, are not taken for the chunk's.
func TestLateStatementOfChunk(t *testing.T) {
	k := newKitchen(t, true)
	k.defs.put("seen", strings.Replace(seenYAML, "FROM events", "FROM events WHERE sleepEachRow(0.008) = 0", 1))
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	for generation, way := range []rebuild.Way{rebuild.WayPushdown, rebuild.WayGo} {
		job := k.create(rebuild.Spec{Projection: "seen", Way: way})
		done := make(chan error, 1)
		go func() {
			for {
				tried, err := k.try(t.Context(), k.store, job.ID, time.Minute)
				if err != nil || tried.State.Ended() {
					done <- err
					return
				}
			}
		}()
		eventually(t, 30*time.Second, func() bool {
			list, err := k.db.As(job.ID).Running(t.Context(), "chunk")
			k.must(err)
			return len(list) > 0
		}, func() string { return "no chunk is loaded" })
		k.query("INSERT INTO seen__g%d (event, _chunk) VALUES ('late', %d)", generation+1, (generation+1)<<40+1)
		k.must(<-done)
		if got := k.query("SELECT count(), countIf(event = 'late') FROM seen"); got != "100\t0" {
			job, err := k.jobs.Get(t.Context(), job.ID)
			k.must(err)
			t.Errorf("by %s there are %s rows, the rebuild is %s: %+v", way, got, job.State, job.LastError)
		}
	}
}

// A part of a large segment that is not in the archive any more is not taken for one
// without events.
func TestSplitChunkOfExpiredSegment(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("seen", seenYAML)
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	split := func() string {
		job := k.create(rebuild.Spec{Projection: "seen"})
		plan, err := k.svc.Plan(t.Context(), job.ID)
		k.must(err)
		first := plan.Chunks[0]
		second := first
		first.Whole, second.Whole = false, false
		first.Events, second.Events = 30, 70
		first.Range.To = event.ID{Ms: first.Range.From.Ms}
		second.Range.From = first.Range.To.Next()
		plan.Chunks = []rebuild.Chunk{first, second}
		text, err := json.Marshal(plan)
		k.must(err)
		_, err = k.jobs.Files(job.ID).Put(t.Context(), "plan.json", bytes.NewReader(text), objectstore.Always)
		k.must(err)
		return job.ID
	}
	k.run(split())
	if got := k.query("SELECT count() FROM seen"); got != "100" {
		t.Errorf("there are %s rows", got)
	}
	id := split()
	_, err := k.arch.Expire(t.Context(), "shop:orders", time.Now().Add(time.Hour))
	k.must(err)
	job, err := k.try(t.Context(), k.store, id, time.Minute)
	k.must(err)
	if job.State != jobs.Failed || !strings.Contains(job.LastError.Message, "erased or expired") {
		t.Errorf("the rebuild is %s: %+v", job.State, job.LastError)
	}
}
