package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/reservoirhq/reservoir/httpapi/token"
)

// examples gives the path of each operation with the examples of the document in it.
func (w *world) examples() (list []request) {
	for _, route := range w.ops {
		path := route.Path
		for _, p := range route.Operation.Parameters {
			if text, ok := p.Value.Example.(string); ok && p.Value.In == openapi3.ParameterInPath {
				path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", strings.ReplaceAll(text, "/", "%2F"))
			}
		}
		path = strings.NewReplacer("{generation}", "1").Replace(path)
		list = append(list, request{id: route.Operation.OperationID, method: route.Method, path: path})
	}
	return list
}

// Whatever operation it is, an unknown parameter and a body that is too large, or too much,
// are refused as the document says.
func TestRefusalsOfEveryOperation(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.MaxBody = 4096 })
	admin := w.as(token.Admin)
	body := `{"name":"` + strings.Repeat("x", 5000) + `"}`
	for i, r := range w.examples() {
		w.want(http.StatusBadRequest, r.method, r.path+"?no_such_parameter=1", admin, "")
		status := http.StatusBadRequest
		if route := w.ops[i]; route.Operation.RequestBody != nil {
			status = http.StatusRequestEntityTooLarge
		}
		w.want(status, r.method, r.path, admin, body)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		unknown, err := http.NewRequestWithContext(ctx, r.method, w.url+r.path, io.MultiReader(strings.NewReader(body))) // of a length that is not said
		w.must(err)
		unknown.Header.Set("Authorization", "Bearer "+admin)
		unknown.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(unknown)
		w.must(err)
		text, err := io.ReadAll(response.Body)
		w.must(err)
		w.must(response.Body.Close())
		cancel()
		w.documented(unknown, &answer{response, text})
		if response.StatusCode != status {
			t.Errorf("%s: a body of unknown length: %d, want %d: %s", r.id, response.StatusCode, status, text)
		}
	}
	w.headOfEveryGet(admin)
}

// headOfEveryGet asks for the head of whatever can be got: it is that of GET, and there is
// nothing but the head.
func (w *world) headOfEveryGet(bearer string) {
	w.t.Helper()
	operations := append(w.examples(), request{method: "GET", path: "/v1/streams/shop:orders?x=1"}, request{method: "GET", path: "/v1/nothing"},
		request{id: "watchJob", method: "GET", path: "/v1/jobs/" + w.newReplay(bearer).ID + "/events"})
	for _, r := range operations {
		if r.method != http.MethodGet {
			continue
		}
		got, head := w.begin(r, bearer), w.call(http.MethodHead, r.path, bearer, "")
		if len(head.body) > 0 || head.StatusCode != got.StatusCode || head.Header.Get("Content-Type") != got.Header.Get("Content-Type") {
			w.t.Errorf("HEAD %s: %d %s, and GET %d %s", r.path, head.StatusCode, head.Header.Get("Content-Type"), got.StatusCode, got.Header.Get("Content-Type"))
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/v1/jobs/events", "/v1/streams/shop:orders/tail", "/v1/streams/shop:orders"} {
		w.want(http.StatusOK, http.MethodHead, path, bearer, "")
	}
	if !strings.Contains(w.logs.String(), `"method":"HEAD"`) {
		w.t.Error("the log does not tell HEAD from GET")
	}
}
