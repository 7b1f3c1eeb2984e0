package httpapi_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// many is how many requests are made up; `make fuzz-api` makes up more.
var (
	many = flag.Int("requests", 700, "how many requests are made up")
	seed = flag.Uint64("seed", 1, "of what is made up")
)

// maker makes requests up from the document: valid ones, nearly valid ones, nonsense.
type maker struct {
	*rand.Rand
	t testing.TB
	// known are values that are there, by the name of the parameter; IDs by what they are of.
	known map[string][]any
	kept  []string // jobs that are not forgotten
	// bodies are some that do something, by operation.
	bodies map[string][]string
}

// maxKnown bounds what is remembered of each kind: the jobs too, of which others are
// cancelled.
const maxKnown = 40

func newMaker(t testing.TB, left traces, admin string) *maker {
	m := &maker{Rand: rand.New(rand.NewPCG(*seed, 2)), t: t, known: map[string][]any{
		"stream": {"shop:orders", "shop:payments", "other:logs", "shop:*"}, "projection": {"orders", "logs"}, "generation": {1, 2, 3, 4},
		"aggregate": {"order/acme-1", "globex-2"}, "events": {"1760000001010-0", "1760000001000-0"}, "from": {"2025-01-01", "1760000001000"},
		"to": {"now", "1760000009000-5"}, "type": {"Order*"}, "tenant": {"acme"}, "limit": {1, 7}, "Last-Event-ID": {"1/1760000001010-0", "1760000000000"},
		"where": {"payload.total > 3", `tenant == "acme"`}, "state": {"paused", "succeeded"}, "kind": {"replay"}, "key": {left.letter},
	}, bodies: map[string][]string{
		"createReplay": {
			`{"spec":{"streams":["shop:orders"],"limit":3,"sink":{"type":"redis","options":{"stream":"copy"}}}}`,
			`{"paused":true,"spec":{"streams":["shop:*"],"from":"2025-01-01","filter":{"tenants":["acme"],"where":"payload.total > 3"},"sink":{"type":"redis","options":{"stream":"{stream}:replay"}}}}`,
		},
		"createRebuild":     {`{"spec":{"projection":"orders"}}`, `{"spec":{"projection":"logs","approval":"required"}}`, `{"paused":true,"spec":{"projection":"orders","scope":{"tenants":["acme"]}}}`},
		"estimateReplay":    {`{"streams":["shop:*"],"filter":{"where":"payload.total > 3"}}`},
		"estimateRebuild":   {`{"projection":"logs"}`, `{"projection":"orders","scope":{"tenants":["acme"]}}`},
		"queryRows":         {`{}`, `{"columns":["order_id"],"order":[{"column":"total"}],"limit":2}`},
		"retryDeadLetters":  {fmt.Sprintf(`{"keys":[%q]}`, left.letter), ``},
		"purgeDeadLetters":  {`{"keys":["nothing"]}`},
		"createSession":     {jsonOf(t, api.NewSession{Token: admin})},
		"createToken":       {`{"name":"x","role":"viewer","tenants":["acme"]}`},
		"approveProjection": {``}, "rollbackProjection": {``},
	}}
	for _, id := range left.jobs {
		m.known["jobs"] = append(m.known["jobs"], id)
	}
	m.kept = left.jobs
	for _, id := range left.tokens {
		m.known["tokens"] = append(m.known["tokens"], id)
	}
	return m
}

