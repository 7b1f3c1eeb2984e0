package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
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
