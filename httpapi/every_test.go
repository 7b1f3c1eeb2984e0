package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
)

// traces are what a tour has left in a world.
type traces struct {
	jobs   []string // among them a rebuild that waits for approval, and a replay with dead letters
	tokens []string
	letter string // key of a dead letter
}

// tour does everything once that the document knows, with success, as an admin.
func (w *world) tour() (left traces) {
	w.t.Helper()
	admin := w.as(token.Admin)
	get := func(paths ...string) {
		w.t.Helper()
		for _, path := range paths {
			w.want(http.StatusOK, "GET", path, admin, "")
		}
	}
	get("/healthz", "/readyz", "/metrics", "/v1/version", "/v1/openapi.yaml", "/v1/docs", "/v1/whoami", "/v1/streams", "/v1/streams/shop:orders",
		"/v1/streams/shop:orders/coverage", "/v1/streams/shop:orders/segments", "/v1/streams/shop:orders/events?live=true",
		"/v1/streams/shop:orders/events/1760000001010-0", "/v1/events", "/v1/aggregates/order%2Facme-1/events")
	w.replaysOf(admin, &left)
	w.rebuildsOf(admin, &left)
	get("/v1/jobs", "/v1/projections", "/v1/projections/orders", "/v1/audit", "/v1/tokens")

	var made api.CreatedToken
	w.want(http.StatusCreated, "POST", "/v1/tokens", admin, `{"name":"tour","role":"viewer"}`).decode(w.t, &made)
	w.want(http.StatusNoContent, "DELETE", "/v1/tokens/"+made.Token.ID, admin, "")
	left.tokens = append(left.tokens, made.Token.ID)
	w.want(http.StatusNoContent, "POST", "/v1/session", "", jsonOf(w.t, api.NewSession{Token: admin}))
	w.want(http.StatusNoContent, "DELETE", "/v1/session", admin, "")

	for path, schema := range map[string]string{
		"/v1/jobs/" + left.jobs[0] + "/events": "Job", "/v1/jobs/events": "Job", "/v1/streams/shop:orders/tail?from=2025-01-01": "Event",
	} {
		ctx, cancel := context.WithCancel(w.t.Context())
		messages, err := w.watch(ctx, path, admin, "")
		w.must(err)
		w.documentedMessage(schema, w.next(messages).data)
		cancel()
		for range messages { // it ends
		}
	}
	return left
}

// replaysOf does all that may be done with replays.
func (w *world) replaysOf(admin string, left *traces) {
	w.t.Helper()
	w.want(http.StatusOK, "POST", "/v1/replays/estimate", admin, `{"streams":["shop:*"]}`)
	refuses := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadRequest) }))
	w.t.Cleanup(refuses.Close)
	create := func(spec string) string {
		var job api.Job
		w.want(http.StatusCreated, "POST", "/v1/replays", admin, `{"spec":`+spec+`}`).decode(w.t, &job)
		left.jobs = append(left.jobs, job.ID)
		return job.ID
	}
	dead := create(fmt.Sprintf(`{"streams":["shop:orders"],"limit":5,"failures":{"max_dead_letters":10},"sink":{"type":"http","options":{"url":%q}}}`, refuses.URL))
	w.run(dead)
	at := "/v1/jobs/" + dead
	var letters api.DeadLetterList
	w.want(http.StatusOK, "GET", at+"/dead-letters", admin, "").decode(w.t, &letters)
	left.letter = letters.DeadLetters[1].Key
	w.want(http.StatusOK, "GET", at+"/dead-letters/"+left.letter, admin, "")
	w.want(http.StatusOK, "GET", at+"/plan", admin, "")
	w.want(http.StatusOK, "POST", at+"/dead-letters/purge", admin, jsonOf(w.t, api.Letters{Keys: []string{letters.DeadLetters[0].Key}}))
	var job api.Job
	w.want(http.StatusCreated, "POST", at+"/dead-letters/retry", admin, "").decode(w.t, &job)
	left.jobs = append(left.jobs, job.ID)

	held := "/v1/jobs/" + create(`{"streams":["shop:orders"],"sink":{"type":"redis","options":{"stream":"copy"}}}`)
	for _, do := range []string{"pause", "resume", "cancel"} {
		w.want(http.StatusOK, "POST", held+"/"+do, admin, "")
	}
	w.want(http.StatusOK, "GET", held, admin, "")
	failing := create(fmt.Sprintf(`{"streams":["shop:orders"],"limit":1,"failures":{"max_dead_letters":0},"sink":{"type":"http","options":{"url":%q}}}`, refuses.URL))
	if j := w.run(failing); j.State != jobs.Failed {
		w.t.Fatalf("it did not fail: %+v", j)
	}
	w.want(http.StatusOK, "POST", "/v1/jobs/"+failing+"/retry", admin, "")
}

// rebuildsOf does all that may be done with rebuilds and projections.
func (w *world) rebuildsOf(admin string, left *traces) {
	w.t.Helper()
	w.want(http.StatusOK, "POST", "/v1/rebuilds/estimate", admin, `{"projection":"orders"}`)
	left.jobs = append(left.jobs, w.rebuild(admin).ID) // approved by its ID
	order := func(body string) string {
		var job api.Job
		w.want(http.StatusCreated, "POST", "/v1/rebuilds", admin, body).decode(w.t, &job)
		if j := w.run(job.ID); j.State != jobs.Paused {
			w.t.Fatalf("it does not wait: %+v", j)
		}
		left.jobs = append(left.jobs, job.ID)
		return job.ID
	}
	second := order(`{"spec":{"projection":"orders"}}`)
	w.want(http.StatusOK, "GET", "/v1/jobs/"+second+"/verification", admin, "")
	w.want(http.StatusOK, "GET", "/v1/projections/orders/difference", admin, "")
	w.want(http.StatusOK, "POST", "/v1/projections/orders/approve", admin, "")
	w.run(second)
	w.want(http.StatusOK, "POST", "/v1/projections/orders/query", admin, `{"limit":3}`)
	w.want(http.StatusOK, "POST", "/v1/projections/orders/rollback", admin, "")
	w.want(http.StatusNoContent, "DELETE", "/v1/projections/orders/generations/2", admin, "")
	order(`{"spec":{"projection":"orders","approval":"required"}}`)
}

// Every operation of the document is there, and does what it is for.
func TestEveryOperation(t *testing.T) {
	w := newWorld(t, withClickHouse)
	w.tour()
	for _, route := range w.ops {
		if id := route.Operation.OperationID; !w.answered.some(id, 2) {
			t.Errorf("%s was never answered with success", id)
		}
	}
}

func decodeJSON(t testing.TB, text string, into any) {
	t.Helper()
	if err := json.NewDecoder(strings.NewReader(text)).Decode(into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
