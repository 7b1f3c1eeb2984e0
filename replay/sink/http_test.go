package sink_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
	"github.com/reservoirhq/reservoir/replay/sinktest"
)

// request is one that the server took for good.
type request struct {
	header http.Header
	body   string
	ids    []string // of its events
}

// receiver is a real HTTP server that remembers what it took.
type receiver struct {
	*httptest.Server
	format, mode string
	// misbehave may answer in place of the server; took says that it has taken the
	// request all the same.
	misbehave func(w http.ResponseWriter, r *http.Request, body string) (answered, took bool)

	mu    sync.Mutex
	taken []request
}

func newReceiver(t testing.TB, format, mode string) *receiver {
	s := &receiver{format: format, mode: mode}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *receiver) serve(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	body := string(b)
	answered, took := false, true
	if s.misbehave != nil {
		answered, took = s.misbehave(w, r, body)
	}
	if took || !answered {
		s.record(r, body)
	}
	if !answered {
		w.WriteHeader(http.StatusAccepted)
	}
}

// record remembers a request. It comes before the answer: after it the client
// goes on.
func (s *receiver) record(r *http.Request, body string) {
	ids, err := s.idsOf(body)
	if err != nil {
		ids = []string{err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = append(s.taken, request{r.Header.Clone(), body, ids})
}

func (s *receiver) idsOf(body string) (ids []string, err error) {
	type line struct {
		ID     string `json:"id"`
		Fields struct {
			EventID string `json:"event_id"`
		} `json:"fields"`
	}
	var all []line
	switch {
	case s.mode == "batch" && s.format == "cloudevents":
		err = json.Unmarshal([]byte(body), &all)
	default:
		for d := json.NewDecoder(strings.NewReader(body)); d.More(); {
			var one line
			if err := d.Decode(&one); err != nil {
				return nil, err
			}
			all = append(all, one)
		}
	}
	for _, one := range all {
		if s.format == "raw" {
			one.ID = one.Fields.EventID
		}
		ids = append(ids, one.ID)
	}
	return ids, err
}

func (s *receiver) all() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

func (s *receiver) ids() (ids []string) {
	for _, r := range s.all() {
		ids = append(ids, r.ids...)
	}
	return ids
}

func newHTTPKind() replay.SinkKind {
	return sink.NewHTTP(sink.Config{AllowHosts: sink.Hosts{"127.0.0.1"}, Environ: func(name string) (string, bool) {
		v, ok := map[string]string{"RESERVOIR_SINK_SECRET": secret, "RESERVOIR_SINK_TOKEN": "t0ken"}[name]
		return v, ok
	}})
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func openHTTP(t testing.TB, url string, pairs ...string) replay.Sink {
	t.Helper()
	kind := newHTTPKind()
	s := must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(options(t, kind, url, pairs...), "job-1", 1)))
	t.Cleanup(func() { s.Close() })
	return s
}

func rejections(t testing.TB, err error) (indices []int) {
	t.Helper()
	if err == nil {
		return nil
	}
	r, ok := errors.AsType[*replay.RejectedError](err)
	if !ok {
		t.Fatalf("write: %v", err)
	}
	for _, e := range r.Events {
		indices = append(indices, e.Index)
	}
	return indices
}

func TestHTTPConformance(t *testing.T) {
	for _, format := range []string{"cloudevents", "raw"} {
		for _, mode := range []string{"event", "batch"} {
			for _, key := range []string{"aggregate", "stream"} {
				t.Run(format+" "+mode+" "+key, func(t *testing.T) {
					kind := newHTTPKind()
					sinktest.Run(t, sinktest.Harness{Kind: kind, Rejects: true, Target: func(t testing.TB) sinktest.Target {
						s := newReceiver(t, format, mode)
						s.misbehave = func(w http.ResponseWriter, _ *http.Request, body string) (answered, took bool) {
							if strings.Contains(body, "poison") {
								w.WriteHeader(http.StatusUnprocessableEntity)
								return true, false
							}
							return false, true
						}
						return sinktest.Target{
							Options: options(t, kind, s.URL, "format", format, "mode", mode, "key", key, "batch_size", "9"),
							Read:    func(testing.TB) []string { return s.ids() },
						}
					}})
				})
			}
		}
	}
}

// drop ends a connection after so much of an answer.
func drop(w http.ResponseWriter, answer string) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	io.WriteString(c, answer) //nolint:errcheck // the client may be gone
	c.Close()
}

