package httpapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/reservoirhq/reservoir/httpapi/token"
)

// request is one valid request of an operation, made of the document's examples.
type request struct {
	id, method, path, body string
	role, restricted       string
}

// requests gives one request of every operation of the document.
func (w *world) requests() (list []request) {
	w.t.Helper()
	for path, item := range w.doc.Paths.Map() {
		for method, op := range item.Operations() {
			r := request{
				id: op.OperationID, method: method, path: path, role: fmt.Sprint(op.Extensions["x-role"]), restricted: fmt.Sprint(op.Extensions["x-restricted"]),
			}
			for _, p := range op.Parameters {
				if p.Value.In == openapi3.ParameterInPath {
					r.path = strings.ReplaceAll(r.path, "{"+p.Value.Name+"}", url.PathEscape(fmt.Sprint(p.Value.Example)))
				}
			}
			if op.RequestBody != nil {
				r.body = jsonOf(w.t, op.RequestBody.Value.Content.Get("application/json").Example)
			}
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b request) int { return strings.Compare(a.id, b.id) })
	return list
}

// Every operation is open to the roles that the document names, and to no other; no
// operation is open to a token that is not valid.
func TestEveryRoleAndOperation(t *testing.T) {
	w := newWorld(t, withClickHouse)
	ranks := map[string]int{"none": 0, "viewer": 1, "operator": 2, "admin": 3}
	for _, role := range []token.Role{token.Viewer, token.Operator, token.Admin} {
		for _, r := range w.requests() {
			status := w.status(r, w.as(role))
			allowed := ranks[string(role)] >= ranks[r.role]
			if refused := status == http.StatusForbidden; refused == allowed || status == http.StatusUnauthorized || status >= 500 && status != http.StatusNotImplemented {
				if r.id == "createSession" && status == http.StatusUnauthorized {
					continue // the example's token is none
				}
				t.Errorf("%s by %s: %d, needs %s", r.id, role, status, r.role)
			}
		}
	}
	for _, text := range []string{"", "nonsense", "rsv_01KAJ4M5N6P7Q8R9S0T1V2W3X4_" + strings.Repeat("A", 52)} {
		for _, r := range w.requests() {
			if r.restricted == "" || r.role == "none" {
				continue
			}
			a := w.status(r, text)
			if a != http.StatusUnauthorized && a != http.StatusTooManyRequests {
				t.Errorf("%s with token %q: %d", r.id, text, a)
			}
		}
	}
}

// What the document refuses to restricted tokens is refused to them.
func TestEveryRestrictionAndOperation(t *testing.T) {
	w := newWorld(t, withClickHouse)
	byStream := w.token(token.New{Role: token.Admin, Streams: []string{"shop:orders"}})
	byTenant := w.token(token.New{Role: token.Admin, Tenants: []string{"acme"}})
	for _, r := range w.requests() {
		want := func(bearer string, refused bool) {
			a := w.begin(r, bearer)
			restricted := a.StatusCode == http.StatusForbidden && strings.Contains(a.problem(t), "restricted") && strings.Contains(string(a.body), "would tell of others")
			if restricted != refused {
				t.Errorf("%s (%s): %d, refused %v: %s", r.id, r.restricted, a.StatusCode, restricted, a.body)
			}
		}
		switch r.restricted {
		case "open", "narrowed":
			want(byStream, false)
			want(byTenant, false)
		case "streams":
			want(byStream, false)
			want(byTenant, true)
		case "refused":
			want(byStream, true)
			want(byTenant, true)
		default:
			t.Errorf("%s: restriction %q is not known", r.id, r.restricted)
		}
	}
}

// Every operation says all that it must.
func TestDocumentIsComplete(t *testing.T) {
	w := &world{t: t}
	doc, err := openapi3.NewLoader().LoadFromData(document())
	w.must(err)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			at := method + " " + path
			if op.OperationID == "" || op.Summary == "" || len(op.Tags) != 1 {
				t.Errorf("%s: operationId, summary and one tag are required", at)
			}
			for _, status := range []int{401, 403, 429, 500, 503} {
				if op.Responses.Status(status) == nil {
					t.Errorf("%s: no %d", at, status)
				}
			}
			for status, answer := range op.Responses.Map() {
				for media, content := range answer.Value.Content {
					if content.Example == nil {
						t.Errorf("%s: %s %s has no example", at, status, media)
					}
					if content.Example != nil && content.Schema != nil && strings.HasSuffix(media, "json") {
						if err := content.Schema.Value.VisitJSON(content.Example); err != nil {
							t.Errorf("%s: example of %s is not as its schema: %v", at, status, err)
						}
					}
				}
			}
			if op.RequestBody != nil {
				content := op.RequestBody.Value.Content.Get("application/json")
				if err := content.Schema.Value.VisitJSON(content.Example); err != nil {
					t.Errorf("%s: example of the body is not as its schema: %v", at, err)
				}
			}
			for _, p := range op.Parameters {
				if p.Value.Example == nil || p.Value.Description == "" {
					t.Errorf("%s: parameter %s has no example or description", at, p.Value.Name)
				}
			}
		}
	}
}
