package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/rebuild"
)

// Rows that come into a dependent table after it was counted, such as those of a statement
// of a worker that was stopped, are found before the swap.
func TestDependentsAreCounted(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 300))
	k.archiveAll(100)
	k.must(k.publish(t.Context(), "shop:orders", 100)) // fed in a batch
	for _, table := range []string{"lines_large__g1", "lines_sums__g2", ""} {
		late := faulty.New(k.store, func(s faulty.Step) (none faulty.Fault) {
			if table != "" && s.Op == faulty.Put && strings.HasSuffix(s.Key, "/loaded.json") {
				k.query("INSERT INTO %s SELECT * FROM %s", table, table)
			}
			return none
		})
		job, err := k.try(t.Context(), late, k.create(rebuild.Spec{Projection: "lines"}).ID, time.Minute)
		k.must(err)
		switch {
		case table == "":
			if job.State != jobs.Succeeded {
				t.Errorf("with nothing late the rebuild is %s: %+v", job.State, job.LastError)
			}
		case job.State != jobs.Failed || !strings.Contains(job.LastError.Message, table) || !strings.Contains(job.LastError.Message, "were put there"):
			t.Errorf("late rows of %s: the rebuild is %s: %+v", table, job.State, job.LastError)
		}
	}
}