// Against a target that fails, hangs, asks for patience and breaks connections
// before, in and after its answers, every event that can be taken arrives, in
// the order of its key, always with the same idempotency key; exactly the others
// are rejected.
func TestHTTPAgainstAnUnreliableTarget(t *testing.T) {
	for _, mode := range []string{"event", "batch"} {
		t.Run(mode, func(t *testing.T) { unreliable(t, mode) })
	}
}

func unreliable(t *testing.T, mode string) {
	s := newReceiver(t, "cloudevents", mode)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(7, 11))
	s.misbehave = func(w http.ResponseWriter, r *http.Request, body string) (answered, took bool) {
		mu.Lock()
		n := random.IntN(20)
		mu.Unlock()
		switch {
		case strings.Contains(body, `"never"`):
			w.WriteHeader(http.StatusBadRequest)
		case strings.Contains(body, `"crash"`):
			drop(w, "")
		case strings.Contains(body, `"failure"`):
			w.WriteHeader(http.StatusInternalServerError)
		case n == 0:
			w.WriteHeader(http.StatusBadGateway)
		case n == 1:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case n == 2:
			<-r.Context().Done() // the client gives up
		case n == 3:
			drop(w, "")
		case n == 4: // taken, but the client does not hear of it
			s.record(r, body)
			drop(w, "HTTP/1.1 20")
		case n == 5: // taken, and the client hears no more than that
			s.record(r, body)
			drop(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		default:
			return false, true
		}
		return true, false
	}
	open := func() replay.Sink {
		kind := newHTTPKind()
		o := sinktest.Opening(options(t, kind, s.URL, "mode", mode, "batch_size", "5", "timeout", "150ms"), "job-1", 1)
		o.Retry.Attempts = 12 // a quarter of all requests fail
		out := must[replay.Sink](t)(kind.Open(t.Context(), o))
		t.Cleanup(func() { out.Close() })
		return out
	}
	out := open()
	all, rejected := sinktest.Events(), []string{}
	var want []string
	for i := range all {
		if kind := map[int]string{3: "never", 40: "failure", 41: "crash", 77: "never", 150: "failure", 239: "crash"}[i]; kind != "" {
			all[i].Payload = `"` + kind + `"`
			want = append(want, all[i].Origin.EventID)
		}
	}
	for part := range slices.Chunk(all, 60) {
		for again := true; again; { // as the replay does when the target seems to be down
			err := out.Write(t.Context(), sinktest.BatchOf(part))
			if again = errors.Is(err, replay.ErrUnavailable); again {
				out = open()
				continue
			}
			for _, i := range rejections(t, err) {
				rejected = append(rejected, part[i].Origin.EventID)
			}
		}
	}
	if !slices.Equal(rejected, want) {
		t.Errorf("rejected %v, want %v", rejected, want)
	}
	left := slices.DeleteFunc(all, func(e sinktest.Event) bool { return slices.Contains(want, e.Origin.EventID) })
	arrived(t, s, left, mode == "event")
}

// arrived checks that each event arrived, in the order of its key, and that
// requests of the same key have the same body.
func arrived(t *testing.T, s *receiver, want []sinktest.Event, sameBody bool) {
	t.Helper()
	bodies, first, last := map[string]string{}, map[string]int{}, map[string]int{}
	index := map[string]int{}
	for i, e := range want {
		index[e.Origin.EventID] = i
	}
	for _, r := range s.all() {
		key := r.header.Get("Idempotency-Key")
		if before, again := bodies[key]; again && before != r.body {
			t.Errorf("key %s has two bodies", key)
		}
		bodies[key] = r.body
		if sameBody && key != r.ids[0] {
			t.Errorf("event %s has the key %s", r.ids[0], key)
		}
		for _, id := range r.ids {
			i, known := index[id]
			if !known {
				t.Errorf("%s arrived, which is not for the target", id)
				continue
			}
			if _, again := first[id]; again {
				continue
			}
			first[id] = i
			aggregate := want[i].Origin.Key
			if before, ok := last[aggregate]; ok && before > i {
				t.Errorf("%s arrived after %s", id, want[before].Origin.EventID)
			}
			last[aggregate] = i
		}
	}
	if len(first) != len(want) {
		t.Errorf("%d events arrived, want %d", len(first), len(want))
	}
}

