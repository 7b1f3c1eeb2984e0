package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// witness is an S3 service that lets a write through and then never answers it.
type witness struct {
	server *httptest.Server
	after  atomic.Int64 // how many writes are still answered; less than zero: all
	done   chan string  // paths of the writes that were not
}

func newWitness(t *testing.T, endpoint string) *witness {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{done: make(chan string, 100)}
	w.after.Store(-1)
	w.server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host // the Host, which is signed, stays
		},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method != http.MethodPut || w.after.Load() < 0 || w.after.Add(-1) >= 0 {
				return nil
			}
			w.after.Store(-1)
			w.done <- r.Request.URL.Path
			<-r.Request.Context().Done()
			return r.Request.Context().Err()
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {}, // the server that asked is dead
	})
	t.Cleanup(func() {
		w.server.CloseClientConnections()
		w.server.Close()
	})
	return w
}

// mostWrites bounds how many writes a creation is expected to take.
const mostWrites = 30

// TestCrashBetweenWriteAndAnswer kills the server right after a write of a creation, before
// it answers: after the first write, the second and so on, until none is left. The caller
// asks the next server for the same, and there is one job.
func TestCrashBetweenWriteAndAnswer(t *testing.T) {
	t.Parallel()
	w := newServeWorld(t, 40)
	mustReservoir(t, w.env, "archive", "--once")
	operator, admin := w.newToken(t, "operator"), w.newToken(t, "admin")
	s3 := newWitness(t, w.s3.Endpoint())
	env := append(w.env, "RESERVOIR_STORE_ENDPOINT="+s3.server.URL)
	serve := func() (*daemon, *outside) {
		server := start(t, env, "serve", "--work=false")
		o := newOutside(t, server)
		o.token = operator
		o.want(200, "GET", "/v1/whoami", "")
		return server, o
	}
	server, o := serve()
	for kind, create := range map[string]struct{ path, body, other string }{
		"replay": {"/v1/replays", `{"spec":{"streams":["lane:a"],"sink":{"type":"redis","options":{"stream":"copy"}}}}`,
			`{"spec":{"streams":["lane:a"],"limit":3,"sink":{"type":"redis","options":{"stream":"copy"}}}}`},
		"rebuild": {"/v1/rebuilds", `{"spec":{"projection":"orders"}}`, `{"spec":{"projection":"orders","concurrency":1}}`},
	} {
		written := "" // of the job itself
		for n := range mostWrites {
			if n == mostWrites-1 {
				t.Fatalf("creating a %s writes more than %d objects", kind, n)
			}
			key := fmt.Sprintf("%s-%d", kind, n)
			before := len(o.list("?limit=1000"))
			s3.after.Store(int64(n))
			answer := make(chan int, 1)
			go func() { answer <- o.try(create.path, create.body, key) }()
			var path string
			var answered int // its status
			select {
			case path = <-s3.done:
				server.kill(t)
				answered = <-answer
			case answered = <-answer:
			}
			s3.after.Store(-1)
			if path == "" { // all writes were answered, and so was the caller
				if answered != http.StatusCreated || n < 3 {
					t.Fatalf("after %d writes of a %s: %d", n, kind, answered)
				}
				t.Logf("creating a %s took %d writes", kind, n)
				break
			}
			if answered != 0 {
				t.Errorf("a %s was answered by a dead server after %s: %d", kind, path, answered)
			}
			server, o = serve()
			first := o.job(o.want(201, "POST", create.path, create.body, "Idempotency-Key", key))
			again := o.job(o.want(201, "POST", create.path, create.body, "Idempotency-Key", key))
			if first.ID != again.ID || first.State != "pending" {
				t.Errorf("after %s: %+v, and again %+v", path, first, again)
			}
			if got := len(o.list("?limit=1000")); got != before+1 {
				t.Errorf("after %s there are %d jobs more, want one", path, got-before)
			}
			if strings.Contains(path, "/jobs/active/") {
				written = path
				if !strings.Contains(path, first.ID) {
					t.Errorf("%s was written, and the answer is %s", path, first.ID)
				}
				o.want(422, "POST", create.path, create.other, "Idempotency-Key", key)
				o.begun(admin, create.path)
			}
		}
		if written == "" {
			t.Errorf("no server was killed after it had written a %s", kind)
		}
	}
}

// try sends a creation and gives the status of its answer, or 0 where none came.
func (o *outside) try(path, body, key string) int {
	r, err := http.NewRequestWithContext(o.t.Context(), http.MethodPost, o.url+path, strings.NewReader(body))
	if err != nil {
		o.t.Error(err)
		return 0
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+o.token)
	r.Header.Set("Idempotency-Key", key)
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// begun wants that the audit trail has what the dead server had begun.
func (o *outside) begun(admin, path string) {
	o.t.Helper()
	as := &outside{t: o.t, url: o.url, token: admin}
	trail := as.want(200, "GET", "/v1/audit", "")
	if !strings.Contains(trail, `"result":"begun"`) || !strings.Contains(trail, path) {
		o.t.Errorf("the audit trail has nothing that stayed begun: %s", trail)
	}
}
