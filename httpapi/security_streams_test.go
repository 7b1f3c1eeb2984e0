package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// An event stream ends with the token that opened it.
func TestEventStreamsEndWithTheirTokens(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Beat = 100 * time.Millisecond })
	admin := w.as(token.Admin)
	job := w.newReplay(admin)
	for _, path := range []string{"/v1/streams/shop:orders/tail", "/v1/jobs/" + job.ID + "/events", "/v1/jobs/events"} {
		made, text, err := w.srv.Tokens().Create(t.Context(), token.New{Name: "short", Role: token.Viewer})
		w.must(err)
		messages, err := w.watch(t.Context(), path, text, "")
		w.must(err)
		w.want(http.StatusNoContent, "DELETE", "/v1/tokens/"+made.ID, admin, "")
		for m := w.next(messages); m.event != "problem"; m = w.next(messages) { // jobs as they were
		}
		if m, more := <-messages; more {
			t.Errorf("%s: a message after the last one: %+v", path, m)
		}
	}
	w.want(http.StatusOK, "GET", "/v1/whoami", admin, "")
}

// Event streams of the page end with their tokens too.
func TestEventStreamsOfPagesEndWithTheirTokens(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Beat = 100 * time.Millisecond })
	w.srv.Mount(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(rw).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	}))
	admin := w.as(token.Admin)
	made, text, err := w.srv.Tokens().Create(t.Context(), token.New{Name: "short", Role: token.Viewer})
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/live", nil)
	w.must(err)
	r.Header.Set("Authorization", "Bearer "+text)
	r.Header.Set("Accept", "text/event-stream")
	response, err := http.DefaultClient.Do(r)
	w.must(err)
	defer response.Body.Close()
	w.want(http.StatusNoContent, "DELETE", "/v1/tokens/"+made.ID, admin, "")
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Errorf("it does not end: %v", err)
	}
}

// gonePeer is a caller that has gone before the first byte.
type gonePeer struct{ header http.Header }

func (g gonePeer) Header() http.Header            { return g.header }
func (gonePeer) WriteHeader(int)                  {}
func (gonePeer) Write([]byte) (int, error)        { return 0, errors.New("broken pipe") }
func (gonePeer) SetWriteDeadline(time.Time) error { return nil }
func (gonePeer) SetReadDeadline(time.Time) error  { return nil }

// A job is not read any more once those who watched it have gone, however early.
func TestWatchersThatGoAtOnce(t *testing.T) {
	var reads atomic.Int64
	w := newWorld(t, func(w *world) {
		w.opts.Jobs = jobs.NewStore(objectstore.WithObserver(w.store, func(op string, _ time.Duration, _ int64, _ error) {
			if op == "get" {
				reads.Add(1)
			}
		}), jobs.StoreOptions{})
		w.opts.Poll = 10 * time.Millisecond
	})
	viewer := w.as(token.Operator)
	for _, path := range []string{"/v1/jobs/" + w.newReplay(viewer).ID + "/events", "/v1/jobs/events"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+viewer)
		w.srv.Handler().ServeHTTP(gonePeer{http.Header{}}, r)
		before := reads.Load()
		tick := time.NewTicker(500 * time.Millisecond)
		<-tick.C
		tick.Stop()
		if n := reads.Load() - before; n > 2 {
			t.Errorf("%s: read %d times with nobody watching", path, n)
		}
	}
}

// One caller has a number of live tails only, and those that are closed do not count.
func TestLiveTailsAreCounted(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.MaxTails = 2 })
	one, other := w.as(token.Viewer), w.as(token.Operator)
	const path = "/v1/streams/shop:orders/tail"
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		_, err := w.watch(ctx, path, one, "")
		w.must(err)
	}
	a := w.want(http.StatusTooManyRequests, "GET", path, one, "")
	if a.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
	again, done := context.WithCancel(t.Context())
	defer done()
	_, err := w.watch(again, path, other, "")
	w.must(err)
	cancel()
	waitUntil(t, func() bool {
		return w.begin(request{id: "tailStream", method: "GET", path: path}, one).StatusCode == http.StatusOK
	})
}

// A tail that finds nothing still tells that it lives, and where to go on.
func TestQuietTailsMoveOn(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Beat = 100 * time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v1/streams/shop:orders/tail?type=Nothing", nil)
	w.must(err)
	r.Header.Set("Authorization", "Bearer "+w.as(token.Viewer))
	response, err := http.DefaultClient.Do(r)
	w.must(err)
	defer response.Body.Close()
	w.add("shop:orders", firstMs+3_000_000, "OrderPlaced", "acme", "acme-0", `{}`)
	beats, place := 0, false
	for lines := bufio.NewScanner(response.Body); lines.Scan() && (beats == 0 || !place); {
		if lines.Text() == ": beat" {
			beats++
		}
		place = place || strings.HasPrefix(lines.Text(), "id: 1/1760003000000-0")
	}
	if beats == 0 || !place {
		t.Errorf("%d beats, place %v", beats, place)
	}
}
