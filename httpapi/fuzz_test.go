package httpapi_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/reservoirhq/reservoir/httpapi/token"
)

// many is how many requests are made up; 0 is as many as take a few seconds.
var many = flag.Int("requests", 0, "how many requests are made up")

// maker makes requests up from the document: valid ones, nearly valid ones, nonsense.
type maker struct {
	*rand.Rand
	t testing.TB
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

func (m *maker) request(path string, op *openapi3.Operation) (target, body string, headers []string) {
	query := url.Values{}
	for _, p := range op.Parameters {
		value := p.Value.Example
		if m.IntN(3) == 0 {
			value = m.junk()
		}
		switch text := fmt.Sprint(value); p.Value.In {
		case openapi3.ParameterInPath:
			if text == "" || text == "." || text == ".." {
				text = "x"
			}
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", url.PathEscape(text))
		case openapi3.ParameterInQuery:
			if m.IntN(3) > 0 {
				break
			}
			query.Set(p.Value.Name, text)
			if list, ok := value.([]any); ok && len(list) > 0 {
				query.Set(p.Value.Name, fmt.Sprint(list[0]))
			}
		case openapi3.ParameterInHeader:
			if m.IntN(2) == 0 && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				headers = append(headers, p.Value.Name, text)
			}
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	if op.RequestBody != nil && m.IntN(10) > 0 {
		value := op.RequestBody.Value.Content.Get("application/json").Example
		if m.IntN(4) > 0 {
			value = m.mutate(value)
		}
		body = jsonOf(m.t, value)
		if m.IntN(20) == 0 {
			body = body[:len(body)/2]
		}
	}
	return path, body, headers
}

// Whatever is sent, the answer is as the document says, and nothing goes wrong here.
func TestMadeUpRequests(t *testing.T) {
	w := newWorld(t, withClickHouse)
	admin := w.as(token.Admin)
	m := &maker{rand.New(rand.NewPCG(1, 2)), t}
	var ids []string
	byID := map[string]request{}
	for _, r := range w.requests() {
		if !r.isStream() {
			ids = append(ids, r.id)
			byID[r.id] = r
		}
	}
	count := 1500
	if *many > 0 {
		count = *many
	}
	for range count {
		r := byID[ids[m.IntN(len(ids))]]
		item := w.doc.Paths.Find(w.paths()[r.id])
		target, body, headers := m.request(w.paths()[r.id], item.GetOperation(r.method))
		a := w.call(r.method, target, admin, body, headers...)
		if a.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s %s %v %s: %d: %s", r.method, target, headers, body, a.StatusCode, a.body)
		}
	}
}

// paths are the paths of the document by operation.
func (w *world) paths() map[string]string {
	if w.byID == nil {
		w.byID = map[string]string{}
		for path, item := range w.doc.Paths.Map() {
			for _, op := range item.Operations() {
				w.byID[op.OperationID] = path
			}
		}
	}
	return w.byID
}
