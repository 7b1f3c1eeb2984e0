package httpapi_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
)

// rebuild builds a projection, and approves it where it waits.
func (w *world) rebuild(bearer string) api.Job {
	w.t.Helper()
	var job api.Job
	w.want(http.StatusCreated, "POST", "/v1/rebuilds", bearer, `{"reason":"test","spec":{"projection":"orders"}}`).decode(w.t, &job)
	if j := w.run(job.ID); j.State == jobs.Paused {
		w.want(http.StatusOK, "POST", "/v1/jobs/"+job.ID+"/approve", bearer, "")
		if j = w.run(job.ID); j.State != jobs.Succeeded {
			w.t.Fatalf("rebuild: %+v", j)
		}
	}
	return job
}

func TestRebuildFromCreationToRollback(t *testing.T) {
	w := newWorld(t, withClickHouse)
	operator, admin := w.as(token.Operator), w.as(token.Admin)
	tenant := w.token(token.New{Role: token.Operator, Tenants: []string{"acme"}})
	other := w.token(token.New{Role: token.Viewer, Streams: []string{"other:*"}})

	var est api.RebuildEstimate
	w.want(http.StatusOK, "POST", "/v1/rebuilds/estimate", operator, `{"projection":"orders"}`).decode(t, &est)
	if est.Events != 2*ordersPerTenant || len(est.Streams) != 1 || est.Approval != "required" {
		t.Fatalf("estimate: %+v", est)
	}
	var list api.ProjectionList
	w.want(http.StatusOK, "GET", "/v1/projections", operator, "").decode(t, &list)
	if len(list.Projections) != 2 || list.Projections[1].State != "not_built" {
		t.Fatalf("projections: %+v", list)
	}
	w.want(http.StatusConflict, "POST", "/v1/projections/orders/query", operator, `{}`)
	w.want(http.StatusNotFound, "GET", "/v1/projections/orders/difference", operator, "")
	w.want(http.StatusNotFound, "DELETE", "/v1/projections/orders/generations/1", admin, "")
	w.rebuild(operator)

	// A second one, approved by the projection's name after a look at the difference.
	w.add("shop:orders", firstMs+5_000_000, "OrderPlaced", "acme", "acme-99", `{"total":99}`)
	w.archive()
	var job api.Job
	w.want(http.StatusCreated, "POST", "/v1/rebuilds", operator, `{"spec":{"projection":"orders"}}`, "Idempotency-Key", "again").decode(t, &job)
	w.repeats(operator, job.ID)
	w.waits(operator, tenant)
	if j := w.run(job.ID); j.State != jobs.Paused {
		t.Fatalf("rebuild: %+v", j)
	}
	var found api.Verification
	looked := w.want(http.StatusOK, "GET", "/v1/projections/orders/difference", operator, "")
	looked.decode(t, &found)
	if found.Job != job.ID || found.Difference.Added != 1 || found.Difference.Same != 2*ordersPerTenant || len(found.Difference.Samples) != 1 {
		t.Fatalf("difference: %+v", found)
	}
	for _, path := range []string{"/v1/projections/orders/difference", "/v1/jobs/" + job.ID + "/verification"} {
		w.want(http.StatusForbidden, "GET", path, tenant, "")
		w.want(http.StatusNotFound, "GET", path, other, "")
	}
	w.approve(job.ID, operator, looked.Header.Get("ETag"))
	if j := w.run(job.ID); j.State != jobs.Succeeded {
		t.Fatalf("rebuild: %+v", j)
	}
	var p api.Projection
	w.want(http.StatusOK, "GET", "/v1/projections/orders", operator, "").decode(t, &p)
	if p.State != "live" || p.Rebuild != job.ID || p.Rows == nil || *p.Rows != 2*ordersPerTenant+1 || len(p.Previous) != 1 || len(p.Positions) != 1 || len(p.History) == 0 {
		t.Fatalf("projection: %+v", p)
	}
	w.rows(operator, tenant)

	var summary api.ProjectionSummary
	w.want(http.StatusOK, "POST", "/v1/projections/orders/rollback", operator, "").decode(t, &summary)
	if summary.Generation != p.Previous[0].Generation {
		t.Fatalf("rolled back: %+v", summary)
	}
	// Asked again it does not go back and forth.
	w.want(http.StatusUnprocessableEntity, "POST", "/v1/projections/orders/rollback", operator, "")
	w.want(http.StatusOK, "POST", "/v1/projections/orders/rollback?to="+jsonOf(t, summary.Generation), operator, "").decode(t, &summary)
	if summary.Generation != p.Previous[0].Generation {
		t.Fatalf("rolled back: %+v", summary)
	}
	w.want(http.StatusConflict, "DELETE", "/v1/projections/orders/generations/"+jsonOf(t, summary.Generation), admin, "")
	w.want(http.StatusNoContent, "DELETE", "/v1/projections/orders/generations/"+jsonOf(t, p.Generation), admin, "")
	w.want(http.StatusOK, "GET", "/v1/projections/orders", operator, "").decode(t, &p)
	if len(p.Previous) != 0 || *p.Rows != 2*ordersPerTenant {
		t.Fatalf("projection: %+v", p)
	}
	w.want(http.StatusNotFound, "GET", "/v1/projections/orders", other, "")
	w.want(http.StatusOK, "GET", "/v1/projections/logs", other, "")
	w.want(http.StatusForbidden, "POST", "/v1/rebuilds", tenant, `{"spec":{"projection":"orders","scope":{"tenants":["globex"]}}}`)
	w.want(http.StatusCreated, "POST", "/v1/rebuilds", tenant, `{"spec":{"projection":"orders"}}`).decode(t, &job)
	if !strings.Contains(string(job.Spec), `"tenants":["acme"]`) {
		t.Errorf("spec: %s", job.Spec)
	}
}

