package httpapi

import (
	"context"

	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

// principal is who calls.
type principal struct {
	id   string // token:<id>, oidc:<subject>, anonymous
	name string // for people
	role token.Role
	scope
}

// anonymous is who calls a server without tokens and without an OpenID provider,
// from the same machine.
func anonymous() *principal { return &principal{id: "anonymous", name: "anonymous", role: token.Admin} }

// call is what the middleware knows of a request and handlers ask for.
type call struct {
	principal  *principal // nil: not known
	credential string     // the token that was sent, or ""
	operation  *operation
	requestID  string
	from       string // address of the caller
	method     string
	path       string
	secure     bool         // it came by TLS
	entry      *audit.Entry // nil: not audited
}

// limitKey is what limits count by: who calls, or else from where.
func (c *call) limitKey() string {
	if c.principal == nil || c.principal.id == anonymous().id {
		return "address:" + subscriber(c.from)
	}
	return c.principal.id
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callOf returns the request's call. The middleware has set it for every handler.
func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return &call{}
	}
	return c
}

// who returns the caller. Without one it may see nothing: an operation that needs one
// never gets so far.
func who(ctx context.Context) *principal {
	if p := callOf(ctx).principal; p != nil {
		return p
	}
	return &principal{scope: scope{streamPatterns: []string{""}, tenants: []string{"\x00"}}}
}

// about notes in the audit trail what an operation made or changed.
func about(ctx context.Context, subject string) {
	if e := callOf(ctx).entry; e != nil {
		e.Subject = subject
	}
}