func TestHTTPRequest(t *testing.T) {
	s := newReceiver(t, "cloudevents", "event")
	out := openHTTP(t, s.URL+"/hook?q=1", "secret", "${RESERVOIR_SINK_SECRET}", "headers.Authorization", "Bearer ${RESERVOIR_SINK_TOKEN}")
	all := sinktest.Events()[:2]
	all[1].Origin.EventID, all[1].Payload = "", "" // the fields still name one; the origin counts
	b := sinktest.BatchOf(all)
	if err := out.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	taken := s.all()
	slices.SortFunc(taken, func(a, b request) int { return strings.Compare(b.ids[0], a.ids[0]) })
	if len(taken) != 2 {
		t.Fatalf("%d requests", len(taken))
	}
	first, second := taken[0], taken[1]
	for name, want := range map[string]string{
		"Authorization": "Bearer t0ken", "Content-Type": "application/cloudevents+json; charset=utf-8",
		"Idempotency-Key": "e0-0", "Webhook-Id": "e0-0", "Reservoir-Replay": "job-1", "Reservoir-Stream": "%7Bsinktest%7D:0",
		"Reservoir-Incarnation": "1", "Reservoir-Events": "1",
	} {
		if got := first.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := second.header.Get("Idempotency-Key"); got != "%7Bsinktest%7D:0/1/1700000000000-1" {
		t.Errorf("the key of an event without an ID is %q", got)
	}
	verifier := must[*standardwebhooks.Webhook](t)(standardwebhooks.NewWebhook(secret))
	for _, r := range taken {
		if err := verifier.Verify([]byte(r.body), r.header); err != nil {
			t.Errorf("signature: %v", err)
		}
		if err := verifier.Verify([]byte(r.body+" "), r.header); err == nil {
			t.Error("another body has the same signature")
		}
	}
	want := `{"specversion":"1.0","id":"e0-0","source":"/streams/%7Bsinktest%7D:0","type":"Tested","subject":"a0-0",` +
		`"time":"2023-11-14T22:13:20Z","datacontenttype":"application/json","partitionkey":"a0-0","aggregateid":"a0-0",` +
		`"entryid":"1700000000000-0","incarnation":1,"replay":"job-1","data":{"n":0}}`
	if first.body != want {
		t.Errorf("body\n%s\nwant\n%s", first.body, want)
	}
}

// A key that a signed content could be forged with is hashed.
func TestHTTPKeysAreSafe(t *testing.T) {
	s := newReceiver(t, "cloudevents", "event")
	out := openHTTP(t, s.URL)
	all := sinktest.Events()[:4]
	for i, id := range []string{"a.b", "with space", "line\nfeed", strings.Repeat("x", 129)} {
		all[i].Origin.EventID = id
	}
	for range 2 {
		if err := out.Write(t.Context(), sinktest.BatchOf(all)); err != nil {
			t.Fatal(err)
		}
	}
	keys := map[string]int{}
	for _, r := range s.all() {
		keys[r.header.Get("Idempotency-Key")]++
	}
	for key, n := range keys {
		if !strings.HasPrefix(key, "sha256-") || n != 2 {
			t.Errorf("key %q came %d times", key, n)
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d keys", len(keys))
	}
}

func answer(code int, header ...string) func(http.ResponseWriter, *http.Request, string) (bool, bool) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) (bool, bool) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, "because\x1b[31m ", strings.Repeat("x", 1000))
		return true, false
	}
}

