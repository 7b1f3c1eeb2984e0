package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// whim is what a receiver that fails does to one request.
type whim int

const (
	takes       whim = iota
	failsBefore      // 500 or 503, without an effect
	dropsBefore      // drops the connection, without an effect
	failsAfter       // with an effect, 500
	dropsAfter       // with an effect, drops the connection
	sleeps           // with an effect, answers later than anybody waits
	busy             // 429 with Retry-After
	refuses          // 422: this event never
	breaks           // 500: this event never
	numWhims
)

func (w whim) String() string {
	return [...]string{"takes", "fails before", "drops before", "fails after", "drops after", "sleeps", "busy", "refuses", "breaks"}[w]
}

// receiver is the target of a replay over HTTP that fails at random. It keeps
// account of what had an effect.
type receiver struct {
	server *httptest.Server
	secret []byte

	mu       sync.Mutex
	rng      *rand.Rand
	calm     bool            // nothing fails at random any more
	poison   map[string]whim // events that are never taken, by event ID
	whims    [numWhims]int
	bodies   map[string]string   // by idempotency key
	life     int                 // how many workers were killed
	taken    map[string]int      // the life in which an event first had an effect, by event ID
	order    map[string][]string // event IDs in the order of their first effects, by stream and aggregate
	repeats  map[int]map[string]bool
	problems []string
}

func newReceiver(t *testing.T, rng *rand.Rand) *receiver {
	t.Helper()
	r := &receiver{
		rng: rng, secret: []byte("a secret of thirty-two bytes ..."), poison: map[string]whim{}, bodies: map[string]string{},
		taken: map[string]int{}, order: map[string][]string{}, repeats: map[int]map[string]bool{},
	}
	r.server = httptest.NewServer(r)
	t.Cleanup(func() {
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// env has the secret for the workers.
func (r *receiver) env() []string {
	return []string{"RESERVOIR_SINK_SECRET=whsec_" + base64.StdEncoding.EncodeToString(r.secret)}
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil { // the worker was killed
		return
	}
	switch r.receive(req.Header, body) {
	case takes:
		w.WriteHeader(http.StatusNoContent)
	case failsBefore:
		w.WriteHeader(http.StatusServiceUnavailable)
	case failsAfter, breaks:
		w.WriteHeader(http.StatusInternalServerError)
	case dropsBefore, dropsAfter:
		panic(http.ErrAbortHandler) // not a byte of an answer
	case sleeps:
		wait(req, 3*time.Second)
		panic(http.ErrAbortHandler)
	case busy:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case refuses:
		w.WriteHeader(http.StatusUnprocessableEntity)
	}
}

// receive decides on a request, and notes it when it has an effect.
func (r *receiver) receive(h http.Header, body []byte) whim {
	var e struct{ ID, Source, PartitionKey string }
	err := json.Unmarshal(body, &e)
	r.mu.Lock()
	defer r.mu.Unlock()
	key := h.Get("Idempotency-Key")
	switch before, again := r.bodies[key]; {
	case err != nil:
		r.problem("the body is no JSON: %v", err)
	case key == "" || key != e.ID:
		r.problem("event %s has the idempotency key %q", e.ID, key)
	case again && before != string(body):
		r.problem("the key %s came with\n%s, and before with\n%s", key, body, before)
	case h.Get("Webhook-Signature") != r.sign(key, h.Get("Webhook-Timestamp"), body):
		r.problem("the signature of event %s is wrong: %s", key, h.Get("Webhook-Signature"))
	}
	r.bodies[key] = string(body)
	what, poisoned := r.poison[key]
	if !poisoned {
		what = r.draw()
	}
	r.whims[what]++
	switch what {
	case takes, failsAfter, dropsAfter, sleeps:
		r.note(e.ID, e.Source+" "+e.PartitionKey)
	default:
	}
	return what
}

func (r *receiver) draw() whim {
	n := r.rng.IntN(1000)
	switch {
	case r.calm || n >= 54:
		return takes
	case n < 20:
		return failsBefore
	case n < 30:
		return dropsBefore
	case n < 40:
		return failsAfter
	case n < 50:
		return dropsAfter
	case n < 52:
		return sleeps
	default:
		return busy
	}
}

// note keeps an effect.
func (r *receiver) note(id, lane string) {
	life, again := r.taken[id]
	switch {
	case !again:
		r.taken[id] = r.life
		r.order[lane] = append(r.order[lane], id)
	case life < r.life:
		if r.repeats[r.life] == nil {
			r.repeats[r.life] = map[string]bool{}
		}
		r.repeats[r.life][id] = true
	}
}

func (r *receiver) problem(format string, args ...any) {
	if len(r.problems) < 10 {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

// sign gives the signature of Standard Webhooks.
func (r *receiver) sign(id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, r.secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// killed tells that a worker was.
func (r *receiver) killed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.life++
}

// heal makes events be taken from now on, and nothing else fail.
func (r *receiver) heal(ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calm = true
	r.bodies = map[string]string{} // they tell the replay, which is another one now
	for _, id := range ids {
		delete(r.poison, id)
	}
}

// check holds what had an effect against what was to have one: by stream and
// aggregate, in order.
func (r *receiver) check(t *testing.T, want map[string][]string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.problems {
		t.Error(p)
	}
	missing, total := 0, 0
	for _, ids := range want {
		total += len(ids)
		for _, id := range ids {
			if _, taken := r.taken[id]; !taken {
				missing++
			}
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d events never arrived", missing, total)
	}
	for lane, ids := range want {
		if got := r.order[lane]; !slices.Equal(got, ids) {
			t.Fatalf("%s: the events\n%q had an effect in this order, want\n%q", lane, got, ids)
		}
	}
	for lane := range r.order {
		if want[lane] == nil {
			t.Errorf("%s: events that were not to be replayed: %q", lane, r.order[lane])
		}
	}
}
