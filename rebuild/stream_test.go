package rebuild_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/rebuild"
)

// A chunk that is sent in several blocks is there as a whole, once, and what cannot be
// used of any of them is put aside.
func TestChunkOfSeveralBlocks(t *testing.T) {
	const events, size = 40, 1 << 20
	k := newKitchen(t, false)
	for i := range events {
		k.must(k.raw.XAdd(t.Context(), &redis.XAddArgs{Stream: "shop:large", Values: []string{
			"type", "Large", "aggregate_id", fmt.Sprint(i), "payload", strings.Repeat("x", size+i),
		}}).Err())
	}
	k.archiveAll(events)
	for name, c := range map[string]struct{ selection, want string }{
		"large":    {"SELECT aggregate_id AS id, length(payload) AS size FROM events", fmt.Sprintf("%d\t%d", events, events*size+events*(events-1)/2)},
		"required": {"SELECT aggregate_id AS id, length(payload) AS size FROM events\nrequire: [\"aggregate_id NOT IN ('3', '39')\"]", fmt.Sprintf("%d\t%d", events-2, events*size+events*(events-1)/2-2*size-42)},
		"throwing": {"SELECT aggregate_id AS id, length(payload) + throwIf(aggregate_id = '39') AS size FROM events", fmt.Sprintf("%d\t%d", events-1, events*size+events*(events-1)/2-size-39)},
	} {
		selection, more, _ := strings.Cut(c.selection, "\n")
		k.defs.put(name, fmt.Sprintf(`
name: %s
source: {streams: ["shop:large"]}
table: {engine: MergeTree, order_by: [id], columns: {id: String, size: UInt64}}
select: %q
failures: {dead_letters: 2}
approval: automatic
%s
`, name, selection, more))
		job := k.create(rebuild.Spec{Projection: name, Way: rebuild.WayGo, Approval: "required"})
		_, err := k.svc.Approve(t.Context(), job.ID, "ann")
		k.must(err)
		k.run(job.ID)
		if got := k.query("SELECT count(), sum(size) FROM %s", name); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
