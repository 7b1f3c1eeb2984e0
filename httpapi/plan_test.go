package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

// What a replay reads is shown as it was fixed, without counts to whoever is restricted
// to tenants.
func TestPlanOfReplay(t *testing.T) {
	w := newWorld(t)
	operator := w.as(token.Operator)
	var job api.Job
	w.want(http.StatusCreated, "POST", "/v1/replays", operator, replayBody).decode(t, &job)
	at := "/v1/jobs/" + job.ID + "/plan"
	var plan api.ReplayPlan
	w.want(http.StatusOK, "GET", at, operator, "").decode(t, &plan)
	if len(plan.Streams) != 1 || plan.Streams[0].Stream != "shop:orders" || plan.Streams[0].Head.IsZero() || plan.Events == 0 || plan.Bytes == 0 {
		t.Errorf("plan: %+v", plan)
	}
	w.want(http.StatusOK, "GET", at, w.token(token.New{Role: token.Viewer, Tenants: []string{"acme"}}), "").decode(t, &plan)
	if len(plan.Streams) != 1 || plan.Events != 0 || plan.Bytes != 0 || plan.Streams[0].EntriesAdded != 0 {
		t.Errorf("plan for one tenant: %+v", plan)
	}
	w.want(http.StatusNotFound, "GET", at, w.token(token.New{Role: token.Viewer, Tenants: []string{"globex"}}), "")
}

// One dead letter is shown with its event as it was, and those that are replayed again
// have the name and the reason that were given.
func TestOneDeadLetter(t *testing.T) {
	w := newWorld(t)
	operator := w.as(token.Operator)
	target := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadRequest) }))
	t.Cleanup(target.Close)
	var job, retry api.Job
	w.want(http.StatusCreated, "POST", "/v1/replays", operator,
		`{"spec":{"streams":["shop:orders"],"limit":2,"failures":{"max_dead_letters":10},"sink":{"type":"http","options":{"url":"`+target.URL+`"}}}}`).decode(t, &job)
	w.run(job.ID)
	at := "/v1/jobs/" + job.ID + "/dead-letters"
	var list api.DeadLetterList
	w.want(http.StatusOK, "GET", at, operator, "").decode(t, &list)
	if len(list.DeadLetters) != 2 {
		t.Fatalf("letters: %+v", list)
	}
	var behind api.DeadLetterList
	w.want(http.StatusOK, "GET", at+"?after="+list.DeadLetters[0].Key, operator, "").decode(t, &behind)
	if len(behind.DeadLetters) != 1 || behind.DeadLetters[0].Key != list.DeadLetters[1].Key {
		t.Errorf("behind the first: %+v", behind)
	}
	var one api.DeadLetter
	w.want(http.StatusOK, "GET", at+"/"+list.DeadLetters[1].Key, operator, "").decode(t, &one)
	if jsonOf(t, one) != jsonOf(t, list.DeadLetters[1]) || one.Position == "" || len(one.Line) == 0 {
		t.Errorf("letter: %+v", one)
	}
	w.want(http.StatusNotFound, "GET", at+"/nonsense", operator, "")
	w.want(http.StatusNotFound, "POST", at+"/purge", operator, `{"keys":["nonsense"]}`)
	w.want(http.StatusCreated, "POST", at+"/retry", operator, `{"name":"again","reason":"mended"}`).decode(t, &retry)
	if retry.Name != "again" || retry.Reason != "mended" {
		t.Errorf("retry: %+v", retry)
	}
	w.want(http.StatusUnprocessableEntity, "GET", "/v1/jobs/"+job.ID+"/verification", operator, "")
}
