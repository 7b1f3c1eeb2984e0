package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
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

// A caller to whom little of a long history belongs gets it by and by, and all of it,
// also when some documents cannot be read in time.
func TestLongHistoryOfOthers(t *testing.T) {
	stuck := map[string]bool{} // IDs of jobs whose documents come late, once
	w := newWorld(t, func(w *world) {
		slow := faulty.New(w.store, func(s faulty.Step) (f faulty.Fault) {
			for id := range stuck {
				if s.Op == faulty.Get && strings.Contains(s.Key, id) {
					delete(stuck, id)
					f.Delay = time.Hour
				}
			}
			return f
		})
		w.opts.Jobs = jobs.NewStore(slow, jobs.StoreOptions{})
		w.opts.Timeout = 4 * time.Second
	})
	own := w.token(token.New{Role: token.Viewer, Streams: []string{"other:*"}})
	const history = 40
	var ids, mine []string
	for i := range history {
		stream := fmt.Sprint("shop:", i)
		if i%13 == 0 {
			stream = "other:a"
		}
		ids = append(ids, w.ends(replay.Spec{Streams: []string{stream}}))
		if i%13 == 0 {
			mine = append([]string{ids[i]}, mine...) // the newest first
		}
	}
	stuck[ids[15]], stuck[ids[28]] = true, true // not the caller's, among the caller's
	var got []string
	pages, cursor := 0, ""
	for more := true; more; pages++ {
		var list api.JobList
		w.want(http.StatusOK, "GET", "/v1/jobs"+cursor, own, "").decode(t, &list)
		for _, job := range list.Jobs {
			got = append(got, job.ID)
		}
		if pages > history {
			t.Fatal("there is no end")
		}
		more, cursor = list.Next != "", "?cursor="+list.Next
	}
	if pages != 3 || !slices.Equal(got, mine) {
		t.Errorf("%d pages with %q, want %q", pages, got, mine)
	}
	// What the filter leaves out counts as looked at, too.
	stuck[ids[15]] = true
	var list api.JobList
	w.want(http.StatusOK, "GET", "/v1/jobs?target=nothing", own, "").decode(t, &list)
	if len(list.Jobs) > 0 {
		t.Errorf("found %+v", list)
	}
}
