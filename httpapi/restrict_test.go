package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
)

// strictYAML makes a table of events that all must have a total.
const strictYAML = `
name: strict
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: MergeTree
  order_by: [id]
  columns: {id: String, tenant: String, total: Float64}
require:
  - {sql: "JSONHas(payload, 'total')", reason: it has no total}
failures: {dead_letters: 1000}
select: SELECT event_id AS id, tenant, JSONExtractFloat(payload, 'total') AS total FROM events
scope: {tenant: tenant}
`

// A token that is restricted to a tenant sees nothing of a rebuild of everything; of one
// of its tenant's rows it sees its own dead letters, and no other.
func TestRestrictedRebuilds(t *testing.T) {
	w := newWorld(t, withClickHouse, func(w *world) {
		w.defs = func() (*projection.Set, error) {
			return projection.Parse("test.yaml", strings.NewReader(definitionsYAML+"---"+strictYAML), nil)
		}
	})
	all, tenant := w.as(token.Admin), w.token(token.New{Role: token.Operator, Tenants: []string{"acme"}})
	var whole, own api.Job
	w.want(http.StatusCreated, "POST", "/v1/rebuilds", all, `{"spec":{"projection":"strict","approval":"automatic"}}`).decode(t, &whole)
	if j := w.run(whole.ID); j.State != jobs.Succeeded {
		t.Fatalf("the first build: %+v", j)
	}
	w.want(http.StatusCreated, "POST", "/v1/rebuilds", tenant, `{"spec":{"projection":"strict","approval":"required"}}`).decode(t, &own)
	if j := w.run(own.ID); j.State != jobs.Paused {
		t.Fatalf("the rebuild of a tenant: %+v", j)
	}
	letters := func(bearer, id string) (n int, body string) {
		t.Helper()
		var list api.DeadLetterList
		cursor := ""
		for {
			a := w.want(http.StatusOK, "GET", "/v1/jobs/"+id+"/dead-letters?limit=7"+cursor, bearer, "")
			a.decode(t, &list)
			n += len(list.DeadLetters)
			body += string(a.body)
			if list.Next == "" {
				return n, body
			}
			cursor = "&cursor=" + list.Next
		}
	}
	// Payments have no total: those of both tenants are put aside.
	if n, _ := letters(all, whole.ID); n != 2*ordersPerTenant {
		t.Errorf("%d letters of the whole rebuild", n)
	}
	if n, body := letters(tenant, own.ID); n != ordersPerTenant || !strings.Contains(body, `"event_id":"e-shop:payments-1760000000001"`) || strings.Contains(body, "e-shop:payments-1760000000011") {
		t.Errorf("%d letters of the tenant's rebuild: %s", n, body)
	}

	// What is asked for of either rebuild, or of the projection, tells nothing of others.
	for _, path := range []string{"", "/events", "/verification", "/dead-letters", "/plan"} {
		if a := w.call("GET", "/v1/jobs/"+whole.ID+path, tenant, ""); a.StatusCode != http.StatusNotFound && a.problem(t) != "restricted" {
			t.Errorf("%s of the whole rebuild: %d: %s", path, a.StatusCode, a.body)
		}
	}
	for _, r := range [][3]string{
		{"GET", "/v1/jobs/" + own.ID + "/verification"}, {"GET", "/v1/projections/strict/difference"}, {"GET", "/v1/audit"}, {"GET", "/v1/tokens"}, {"GET", "/metrics"},
		{"GET", "/v1/streams/shop:orders/coverage"}, {"GET", "/v1/streams/shop:orders/segments"}, {"POST", "/v1/rebuilds/estimate", `{"projection":"strict"}`},
	} {
		a := w.call(r[0], r[1], tenant, r[2])
		if kind := a.problem(t); a.StatusCode != http.StatusForbidden || kind != "restricted" && kind != "forbidden" {
			t.Errorf("%s: %d: %s", r[1], a.StatusCode, a.body)
		}
	}
	for _, body := range []string{`{"projection":"strict","scope":{"tenants":["globex"]}}`, `{"projection":"strict","scope":{"tenants":["acme","globex"]}}`} {
		w.want(http.StatusForbidden, "POST", "/v1/rebuilds", tenant, `{"spec":`+body+`}`)
	}
	a := w.want(http.StatusOK, "POST", "/v1/projections/strict/query", tenant, `{"limit":1000}`)
	var rows api.RowPage
	a.decode(t, &rows)
	if len(rows.Rows) != ordersPerTenant || strings.Contains(string(a.body), "globex") {
		t.Errorf("%d rows of the tenant: %s", len(rows.Rows), a.body)
	}

	// All jobs, as a list and as events, are the tenant's own.
	var list api.JobList
	w.want(http.StatusOK, "GET", "/v1/jobs", tenant, "").decode(t, &list)
	if len(list.Jobs) != 1 || list.Jobs[0].ID != own.ID {
		t.Errorf("jobs: %+v", list)
	}
	w.want(http.StatusCreated, "POST", "/v1/rebuilds", all, `{"paused":true,"spec":{"projection":"logs"}}`)
	messages, err := w.watch(t.Context(), "/v1/jobs/events", tenant, "1760000000000")
	w.must(err)
	w.want(http.StatusOK, "POST", "/v1/jobs/"+own.ID+"/cancel", tenant, "")
	for {
		m := w.next(messages)
		if !strings.Contains(m.data, own.ID) {
			t.Errorf("an event of another job: %s", m.data)
		}
		if strings.Contains(m.data, `"cancelling"`) || strings.Contains(m.data, `"cancelled"`) {
			break
		}
	}
}
