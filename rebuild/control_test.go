package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

// tables lists the tables that there are.
func (k *kitchen) tables() string {
	return strings.ReplaceAll(k.query("SHOW TABLES"), "\n", " ")
}

func TestApprovalAndCancel(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 500))
	k.archiveAll(200)
	k.build(rebuild.Spec{Projection: "items"})
	waiting := k.create(rebuild.Spec{Projection: "items", Approval: "required"})
	job, err := k.try(t.Context(), k.store, waiting.ID, time.Minute)
	k.must(err)
	if job.State != jobs.Paused || !strings.Contains(job.StateReason, "approval") {
		t.Fatalf("the rebuild is %s: %s", job.State, job.StateReason)
	}
	k.must(k.publish(t.Context(), "shop:orders", 10))
	if _, err := k.svc.Approve(t.Context(), waiting.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	k.run(waiting.ID)
	if got := k.query("SELECT count() FROM items"); got != "1020" {
		t.Errorf("the table has %s rows, want 1020", got)
	}
	doomed := k.create(rebuild.Spec{Projection: "items", Approval: "required"})
	if _, err := k.try(t.Context(), k.store, doomed.ID, time.Minute); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(k.tables(), "items__g3") {
		t.Fatalf("there are only %s", k.tables())
	}
	if _, err := k.jobs.Cancel(t.Context(), doomed.ID, jobs.Change{By: "ann"}); err != nil {
		t.Fatal(err)
	}
	if job, err := k.try(t.Context(), k.store, doomed.ID, time.Minute); err == nil && job.State != jobs.Cancelled {
		t.Errorf("the rebuild is %s", job.State)
	}
	if got := k.tables(); got != "items items__g1" {
		t.Errorf("there are %s", got)
	}
}

const strictYAML = `
name: strict
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: MergeTree
  order_by: [id]
  columns: {id: String, part: UInt64}
require:
  - {sql: "type != 'Noise'", reason: it is noise}
failures: {dead_letters: 100000}
select: |
  SELECT event_id AS id, toUInt64(substring(event_id, 2)) AS part FROM events
`

// Events that cannot be used are put aside with their reasons: those that do not meet
// what is required, and those on which the SELECT fails.
func TestDeadLetters(t *testing.T) {
	k := newKitchen(t, true)
	k.defs.put("strict", strictYAML)
	k.must(k.publish(t.Context(), "shop:orders", 900))
	for _, id := range []string{"x", "eNaN"} {
		k.must(k.raw.Do(t.Context(), "XADD", "shop:orders", "*", "event_id", id, "type", "OrderPaid").Err())
	}
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(400)
	k.must(k.raw.Do(t.Context(), "XADD", "shop:orders", "*", "event_id", "live", "type", "OrderPaid").Err())
	for _, way := range []rebuild.Way{rebuild.WayPushdown, rebuild.WayGo} {
		job := k.create(rebuild.Spec{Projection: "strict", Way: way, Approval: "required"})
		if _, err := k.svc.Approve(t.Context(), job.ID, "ann"); err != nil {
			t.Fatal(err)
		}
		k.run(job.ID)
		reasons := map[string]int{}
		for l, err := range k.svc.DeadLetters(t.Context(), job.ID) {
			k.must(err)
			switch {
			case l.Reason == "it is noise":
				reasons["noise"]++
			case l.EventID == "x" || l.EventID == "eNaN" || l.EventID == "live":
				reasons["failed"]++
			default:
				t.Errorf("%s", l)
			}
		}
		rows := k.query("SELECT count() + %d FROM strict", reasons["noise"])
		if rows != "1000" || reasons["failed"] != 3 {
			t.Errorf("%s: %s events are dealt with, want 1000; %v", way, rows, reasons)
		}
	}
	k.defs.put("strict", strings.Replace(strictYAML, "failures: {dead_letters: 100000}", "failures: {dead_letters: 5}", 1))
	job, err := k.try(t.Context(), k.store, k.create(rebuild.Spec{Projection: "strict"}).ID, time.Minute)
	k.must(err)
	if job.State != jobs.Failed || !strings.Contains(job.LastError.Message, "it is noise") {
		t.Errorf("the rebuild is %s: %+v", job.State, job.LastError)
	}
}
