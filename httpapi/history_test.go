package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/replay"
)

// nothing is an engine whose jobs have ended before anybody looks.
type nothing struct{}

func (nothing) Run(context.Context, *jobs.Handle) error    { return nil }
func (nothing) Cancel(context.Context, *jobs.Handle) error { return nil }

// ends makes a job and runs it to its end at once.
func (w *world) ends(spec replay.Spec) string {
	w.t.Helper()
	job, err := w.jobs.Create(w.t.Context(), jobs.New{Kind: replay.Kind, Spec: spec})
	w.must(err)
	runner, err := jobs.NewRunner(w.jobs, jobs.RunnerOptions{Engines: map[string]jobs.Engine{replay.Kind: nothing{}}})
	w.must(err)
	ended, err := runner.RunOne(w.t.Context(), job.ID)
	w.must(err)
	if ended.State != jobs.Succeeded {
		w.t.Fatalf("%+v", ended)
	}
	return job.ID
}

// Who watches all jobs sees those too that begin and end between two looks.
func TestShortJobsAreSeen(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Poll = 400 * time.Millisecond })
	viewer := w.as(token.Operator)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	long := w.newReplay(viewer)
	messages, err := w.watch(ctx, "/v1/jobs/events", viewer, "")
	w.must(err)
	for !strings.Contains(w.next(messages).data, long.ID) { // it has begun to look
	}
	missing := map[string]bool{}
	for range 5 {
		missing[w.ends(replay.Spec{Streams: []string{"shop:orders"}})] = true
	}
	for len(missing) > 0 {
		m := w.next(messages)
		for id := range missing {
			if strings.Contains(m.data, id) && strings.Contains(m.data, `"succeeded"`) {
				delete(missing, id)
			}
		}
	}
}

// A caller to whom little of a long history belongs gets it by and by.
func TestLongHistoryOfOthers(t *testing.T) {
	w := newWorld(t, func(w *world) {
		slow := faulty.New(w.store, func(s faulty.Step) (f faulty.Fault) {
			if s.Op == faulty.Get && strings.Contains(s.Key, "jobs/") {
				f.Delay = 300 * time.Millisecond
			}
			return f
		})
		w.opts.Jobs = jobs.NewStore(slow, jobs.StoreOptions{})
		w.opts.Timeout = time.Second
	})
	own := w.token(token.New{Role: token.Viewer, Streams: []string{"other:*"}})
	const history = 40
	id := w.ends(replay.Spec{Streams: []string{"other:*"}})
	for i := range history {
		w.ends(replay.Spec{Streams: []string{fmt.Sprint("shop:", i)}})
	}
	pages, cursor := 0, ""
	for {
		var list api.JobList
		w.want(http.StatusOK, "GET", "/v1/jobs"+cursor, own, "").decode(t, &list)
		pages++
		if len(list.Jobs) == 1 && list.Jobs[0].ID == id && list.Next == "" {
			break
		}
		if len(list.Jobs) > 0 || list.Next == "" || pages > history {
			t.Fatalf("page %d: %+v", pages, list)
		}
		cursor = "?cursor=" + list.Next
	}
	if pages == 1 {
		t.Error("there was time for all")
	}
}
