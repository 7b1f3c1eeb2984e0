package httpapi_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// answers counts the answers of each operation of the document by their status.
type answers struct {
	mu   sync.Mutex
	byID map[string]map[int]int
}

func (a *answers) add(id string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID == nil {
		a.byID = map[string]map[int]int{}
	}
	if a.byID[id] == nil {
		a.byID[id] = map[int]int{}
	}
	a.byID[id][status]++
}

// some reports whether an operation was answered with a status of a class, such as 2.
func (a *answers) some(id string, class int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for status := range a.byID[id] {
		if status/100 == class {
			return true
		}
	}
	return false
}

// log shows how often each operation was answered with which status.
func (a *answers) log(t testing.TB) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(a.byID)) {
		t.Logf("%-22s %v", id, a.byID[id])
	}
}

// route finds the operation of a request, by the segments of its path as they were sent;
// nil: there is none.
func (w *world) route(r *http.Request) (*routers.Route, map[string]string) {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	var best *routers.Route
	var values map[string]string
	for _, route := range w.ops {
		of := strings.Split(route.Path, "/")
		if route.Method != r.Method || len(of) != len(segments) {
			continue
		}
		params, fits := map[string]string{}, true
		for i, part := range of {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				text, err := url.PathUnescape(segments[i])
				fits = fits && err == nil
				params[strings.TrimSuffix(name, "}")] = text
			} else {
				fits = fits && part == segments[i]
			}
		}
		if fits && (best == nil || len(params) < len(values)) {
			best, values = route, params
		}
	}
	return best, values
}

// documented checks an answer against the document.
func (w *world) documented(r *http.Request, a *answer) {
	w.t.Helper()
	route, params := w.route(r)
	if route == nil {
		return // no operation of the document
	}
	w.answered.add(route.Operation.OperationID, a.StatusCode)
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 a.StatusCode, Header: a.Header, Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes(a.body)
	if media := a.Header.Get("Content-Type"); strings.HasPrefix(media, "text/") || media == "application/yaml" {
		input.Options.ExcludeResponseBody = true // texts of no form
	}
	if err := openapi3filter.ValidateResponse(r.Context(), input); err != nil {
		w.t.Errorf("%s %s: %d is not as documented: %v\n%s", r.Method, r.URL, a.StatusCode, err, a.body)
	}
}

// documentedMessage checks a message of an event stream against a schema of the document.
func (w *world) documentedMessage(schema, text string) {
	w.t.Helper()
	var value any
	decodeJSON(w.t, text, &value)
	if err := w.doc.Components.Schemas[schema].Value.VisitJSON(value); err != nil {
		w.t.Errorf("a message is no %s as documented: %v\n%s", schema, err, text)
	}
}
