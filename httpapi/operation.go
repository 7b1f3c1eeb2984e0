package httpapi

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"

	"github.com/reservoirhq/reservoir/httpapi/token"
)

//go:embed openapi.yaml
var document []byte

// Document returns the OpenAPI document that the server fulfils, as YAML.
func Document() []byte { return slices.Clone(document) }

// restriction says what becomes of callers who are restricted to streams or tenants.
type restriction string

const (
	open     restriction = "open"     // the answer tells nothing of streams and tenants
	narrowed restriction = "narrowed" // the handler narrows it to what the caller may see
	streams  restriction = "streams"  // as narrowed, and nobody restricted to tenants may call
	refused  restriction = "refused"  // nobody restricted may call
)

// operation is one operation of the document, as the middleware needs it.
type operation struct {
	id         string
	role       token.Role // "": anybody
	restricted restriction
	audited    bool
	safe       bool // changes nothing
	slow       bool // may take minutes
	sse        bool
	success    int // its status when all is well
	query      []string
	body       bool // it takes one
	route      *routers.Route
}

// loadOperations reads the document, by operation ID.
func loadOperations() (*openapi3.T, map[string]*operation, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, nil, fmt.Errorf("read the API's document: %w", err)
	}
	ops := map[string]*operation{}
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			op, err := newOperation(o)
			if err != nil {
				return nil, nil, fmt.Errorf("the API's document: operation %s: %w", o.OperationID, err)
			}
			op.safe = op.safe || method == "GET"
			op.route = &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: o}
			ops[op.id] = op
		}
	}
	return doc, ops, nil
}

func newOperation(o *openapi3.Operation) (*operation, error) {
	op := &operation{id: o.OperationID, body: o.RequestBody != nil}
	flag := func(name string) bool { set, ok := o.Extensions[name].(bool); return ok && set }
	op.audited, op.safe, op.slow, op.sse = flag("x-audited"), flag("x-safe"), flag("x-slow"), flag("x-sse")
	role, restricted := fmt.Sprint(o.Extensions["x-role"]), restriction(fmt.Sprint(o.Extensions["x-restricted"]))
	if role != "none" {
		var err error
		if op.role, err = token.ParseRole(role); err != nil {
			return nil, fmt.Errorf("x-role: %w", err)
		}
	}
	if !slices.Contains([]restriction{open, narrowed, streams, refused}, restricted) {
		return nil, fmt.Errorf("x-restricted: %q is not known", restricted)
	}
	op.restricted = restricted
	for status := range o.Responses.Map() {
		if strings.HasPrefix(status, "2") {
			n, err := strconv.Atoi(status)
			if err != nil {
				return nil, fmt.Errorf("status %q: %w", status, err)
			}
			op.success = n
		}
	}
	for _, p := range o.Parameters {
		if p.Value.In == openapi3.ParameterInQuery {
			op.query = append(op.query, p.Value.Name)
		}
	}
	return op, nil
}
