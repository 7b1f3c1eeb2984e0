package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// What somebody does to a table while it waits for its approval is found before it would
// become live, of every engine and of dependents too; merges are nobody's doing.
func TestChangedWhileItWaits(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 400))
	k.archiveAll(100)
	for _, c := range []struct{ name, table, statement, want string }{
		{"orders", "orders", "ALTER TABLE %t DELETE WHERE total > 3 SETTINGS mutations_sync = 2", "changed"},
		{"orders", "orders", "INSERT INTO %t (order_id, version) VALUES ('ghost', 1)", "added"},
		{"orders", "orders", "TRUNCATE TABLE %t", "gone"},
		{"orders", "orders", "OPTIMIZE TABLE %t FINAL", ""},
		{"revenue", "revenue", "INSERT INTO %t (tenant, total) VALUES ('t1', 1000)", "added"},
		{"revenue", "revenue", "ALTER TABLE %t UPDATE total = 0 WHERE 1 SETTINGS mutations_sync = 2", "changed"},
		{"revenue", "revenue", "OPTIMIZE TABLE %t FINAL", ""},
		{"lines", "lines_sums", "INSERT INTO %t (tenant, n) VALUES ('t1', 1000)", "added"},
		{"lines", "lines_late", "TRUNCATE TABLE %t", "gone"},
		{"lines", "lines_seen", "DROP TABLE %t", "dropped"},
		{"lines", "lines_large", "DELETE FROM %t WHERE n > 2", "changed"},
		{"lines", "lines", "INSERT INTO %t (sku) VALUES ('ghost')", "added"},
		{"lines", "lines", "OPTIMIZE TABLE %t FINAL", ""},
	} {
		job := k.create(rebuild.Spec{Projection: c.name, Approval: projection.Required})
		if job, err := k.try(t.Context(), k.store, job.ID, 10*time.Minute); err != nil || job.State != jobs.Paused {
			t.Fatalf("%s: %+v, %v", c.statement, job, err)
		}
		doc, err := k.svc.Documents().Get(t.Context(), c.name)
		k.must(err)
		k.query("%s", strings.ReplaceAll(c.statement, "%t", k.db.Table(c.table).Of(int(doc.LastGeneration)).Name))
		k.must(k.publish(t.Context(), "shop:orders", 5))
		_, err = k.svc.Approve(t.Context(), job.ID, "ann")
		k.must(err)
		job, err = k.try(t.Context(), k.store, job.ID, 10*time.Minute)
		k.must(err)
		if c.want == "" {
			if job.State != jobs.Succeeded {
				t.Errorf("%s of %s: the rebuild is %s: %+v", c.statement, c.table, job.State, job.LastError)
			}
			continue
		}
		if job.State != jobs.Failed || !strings.Contains(job.LastError.Message, c.want) || !strings.Contains(job.LastError.Message, c.table) {
			t.Errorf("%s of %s: the rebuild is %s: %+v", c.statement, c.table, job.State, job.LastError)
		}
		if doc, err = k.svc.Documents().Get(t.Context(), c.name); err != nil || doc.Live.Generation == doc.LastGeneration {
			t.Errorf("%s of %s: it is live, %v", c.statement, c.table, err)
		}
	}
}

// Parts that somebody drops while a table is loaded are found also where the engine merges
// rows away, whether the worker dies then or not.
func TestPartsGoneDuringTheLoad(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 400))
	k.archiveAll(100)
	for n, dies := range []bool{false, true} {
		id := k.create(rebuild.Spec{Projection: "orders", Concurrency: 1}).ID
		sealed, dropped := false, false
		store := faulty.New(k.store, func(s faulty.Step) (f faulty.Fault) {
			switch {
			case s.Op != faulty.Put || dropped:
			case strings.HasSuffix(s.Key, "/loading.json") && !sealed:
				sealed = true
			case sealed:
				k.query("ALTER TABLE orders__g%d DROP PARTITION tuple()", n+1)
				dropped, f.Crash = true, dies
			}
			return f
		})
		job, err := k.try(t.Context(), store, id, 2*time.Second)
		if err != nil {
			job, err = k.try(t.Context(), k.store, id, time.Minute)
		}
		k.must(err)
		if !dropped || job.State != jobs.Failed || !strings.Contains(job.LastError.Message, "are gone") {
			t.Errorf("dropped: %t; the rebuild is %s: %+v", dropped, job.State, job.LastError)
		}
	}
}