// repeats sends the request of a rebuild of orders again, after its definition is gone.
func (w *world) repeats(bearer, id string) {
	w.t.Helper()
	w.gone.Store(true)
	defer w.gone.Store(false)
	w.want(http.StatusNotFound, "POST", "/v1/rebuilds", bearer, `{"spec":{"projection":"orders"}}`, "Idempotency-Key", "another")
	var job api.Job
	w.want(http.StatusCreated, "POST", "/v1/rebuilds", bearer, `{"spec":{"projection":"orders"}}`, "Idempotency-Key", "again").decode(w.t, &job)
	if job.ID != id {
		w.t.Errorf("a repeat made job %s beside %s", job.ID, id)
	}
	w.want(http.StatusUnprocessableEntity, "POST", "/v1/rebuilds", bearer, `{"spec":{"projection":"logs"}}`, "Idempotency-Key", "again")
}

// waits has the worker that feeds orders wait, and looks whether that is said.
func (w *world) waits(bearer, tenant string) {
	w.t.Helper()
	hold, err := w.opts.Rebuilds.Documents().Acquire(w.t.Context(), "orders", projection.Claim{Worker: "test", Kind: projection.Projector, TTL: time.Minute})
	w.must(err)
	w.must(hold.Wait(w.t.Context(), "no space for globex"))
	var p api.Projection
	w.want(http.StatusOK, "GET", "/v1/projections/orders", bearer, "").decode(w.t, &p)
	if p.Waiting.Reason != "no space for globex" || p.Waiting.Since.IsZero() {
		w.t.Errorf("it waits: %+v", p.Waiting)
	}
	a := w.want(http.StatusOK, "GET", "/v1/projections/orders", tenant, "")
	a.decode(w.t, &p)
	if p.Waiting.Reason == "" || strings.Contains(string(a.body), "globex") {
		w.t.Errorf("it waits, for a tenant: %+v", p.Waiting)
	}
	w.must(hold.Wait(w.t.Context(), ""))
	w.must(hold.Release(w.t.Context()))
	w.want(http.StatusOK, "GET", "/v1/projections/orders", bearer, "").decode(w.t, &p)
	if !p.Waiting.Since.IsZero() {
		w.t.Errorf("it does not wait: %+v", p.Waiting)
	}
}

// approve approves a rebuild of orders that waits and was looked at, after it has changed since.
func (w *world) approve(id, bearer, looked string) {
	w.t.Helper()
	w.want(http.StatusOK, "POST", "/v1/jobs/"+id+"/resume", bearer, "")
	before := w.want(http.StatusOK, "GET", "/v1/jobs/"+id+"/verification", bearer, "").Header.Get("ETag")
	w.want(http.StatusConflict, "POST", "/v1/jobs/"+id+"/approve", bearer, "", "If-Match", before) // it will be verified again
	if j := w.run(id); j.State != jobs.Paused {
		w.t.Fatalf("it does not wait again: %+v", j)
	}
	for _, path := range []string{"/v1/projections/orders/approve", "/v1/jobs/" + id + "/approve"} {
		if got := w.want(http.StatusPreconditionFailed, "POST", path, bearer, "", "If-Match", looked).problem(w.t); got != "changed" {
			w.t.Errorf("%s: problem %s", path, got)
		}
	}
	if j := w.run(id); j.State != jobs.Paused {
		w.t.Fatalf("it was approved by who saw another one: %+v", j)
	}
	looked = w.want(http.StatusOK, "GET", "/v1/jobs/"+id+"/verification", bearer, "").Header.Get("ETag")
	w.want(http.StatusOK, "POST", "/v1/projections/orders/approve", bearer, "", "If-Match", looked)
}

