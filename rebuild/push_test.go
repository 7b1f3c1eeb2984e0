package rebuild_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
)

// A chunk with more events that cannot be used than are listed at once goes through this
// process, in smaller blocks.
func TestManyUnusableEvents(t *testing.T) {
	const noise = 100_500
	k := newKitchen(t, true)
	k.defs.put("strict", strings.Replace(strictYAML, "100000}", "200000}", 1))
	pipe := k.raw.Pipeline()
	for i := range noise {
		pipe.Do(t.Context(), "XADD", "shop:orders", "*", "event_id", fmt.Sprintf("%0400d", i), "type", "Noise")
	}
	_, err := pipe.Exec(t.Context())
	k.must(err)
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(200_000)
	job := k.build(rebuild.Spec{Projection: "strict"})
	letters := 0
	for _, err := range k.svc.DeadLetters(t.Context(), job.ID) {
		k.must(err)
		letters++
	}
	if rows := k.query("SELECT count() FROM strict"); letters < noise || rows != fmt.Sprint(noise+100-letters) {
		t.Errorf("%d events were put aside, and the table has %s", letters, rows)
	}
}

// Segments that do not hold what the commit log says are found before ClickHouse loads
// them, also where one is cut into several chunks.
func TestSegmentsAreCounted(t *testing.T) {
	k := newKitchen(t, true)
	k.defs.put("ids", idsYAML)
	k.must(k.publish(t.Context(), "shop:orders", 600))
	k.archiveAll(600)
	for _, cut := range []bool{false, true} {
		job := k.create(rebuild.Spec{Projection: "ids", Way: rebuild.WayPushdown})
		files := k.jobs.Files(job.ID)
		body, _, err := files.Get(t.Context(), "plan.json", objectstore.ByteRange{})
		k.must(err)
		text, err := io.ReadAll(body)
		k.must(err)
		k.must(body.Close())
		var plan rebuild.Plan
		k.must(json.Unmarshal(text, &plan))
		chunk := &plan.Chunks[0]
		if chunk.Events++; cut {
			chunk.Whole = false
		}
		text, err = json.Marshal(plan)
		k.must(err)
		_, err = files.Put(t.Context(), "plan.json", bytes.NewReader(text), objectstore.Always)
		k.must(err)
		job, err = k.try(t.Context(), k.store, job.ID, time.Minute)
		k.must(err)
		if job.State != jobs.Failed || !strings.Contains(job.LastError.Message, "the commit log says") {
			t.Errorf("cut: %t; the rebuild is %s: %+v", cut, job.State, job.LastError)
		}
	}
}