// A target that is down, or refuses the replay as a whole, rejects nothing.
func TestHTTPTargetIsDown(t *testing.T) {
	for _, c := range []struct {
		code   int
		header []string
		want   string
	}{
		{500, nil, "500 Internal Server Error: because"},
		{503, nil, "503"},
		{429, nil, "429"},
		{503, []string{"Retry-After", "86400"}, "left alone for 24h"},
		{401, nil, "refuses everything: the target answers 401"},
		{403, nil, "403"},
		{404, nil, "404"},
		{405, nil, "405"},
		{302, []string{"Location", "http://evil.example/"}, "302 Found to http://evil.example/, which is not followed"},
	} {
		for _, n := range []int{1, 40} {
			t.Run(fmt.Sprint(c.code, c.header, n), func(t *testing.T) {
				s := newReceiver(t, "cloudevents", "event")
				s.misbehave = answer(c.code, c.header...)
				err := openHTTP(t, s.URL).Write(t.Context(), sinktest.BatchOf(sinktest.Events()[:n]))
				if !errors.Is(err, replay.ErrUnavailable) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("write: %v, want %q", err, c.want)
				}
				if text := err.Error(); len(text) > 500 || strings.ContainsAny(text, "\x1b\n") {
					t.Errorf("the error is %q", text)
				}
				if c.code/100 == 4 && c.code != 429 && remedy.Of(err) == "" {
					t.Error("there is no remedy")
				}
			})
		}
	}
}

// Credentials that expire in the middle pause the replay before its dead letters
// are full of what is right.
func TestHTTPCredentialsExpire(t *testing.T) {
	s := newReceiver(t, "cloudevents", "event")
	out, all := openHTTP(t, s.URL), sinktest.Events()
	if err := out.Write(t.Context(), sinktest.BatchOf(all[:20])); err != nil {
		t.Fatal(err)
	}
	s.misbehave = answer(http.StatusUnauthorized)
	if err := out.Write(t.Context(), sinktest.BatchOf(all[20:60])); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("write: %v", err)
	}
}

// A single event that fails for ever is told from a target that is down by what
// the target took before.
func TestHTTPProof(t *testing.T) {
	s := newReceiver(t, "cloudevents", "event")
	out, all := openHTTP(t, s.URL, "key", "stream"), sinktest.Events()
	if err := out.Write(t.Context(), sinktest.BatchOf(all[:1])); err != nil {
		t.Fatal(err)
	}
	s.misbehave = func(w http.ResponseWriter, _ *http.Request, body string) (bool, bool) {
		if strings.Contains(body, all[1].Origin.EventID) {
			w.WriteHeader(http.StatusInternalServerError)
			return true, false
		}
		return false, true
	}
	if got := rejections(t, out.Write(t.Context(), sinktest.BatchOf(all[1:2]))); !slices.Equal(got, []int{0}) {
		t.Errorf("rejected %v", got)
	}
	if got, want := s.ids(), []string{"e0-0", "e0-0"}; !slices.Equal(got, want) {
		t.Errorf("the target took %v, want %v", got, want)
	}
	s.misbehave = answer(http.StatusInternalServerError)
	if err := out.Write(t.Context(), sinktest.BatchOf(all[2:3])); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("write: %v", err)
	}
}

func TestHTTPHonoursRetryAfter(t *testing.T) {
	for _, form := range []func() string{
		func() string { return "1" },
		func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) },
	} {
		s := newReceiver(t, "cloudevents", "event")
		var once sync.Once
		var asked, next time.Time
		s.misbehave = func(w http.ResponseWriter, _ *http.Request, _ string) (answered, took bool) {
			once.Do(func() {
				asked, answered = time.Now(), true
				w.Header().Set("Retry-After", form())
				w.WriteHeader(http.StatusTooManyRequests)
			})
			if !answered && next.IsZero() {
				next = time.Now()
			}
			return answered, !answered
		}
		if err := openHTTP(t, s.URL, "concurrency", "1").Write(t.Context(), sinktest.BatchOf(sinktest.Events()[:3])); err != nil {
			t.Fatal(err)
		}
		if waited := next.Sub(asked); waited < 950*time.Millisecond {
			t.Errorf("asked again after %s", waited)
		}
	}
}

