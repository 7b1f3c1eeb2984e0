package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// Rows that expire while a rebuild waits are no fault of the table, and more rows are.
func TestRowsExpireDuringApproval(t *testing.T) {
	k := newKitchen(t, false)
	text := strings.Replace(itemsYAML, "columns: {", "ttl: toDateTime(at) + INTERVAL 1 DAY DELETE\n  columns: {at: \"DateTime64(6, 'UTC')\", ", 1)
	k.defs.put("items", strings.Replace(text, "SELECT aggregate_id", "SELECT if(event_id = 'e7', toDateTime64('2100-01-01 00:00:00', 6, 'UTC'), occurred_at) AS at, aggregate_id", 1))
	k.must(k.publish(t.Context(), "shop:orders", 60)) // of which all but one are old
	k.archiveAll(100)
	for _, c := range []struct{ statement, want string }{
		{"OPTIMIZE TABLE items__g1 FINAL", ""},
		{"INSERT INTO items__g2 (at, order_id, _chunk) SELECT now64(6), 'ghost', bitShiftLeft(toUInt64(2), 40) + 1 FROM numbers(500)", "more"},
	} {
		job := k.create(rebuild.Spec{Projection: "items", Approval: projection.Required})
		if job, err := k.try(t.Context(), k.store, job.ID, time.Minute); err != nil || job.State != jobs.Paused {
			t.Fatalf("%+v, %v", job, err)
		}
		k.query("%s", c.statement)
		_, err := k.svc.Approve(t.Context(), job.ID, "ann")
		k.must(err)
		job, err = k.try(t.Context(), k.store, job.ID, time.Minute)
		k.must(err)
		if c.want == "" && job.State != jobs.Succeeded || c.want != "" && job.State != jobs.Failed {
			t.Errorf("%s: the rebuild is %s: %+v", c.statement, job.State, job.LastError)
		}
	}
	if got := k.query("SELECT count() FROM items"); got != "2" {
		t.Errorf("%s rows are left, want the 2 of one event", got)
	}
}
