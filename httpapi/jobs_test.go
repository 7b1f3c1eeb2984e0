package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
)

const replayBody = `{"name":"copy","reason":"test","spec":{"streams":["shop:orders"],"filter":{"tenants":["acme"]},"sink":{"type":"redis","options":{"stream":"copy"}}}}`

func TestReplayFromCreationToEnd(t *testing.T) {
	w := newWorld(t)
	operator := w.as(token.Operator)

	var est struct{ Total struct{ Events int } }
	w.want(http.StatusOK, "POST", "/v1/replays/estimate", operator, `{"streams":["shop:orders"],"filter":{"tenants":["acme"]}}`).decode(t, &est)
	if est.Total.Events != ordersPerTenant {
		t.Fatalf("estimate: %+v", est)
	}

	var job, again api.Job
	created := w.want(http.StatusCreated, "POST", "/v1/replays", operator, replayBody, "Idempotency-Key", "k1")
	created.decode(t, &job)
	if created.Header.Get("Location") != "/v1/jobs/"+job.ID || created.Header.Get("ETag") == "" {
		t.Fatalf("headers: %v", created.Header)
	}
	w.want(http.StatusCreated, "POST", "/v1/replays", operator, replayBody, "Idempotency-Key", "k1").decode(t, &again)
	if again.ID != job.ID {
		t.Fatalf("a repeat made job %s beside %s", again.ID, job.ID)
	}
	other := `{"spec":{"streams":["shop:payments"],"sink":{"type":"redis","options":{"stream":"copy"}}}}`
	if got := w.want(http.StatusUnprocessableEntity, "POST", "/v1/replays", operator, other, "Idempotency-Key", "k1").problem(t); got != "idempotency-key-reused" {
		t.Fatalf("problem %s", got)
	}
	w.want(http.StatusCreated, "POST", "/v1/replays", w.as(token.Admin), replayBody, "Idempotency-Key", "k1").decode(t, &again)
	if again.ID == job.ID {
		t.Fatal("keys of different callers are the same")
	}
	w.want(http.StatusOK, "POST", "/v1/jobs/"+again.ID+"/cancel", operator, "")

	at := "/v1/jobs/" + job.ID
	etag := w.want(http.StatusOK, "GET", at, operator, "").Header.Get("ETag")
	for _, header := range []string{etag, "W/" + etag, `"x", W/"y" ,` + etag, "*"} {
		if got := w.want(http.StatusNotModified, "GET", at, operator, "", "If-None-Match", header).Header.Get("ETag"); got != etag {
			t.Errorf("304 has the ETag %s, want %s", got, etag)
		}
	}
	w.want(http.StatusOK, "GET", at, operator, "", "If-None-Match", `"x", `+strings.Trim(etag, `"`))
	for _, header := range []string{"W/" + etag, `"x"`, `"x","y"`} {
		w.want(http.StatusPreconditionFailed, "POST", at+"/pause", operator, "", "If-Match", header)
	}
	w.want(http.StatusOK, "POST", at+"/pause", operator, `{"reason":"lunch"}`, "If-Match", `"x", `+etag).decode(t, &job)
	if job.State != "paused" || job.StateReason != "lunch" {
		t.Fatalf("paused: %+v", job)
	}
	if got := w.want(http.StatusPreconditionFailed, "POST", at+"/resume", operator, "", "If-Match", etag).problem(t); got != "changed" {
		t.Fatalf("problem %s", got)
	}
	w.want(http.StatusOK, "POST", at+"/resume", operator, "", "If-Match", "*")
	if got := w.want(http.StatusConflict, "POST", at+"/retry", operator, "").problem(t); got != "wrong-state" {
		t.Fatalf("problem %s", got)
	}
	if j := w.run(job.ID); j.State != jobs.Succeeded {
		t.Fatalf("ran: %+v", j)
	}
	w.want(http.StatusOK, "GET", at, operator, "").decode(t, &job)
	if job.State != "succeeded" || job.Progress.Selected != ordersPerTenant {
		t.Fatalf("ended: %+v", job)
	}
	if n := w.raw.XLen(t.Context(), "copy").Val(); n != ordersPerTenant {
		t.Fatalf("%d entries were replayed", n)
	}

	var list, page api.JobList
	w.want(http.StatusOK, "GET", "/v1/jobs?kind=replay", operator, "").decode(t, &list)
	w.want(http.StatusOK, "GET", "/v1/jobs?limit=1", operator, "").decode(t, &page)
	if len(list.Jobs) != 2 || len(page.Jobs) != 1 || page.Next == "" {
		t.Fatalf("lists: %+v, %+v", list, page)
	}
	w.want(http.StatusOK, "GET", "/v1/jobs?state=succeeded&state=failed&limit=1", operator, "").decode(t, &list)
	if len(list.Jobs) != 1 || list.Jobs[0].ID != job.ID {
		t.Fatalf("succeeded: %+v", list)
	}
	w.want(http.StatusNotFound, "GET", "/v1/jobs/01KAJ4M5N6P7Q8R9S0T1V2W3X4", operator, "")
}

func TestSpecsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	operator := w.as(token.Operator)
	for body, want := range map[string]struct {
		status         int
		problem, field string
	}{
		`{`:  {400, "invalid-request", "body"},
		`{}`: {400, "invalid-request", "spec"},
		`{"spec":{"streams":["x"],"wat":1,"sink":{"type":"redis"}}}`:                                              {400, "invalid-request", "spec.wat"},
		`{"spec":{"streams":[],"sink":{"type":"redis"}}}`:                                                         {400, "invalid-request", "spec.streams"},
		`{"spec":{"streams":["shop:orders"],"dead_letters_of":"x","sink":{"type":"redis"}}}`:                      {400, "invalid-request", "spec.dead_letters_of"},
		`{"spec":{"streams":["shop:orders"],"from":"tomorrow","sink":{"type":"redis","options":{"stream":"x"}}}}`: {422, "invalid-spec", "spec.from"},
		`{"spec":{"streams":["shop:orders"],"sink":{"type":"pigeon"}}}`:                                           {422, "invalid-spec", "spec.sink.type"},
		`{"spec":{"streams":["nothing"],"sink":{"type":"redis","options":{"stream":"x"}}}}`:                       {422, "invalid-spec", ""},
	} {
		var p api.Problem
		w.want(want.status, "POST", "/v1/replays", operator, body).decode(t, &p)
		if p.Type != "urn:reservoir:problem:"+want.problem || want.field != "" && (len(p.Errors) == 0 || p.Errors[0].Field != want.field) {
			t.Errorf("%s: %+v", body, p)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	w := newWorld(t)
	operator := w.as(token.Operator)
	var healthy atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			rw.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(target.Close)
	body := fmt.Sprintf(`{"spec":{"streams":["shop:orders"],"limit":5,"failures":{"max_dead_letters":10},"sink":{"type":"http","options":{"url":%q}}}}`, target.URL)
	var job, retry api.Job
	w.want(http.StatusCreated, "POST", "/v1/replays", operator, body).decode(t, &job)
	w.run(job.ID)
	at := "/v1/jobs/" + job.ID + "/dead-letters"
	var letters, page api.DeadLetterList
	w.want(http.StatusOK, "GET", at, operator, "").decode(t, &letters)
	if len(letters.DeadLetters) != 5 || letters.DeadLetters[0].Event.Type != "OrderPlaced" {
		t.Fatalf("letters: %+v", letters)
	}
	w.want(http.StatusOK, "GET", at+"?limit=4", operator, "").decode(t, &page)
	w.want(http.StatusOK, "GET", at+"?limit=4&cursor="+page.Next, operator, "").decode(t, &page)
	if len(page.DeadLetters) != 1 || page.DeadLetters[0].Key != letters.DeadLetters[4].Key {
		t.Fatalf("page: %+v", page)
	}
	var purged api.Purged
	w.want(http.StatusOK, "POST", at+"/purge", operator, jsonOf(t, api.Letters{Keys: []string{letters.DeadLetters[0].Key}})).decode(t, &purged)
	if purged.Removed != 1 {
		t.Fatalf("purged: %+v", purged)
	}
	healthy.Store(true)
	w.want(http.StatusCreated, "POST", at+"/retry", operator, "", "Idempotency-Key", "r").decode(t, &retry)
	if j := w.run(retry.ID); j.State != jobs.Succeeded {
		t.Fatalf("retry: %+v", j)
	}
	w.want(http.StatusOK, "GET", at, operator, "").decode(t, &letters)
	if len(letters.DeadLetters) != 0 {
		t.Fatalf("letters: %+v", letters)
	}
}