func TestHTTPRefusals(t *testing.T) {
	s := newReceiver(t, "cloudevents", "event")
	gone := httptest.NewServer(nil)
	gone.Close()
	kind := newHTTPKind()
	for _, c := range []struct {
		url   string
		pairs []string
		want  string
	}{
		{s.URL, nil, ""},
		{strings.Replace(s.URL, "127.0.0.1", "localhost", 1), nil, "not allowed"},
		{gone.URL, nil, "connection refused"},
		{"ftp://127.0.0.1/", nil, "it must be http://"},
		{"http://user:opensesame@127.0.0.1/", nil, "holds a user"},
		{"http://${RESERVOIR_SINK_TOKEN}/x", nil, "in its scheme or host"}, // an error would tell it
		{"http://a.${RESERVOIR_SINK_TOKEN}:80?x", nil, "in its scheme or host"},
		{"${RESERVOIR_SINK_TOKEN}://127.0.0.1/", nil, "in its scheme or host"},
		{"ftp://127.0.0.1/${RESERVOIR_SINK_TOKEN}", nil, "it must be http://"},
		{s.URL, []string{"mode", "all"}, "event or batch"},
		{s.URL, []string{"concurrency", "0x"}, "not a whole number"},
		{s.URL, []string{"concurrency", "1000"}, "from 1 to 256"},
		{s.URL, []string{"timeout", "soon"}, "not a duration"},
		{s.URL, []string{"secret", "whsec_?"}, "no base64"},
		{s.URL, []string{"secret", "${HOME}"}, "only environment variables"},
		{s.URL, []string{"headers.Host", "x"}, "set by the sink itself"},
		{s.URL, []string{"headers.A B", "x"}, "not the name of a header"},
		{s.URL, []string{"headers.A", "x\ny"}, "characters"},
	} {
		t.Run(c.url+strings.Join(c.pairs, " "), func(t *testing.T) {
			m := map[string]string{}
			for i := 0; i < len(c.pairs); i += 2 {
				m[c.pairs[i]] = c.pairs[i+1]
			}
			raw, err := kind.Parse(c.url, m)
			if err == nil {
				_, err = kind.Check(t.Context(), sinktest.Opening(raw, "", 0))
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil {
				if said := err.Error() + remedy.Of(err); strings.Contains(said, "opensesame") || strings.Contains(said, "t0ken") {
					t.Errorf("%q tells a secret", said)
				}
			}
		})
	}
	target := must[replay.Target](t)(kind.Check(t.Context(), sinktest.Opening(options(t, kind, s.URL, "headers.A", "${RESERVOIR_SINK_LATER}", "key", "none", "secret", "plain"), "", 0)))
	if len(target.Warnings) != 3 {
		t.Errorf("warnings: %q", target.Warnings)
	}
	if got := s.ids(); len(got) > 0 {
		t.Errorf("check sends %v", got)
	}
}

// A raw body is the line of the archive, byte for byte; a batch holds one stream.
func TestHTTPRaw(t *testing.T) {
	s := newReceiver(t, "raw", "batch")
	out := openHTTP(t, s.URL, "format", "raw", "mode", "batch", "concurrency", "1")
	all := sinktest.Events()[events-3 : events+3]
	if err := out.Write(t.Context(), sinktest.BatchOf(all)); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	kind := sink.NewStdout(&buf, event.Mapping{})
	lines := must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(options(t, kind, "-", "format", "raw"), "x", 1)))
	if err := lines.Write(t.Context(), sinktest.BatchOf(all)); err != nil {
		t.Fatal(err)
	}
	var got string
	for i, r := range s.all() {
		got += r.body
		if want := fmt.Sprintf("%%7Bsinktest%%7D:%d", i); r.header.Get("Reservoir-Stream") != want || r.header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("request %d: %v", i, r.header)
		}
	}
	if got != buf.String() {
		t.Errorf("got\n%swant\n%s", got, buf.String())
	}
}

const events = 120 // of a stream of sinktest.Events
