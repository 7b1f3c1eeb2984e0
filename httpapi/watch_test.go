package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// message is one server-sent event.
type message struct{ id, event, data string }

// watch opens an event stream. The messages end with it.
func (w *world) watch(ctx context.Context, path, bearer, last string) (<-chan message, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Accept-Encoding", "gzip")
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	response, err := http.DefaultClient.Do(r) //nolint:bodyclose // whoever reads it closes it
	if err != nil {
		return nil, err
	}
	if route, _ := w.route(r); route != nil {
		w.answered.add(route.Operation.OperationID, response.StatusCode)
	}
	messages := make(chan message, 100)
	go func() {
		defer close(messages)
		defer response.Body.Close()
		var m message
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				m.id = value
			case "event":
				m.event = value
			case "data":
				m.data = value
			case "":
				if m.event != "" {
					select {
					case messages <- m:
					case <-ctx.Done():
						return
					}
				}
				m = message{}
			}
		}
	}()
	return messages, nil
}

func (w *world) next(messages <-chan message) message {
	w.t.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			w.t.Fatal("the event stream has ended")
		}
		return m
	case <-time.After(20 * time.Second):
		w.t.Fatal("no message came")
		return message{}
	}
}

func (w *world) newReplay(bearer string) (job api.Job) {
	w.t.Helper()
	w.want(http.StatusCreated, "POST", "/v1/replays", bearer, replayBody).decode(w.t, &job)
	return job
}

// Five hundred watchers of a job cost one reader of its document, and all see how it
// ends.
func TestManyWatchersShareOneReader(t *testing.T) {
	var reads atomic.Int64
	w := newWorld(t, func(w *world) {
		w.opts.Jobs = jobs.NewStore(objectstore.WithObserver(w.store, func(op string, _ time.Duration, _ int64, _ error) {
			if op == "get" {
				reads.Add(1)
			}
		}), jobs.StoreOptions{})
		w.opts.Poll = 500 * time.Millisecond
	})
	operator := w.as(token.Operator)
	job := w.newReplay(operator)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const watchers = 500
	began := time.Now()
	reads.Store(0)
	var group sync.WaitGroup
	var ended atomic.Int64
	seen := make(chan struct{}, watchers)
	for range watchers {
		messages, err := w.watch(ctx, "/v1/jobs/"+job.ID+"/events", operator, "")
		w.must(err)
		group.Go(func() {
			first := true
			for m := range messages {
				if first {
					seen <- struct{}{}
					first = false
				}
				var j api.Job
				if json.Unmarshal([]byte(m.data), &j) == nil && j.State == "succeeded" {
					ended.Add(1)
				}
			}
		})
	}
	for range watchers {
		<-seen
	}
	got := reads.Load()
	if most := int64(time.Since(began)/w.opts.Poll) + 2; got > most {
		t.Errorf("%d reads of the document, want at most %d", got, most)
	}
	w.run(job.ID)
	group.Wait()
	if ended.Load() != watchers {
		t.Errorf("%d of %d watchers saw the end", ended.Load(), watchers)
	}
}

// A watcher that comes back misses nothing.
func TestWatchersComeBack(t *testing.T) {
	w := newWorld(t)
	operator := w.as(token.Operator)
	job := w.newReplay(operator)
	ctx, cancel := context.WithCancel(t.Context())
	one, err := w.watch(ctx, "/v1/jobs/"+job.ID+"/events", operator, "")
	w.must(err)
	all, err := w.watch(ctx, "/v1/jobs/events", operator, "")
	w.must(err)
	first, firstOfAll := w.next(one), w.next(all)
	if first.event != "job" || firstOfAll.event != "job" || !strings.Contains(firstOfAll.data, job.ID) {
		t.Fatalf("messages: %+v, %+v", first, firstOfAll)
	}
	cancel()
	w.run(job.ID)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	one, err = w.watch(ctx, "/v1/jobs/"+job.ID+"/events", operator, first.id)
	w.must(err)
	all, err = w.watch(ctx, "/v1/jobs/events", operator, firstOfAll.id)
	w.must(err)
	for _, m := range []message{w.next(one), w.next(all)} {
		if !strings.Contains(m.data, `"state":"succeeded"`) || !strings.Contains(m.data, job.ID) {
			t.Errorf("message: %+v", m)
		}
	}
	if _, more := <-one; more {
		t.Error("the stream of a job that has ended goes on")
	}
	w.want(http.StatusNotFound, "GET", "/v1/jobs/01KAJ4M5N6P7Q8R9S0T1V2W3X4/events", operator, "")
}

func TestTail(t *testing.T) {
	w := newWorld(t)
	viewer := w.token(token.New{Role: token.Viewer, Tenants: []string{"acme"}})
	ctx, cancel := context.WithCancel(t.Context())
	messages, err := w.watch(ctx, "/v1/streams/shop:orders/tail", viewer, "")
	w.must(err)
	w.add("shop:orders", firstMs+2_000_000, "OrderPlaced", "globex", "globex-0", `{}`)
	w.add("shop:orders", firstMs+2_000_001, "OrderPlaced", "acme", "acme-0", `"<script>"`)
	m := w.next(messages)
	if m.event != "event" || !strings.Contains(m.data, `"tenant":"acme"`) || m.id != "1/1760002000001-0" || strings.Contains(m.data, "<script>") {
		t.Fatalf("message: %+v", m)
	}
	cancel()
	w.add("shop:orders", firstMs+2_000_002, "OrderPlaced", "acme", "acme-1", `{}`)
	w.archive()
	w.add("shop:orders", firstMs+2_000_003, "OrderPlaced", "acme", "acme-2", `{}`)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	messages, err = w.watch(ctx, "/v1/streams/shop:orders/tail", viewer, m.id)
	w.must(err)
	for _, want := range []string{"1/1760002000002-0", "1/1760002000003-0"} {
		if m := w.next(messages); m.id != want {
			t.Errorf("message %+v, want %s", m, want)
		}
	}
}
