package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
)

// The document of a job says nothing of other tenants to who is restricted to some: not
// in the answer, not in lists, and not in event streams.
func TestJobsAreNarrowedToTenants(t *testing.T) {
	w := newWorld(t, withClickHouse)
	all := w.as(token.Operator)
	tenant := w.token(token.New{Role: token.Operator, Tenants: []string{"acme"}})
	w.rebuild(all)

	var replayed, rebuilt api.Job
	w.want(http.StatusCreated, "POST", "/v1/replays", tenant, replayBody).decode(t, &replayed)
	if j := w.run(replayed.ID); j.State != jobs.Succeeded || j.Progress.BytesRead == 0 {
		t.Fatalf("replay: %+v", j)
	}
	w.want(http.StatusCreated, "POST", "/v1/rebuilds", all, `{"spec":{"projection":"orders","scope":{"tenants":["acme"]}}}`).decode(t, &rebuilt)
	j := w.run(rebuilt.ID)
	if j.State != jobs.Paused {
		t.Fatalf("rebuild: %+v", j)
	}
	said := ""
	for _, e := range j.Log {
		said += e.Message + "\n"
	}
	if !strings.Contains(said, "carried") || !strings.Contains(said, "difference") {
		t.Fatalf("the log says less than it did: %s", said)
	}

	for _, id := range []string{replayed.ID, rebuilt.ID} {
		var full, narrow api.Job
		w.want(http.StatusOK, "GET", "/v1/jobs/"+id, all, "").decode(t, &full)
		w.want(http.StatusOK, "GET", "/v1/jobs/"+id, tenant, "").decode(t, &narrow)
		narrowed(t, &narrow)
		if len(full.Log) <= len(narrow.Log) || narrow.Progress.Selected != full.Progress.Selected {
			t.Errorf("full %+v, narrow %+v", full, narrow)
		}
		ctx, cancel := context.WithCancel(t.Context())
		messages, err := w.watch(ctx, "/v1/jobs/"+id+"/events", tenant, "")
		w.must(err)
		decodeJSON(t, w.next(messages).data, &narrow)
		narrowed(t, &narrow)
		cancel()
	}
	var list api.JobList
	w.want(http.StatusOK, "GET", "/v1/jobs", tenant, "").decode(t, &list)
	if len(list.Jobs) != 2 {
		t.Fatalf("jobs: %+v", list)
	}
	for i := range list.Jobs {
		narrowed(t, &list.Jobs[i])
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	messages, err := w.watch(ctx, "/v1/jobs/events", tenant, "")
	w.must(err)
	var one api.Job
	decodeJSON(t, w.next(messages).data, &one)
	narrowed(t, &one)
	var cancelled api.Job
	w.want(http.StatusOK, "POST", "/v1/jobs/"+rebuilt.ID+"/cancel", tenant, "").decode(t, &cancelled)
	narrowed(t, &cancelled)
}

func narrowed(t *testing.T, j *api.Job) {
	t.Helper()
	for _, e := range j.Log {
		if e.By == "" {
			t.Errorf("the log tells of others: %+v", e)
		}
	}
	p := &j.Progress
	if len(j.Log) == 0 || p.BytesRead+p.BytesTotal != 0 || p.Position != "" || p.Done != p.Selected || p.Total > p.Selected || p.Rate != 0 {
		t.Errorf("the job tells of others: %+v", j)
	}
}