// junk is a value that somebody might send.
func (m *maker) junk() any {
	return []any{
		"", "x", "shop:orders", "'; DROP TABLE orders --", "<script>", "é\u0000\u2028", strings.Repeat("9", 400), "2h ago", "1-1", "*", "[", `\`, "../..", "%2e%2e",
		0, -1, 1, 1e300, 9007199254740993, 0.5, true, nil, []any{}, []any{"a", 1}, map[string]any{}, map[string]any{"a": "b"},
	}[m.IntN(26)]
}

// mutate changes a value of JSON somewhere.
func (m *maker) mutate(v any) any {
	if m.IntN(6) == 0 {
		return m.junk()
	}
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			switch m.IntN(8) {
			case 0: // left out
			case 1, 2, 3:
				out[key] = m.mutate(value)
			default:
				out[key] = value
			}
		}
		if m.IntN(12) == 0 {
			out[fmt.Sprint(m.junk())] = m.junk()
		}
		return out
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = m.mutate(out[i])
		}
		return out
	default:
		if m.IntN(3) == 0 {
			return m.junk()
		}
		return v
	}
}

// value makes a parameter up.
func (m *maker) value(route *routers.Route, p *openapi3.Parameter) any {
	name := p.Name
	if name == "id" { // of what the segment before says
		before, _, _ := strings.Cut(route.Path, "/{id}")
		name = before[strings.LastIndexByte(before, '/')+1:]
	}
	known := m.known[name]
	switch n := m.IntN(8); {
	case n < 5 && len(known) > 0:
		return known[m.IntN(len(known))]
	case n < 7:
		return p.Example
	default:
		return m.junk()
	}
}

func (m *maker) request(route *routers.Route) (target, body string, headers []string) {
	op, path := route.Operation, route.Path
	query := url.Values{}
	for _, p := range op.Parameters {
		value := m.value(route, p.Value)
		if list, ok := value.([]any); ok && len(list) > 0 {
			value = list[0]
		}
		switch text := fmt.Sprint(value); p.Value.In {
		case openapi3.ParameterInPath:
			if text == "" || text == "." || text == ".." {
				text = "x"
			}
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", url.PathEscape(text))
		case openapi3.ParameterInQuery:
			if m.IntN(4) == 0 {
				query.Set(p.Value.Name, text)
			}
		case openapi3.ParameterInHeader:
			if m.IntN(3) == 0 && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				headers = append(headers, p.Value.Name, text)
			}
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	if op.RequestBody != nil && m.IntN(10) > 0 {
		body = m.body(op)
	}
	return path, body, headers
}

func (m *maker) body(op *openapi3.Operation) string {
	value := op.RequestBody.Value.Content.Get("application/json").Example
	if known := m.bodies[op.OperationID]; len(known) > 0 && m.IntN(3) > 0 {
		text := known[m.IntN(len(known))]
		if text == "" {
			return ""
		}
		decodeJSON(m.t, text, &value)
	}
	if m.IntN(2) == 0 {
		value = m.mutate(value)
	}
	body := jsonOf(m.t, value)
	if m.IntN(20) == 0 {
		body = body[:len(body)/2]
	}
	return body
}

// learn remembers what an answer says is there, and gives a job that is one too many.
func (m *maker) learn(a *answer) (tooMany string) {
	if a.StatusCode/100 != 2 || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
		return ""
	}
	var said struct {
		Next  string
		Token struct{ ID string }
	}
	a.decode(m.t, &said)
	remember := func(name, value string) (forgotten string) {
		if value == "" {
			return ""
		}
		if list := m.known[name]; len(list) >= maxKnown {
			i := len(m.kept) + m.IntN(len(list)-len(m.kept))
			forgotten = fmt.Sprint(list[i])
			list[i] = value
			return forgotten
		}
		m.known[name] = append(m.known[name], value)
		return ""
	}
	remember("cursor", said.Next)
	remember("tokens", said.Token.ID)
	remember("If-Match", a.Header.Get("ETag"))
	remember("If-None-Match", a.Header.Get("ETag"))
	if id, ok := strings.CutPrefix(a.Header.Get("Location"), "/v1/jobs/"); ok {
		return remember("jobs", id)
	}
	return ""
}

// works runs jobs until the test ends, as a worker does.
func (w *world) works() {
	w.t.Helper()
	runner, err := jobs.NewRunner(w.jobs, jobs.RunnerOptions{
		Engines:     map[string]jobs.Engine{replay.Kind: w.opts.Replays.Engine(), rebuild.Kind: w.opts.Rebuilds.Engine()},
		Concurrency: 1, Poll: 250 * time.Millisecond, LeaseTTL: time.Minute,
	})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("worker: %v", err)
		}
	})
}

// Whatever is sent, the answer is as the document says, and nothing goes wrong here.
func TestMadeUpRequests(t *testing.T) {
	w := newWorld(t, withClickHouse)
	admin := w.as(token.Admin)
	m := newMaker(t, w.tour(), admin)
	w.works()
	slices.SortFunc(w.ops, func(a, b *routers.Route) int {
		return strings.Compare(a.Operation.OperationID, b.Operation.OperationID)
	})
	w.answered.byID = nil
	for range *many {
		route := w.ops[m.IntN(len(w.ops))]
		target, body, headers := m.request(route)
		r := request{id: route.Operation.OperationID, method: route.Method, path: target, body: body}
		var a *answer
		if r.isStream() {
			a = w.begin(r, admin, headers...)
		} else {
			a = w.call(r.method, target, admin, body, headers...)
		}
		if a.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s %s %v %s: %d: %s\n%s", r.method, target, headers, body, a.StatusCode, a.body, w.logged(a.Header.Get("X-Request-ID")))
		}
		if id := m.learn(a); id != "" {
			w.call("POST", "/v1/jobs/"+id+"/cancel", admin, "")
		}
	}
	w.answered.log(t)
}

// logged gives what the log says of a request.
func (w *world) logged(id string) string {
	for line := range strings.Lines(w.logs.String()) {
		if strings.Contains(line, id) {
			return line
		}
	}
	return ""
}
