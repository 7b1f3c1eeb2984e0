package rebuild_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

const mappedYAML = `
name: mapped
kind: map
source: {streams: ["shop:*"], types: ["Order*"]}
table:
  engine: MergeTree
  order_by: [order_id, at]
  columns: {order_id: String, at: "DateTime64(6, 'UTC')", what: String, total: Float64, position: String}
`

const countsYAML = `
name: counts
kind: fold
source: {streams: ["shop:*"]}
table:
  engine: ReplacingMergeTree(events)
  order_by: [order_id]
  columns: {order_id: String, tenant: String, events: UInt64, total: Int64}
scope: {tenant: tenant, aggregate: order_id}
`

// counted is the state of the fold of the tests.
type counted struct {
	Order  string
	Tenant string
	Events uint64
	Total  int64
}

func functions() []projection.Function {
	return []projection.Function{
		projection.NewMap("mapped", func(e *projection.Event) ([]projection.Row, error) {
			var p struct{ Total float64 }
			if err := e.Decode(&p); err != nil {
				return nil, err
			}
			return []projection.Row{{
				"order_id": e.AggregateID, "at": e.OccurredAt, "what": e.Type, "total": p.Total,
				"position": fmt.Sprintf("%s/%d/%s", e.Stream, e.Incarnation, e.ID),
			}}, nil
		}),
		projection.NewFold("counts", projection.Folds[*counted]{
			Init: func() *counted { return &counted{} },
			Apply: func(c *counted, e *projection.Event) (*counted, error) {
				var p struct{ Total json.Number }
				if err := e.Decode(&p); err != nil {
					return c, err
				}
				whole, _, _ := strings.Cut(p.Total.String(), ".")
				var n int64
				if _, err := fmt.Sscan(whole, &n); err != nil {
					return c, err
				}
				c.Order, c.Tenant, c.Events, c.Total = e.AggregateID, e.Tenant, c.Events+1, c.Total+n
				return c, nil
			},
			Rows: func(_ string, c *counted) ([]projection.Row, error) {
				return []projection.Row{{"order_id": c.Order, "tenant": c.Tenant, "events": c.Events, "total": c.Total}}, nil
			},
		}),
	}
}

// withStates gives the kitchen a directory for the states of folds.
func (k *kitchen) withStates() {
	k.t.Helper()
	k.opts.StateDir = k.t.TempDir()
	var err error
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
}

// Map and fold give what SQL gives, and go on being fed while they are rebuilt.
func TestMapAndFold(t *testing.T) {
	k := newKitchen(t, false, functions()...)
	k.withStates()
	k.examples()
	k.defs.put("mapped", mappedYAML)
	k.defs.put("counts", countsYAML)
	k.must(k.publish(t.Context(), "shop:orders", 2000))
	k.archiveAll(700)
	for _, name := range []string{"timeline", "mapped", "counts"} {
		k.build(rebuild.Spec{Projection: name})
	}
	k.project("mapped", "counts", "timeline")
	stopWriting := k.writer(5 * time.Millisecond)
	for range 2 {
		k.build(rebuild.Spec{Projection: "counts"})
		k.build(rebuild.Spec{Projection: "mapped"})
	}
	stopWriting()
	want := map[string]string{"mapped": k.reference("timeline")["timeline"]}
	k.caughtUp(want)
	events := fmt.Sprint(k.made)
	eventually(t, 10*time.Second, func() bool { return k.query("SELECT sum(events) FROM counts FINAL") == events }, func() string {
		return "the fold has " + k.query("SELECT sum(events) FROM counts FINAL") + " events, want " + events
	})
}