// rows reads the table of orders in every way.
func (w *world) rows(bearer, tenant string) {
	t := w.t
	t.Helper()
	read := func(bearer, body string) (ids []string) {
		for cursor := ""; ; {
			var page api.RowPage
			query := body
			if cursor != "" {
				query = strings.TrimSuffix(body, "}") + `,"cursor":` + jsonOf(t, cursor) + "}"
			}
			w.want(http.StatusOK, "POST", "/v1/projections/orders/query", bearer, query).decode(t, &page)
			for _, row := range page.Rows {
				ids = append(ids, strings.Trim(string(row[0]), `"`))
			}
			if cursor = page.Next; cursor == "" {
				return ids
			}
		}
	}
	if all := read(bearer, `{"limit":7}`); len(all) != 2*ordersPerTenant+1 {
		t.Errorf("%d rows: %v", len(all), all)
	}
	if own := read(tenant, `{"limit":1000,"filters":[{"column":"tenant","op":"ne","value":"x"}]}`); len(own) != ordersPerTenant+1 || strings.Contains(strings.Join(own, ""), "globex") {
		t.Errorf("rows of the tenant: %v", own)
	}
	for body, want := range map[string]string{
		`{"columns":["order_id"],"filters":[{"column":"total","op":"gt","value":18.4},{"column":"tenant","op":"eq","value":"globex"}],"order":[{"column":"order_id","descending":true}],"limit":1}`: "globex-19 globex-18",
		`{"columns":["order_id"],"filters":[{"column":"order_id","op":"in","values":["acme-1","globex-2"]}],"limit":1}`:                                                                             "acme-1 globex-2",
		`{"columns":["order_id"],"filters":[{"column":"order_id","op":"starts_with","value":"acme-9"}],"limit":10}`:                                                                                 "acme-9 acme-99",
		`{"columns":["order_id"],"filters":[{"column":"at","op":"ge","value":"2025-10-09 10:00:00"}],"limit":10}`:                                                                                   "acme-99",
		`{"columns":["order_id"],"filters":[{"column":"order_id","op":"eq","value":"x' OR 1=1 --"}],"limit":10}`:                                                                                    "",
		`{"columns":["order_id"],"filters":[{"column":"order_id","op":"contains","value":"\\') OR (1=1"}],"limit":10}`:                                                                              "",
		`{"columns":["order_id"],"order":[{"column":"total","descending":true}],"filters":[{"column":"tenant","op":"eq","value":"acme"},{"column":"total","op":"gt","value":17}],"limit":1}`:        "acme-99 acme-19 acme-18 acme-17",
		`{"columns":["order_id"],"order":[{"column":"at","descending":true}],"filters":[{"column":"total","op":"gt","value":17}],"limit":2}`:                                                        "acme-99 globex-19 acme-19 globex-18 acme-18 globex-17 acme-17",
	} {
		if got := strings.Join(read(bearer, body), " "); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	for body, field := range map[string]string{
		`{"columns":["x"]}`: "columns.0",
		`{"filters":[{"column":"1=1 OR total","op":"eq","value":1}]}`: "filters.0.column",
		`{"filters":[{"column":"total","op":"in","value":1}]}`:        "filters.0.values",
		`{"filters":[{"column":"total","op":"eq"}]}`:                  "filters.0.value",
		`{"order":[{"column":"_chunk"}]}`:                             "order.0.column",
		`{"filters":[{"column":"total","op":"eq","value":"abc"}]}`:    "",
	} {
		var p api.Problem
		w.want(http.StatusUnprocessableEntity, "POST", "/v1/projections/orders/query", bearer, body).decode(t, &p)
		if field != "" && (len(p.Errors) != 1 || p.Errors[0].Field != field) {
			t.Errorf("%s: %+v", body, p)
		}
	}
	w.want(http.StatusBadRequest, "POST", "/v1/projections/orders/query", bearer, `{"sql":"SELECT 1"}`)
	deep := base64.RawURLEncoding.EncodeToString([]byte(`{"s":100100}`)) // what a page near the bound gives
	a := w.want(http.StatusUnprocessableEntity, "POST", "/v1/projections/orders/query", bearer, `{"cursor":"`+deep+`"}`)
	if !strings.Contains(string(a.body), "Narrow the query") {
		t.Errorf("too deep: %s", a.body)
	}
	w.want(http.StatusBadRequest, "POST", "/v1/projections/orders/query", bearer, `{"cursor":"e30x"}`)
}
