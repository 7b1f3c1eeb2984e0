package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/reservoirhq/reservoir/httpapi/token"
)

// OIDC says which JSON Web Tokens are taken beside tokens of our own. Issuer, Audience
// and Roles are required.
type OIDC struct {
	Issuer   string // URL, as in the tokens' iss
	Audience string // what the tokens' aud must hold
	// JWKS is the URL of the issuer's keys; default: what its discovery document says.
	JWKS string
	// RoleClaim is the path of the claim, a text or a list, that Roles maps; default
	// "roles". Dots go into objects: "realm_access.roles".
	RoleClaim string
	// Roles are our roles by the claim's values. The highest one counts; who has none
	// may do nothing.
	Roles map[string]token.Role
	// NameClaim is for people; default "email", then "sub".
	NameClaim string
	// StreamsClaim and TenantsClaim are the paths of claims that restrict who calls; ""
	// does not. With such a claim configured, a token without it may do nothing.
	StreamsClaim, TenantsClaim string
}

// Validate returns every mistake, joined.
func (o *OIDC) Validate() error {
	var errs []error
	for _, required := range [][2]string{{"issuer", o.Issuer}, {"audience", o.Audience}} {
		if required[1] == "" {
			errs = append(errs, fmt.Errorf("oidc.%s is empty: want that of your OpenID provider", required[0]))
		}
	}
	if len(o.Roles) == 0 {
		errs = append(errs, errors.New("oidc.roles is empty: nobody could do anything; want a role for at least one value of the role claim"))
	}
	for value, role := range o.Roles {
		if _, err := token.ParseRole(string(role)); err != nil {
			errs = append(errs, fmt.Errorf("oidc.roles: %q: %w", value, err))
		}
	}
	return errors.Join(errs...)
}

// provider verifies the tokens of an OpenID provider. It is asked for its keys when the
// first token comes, so that the server starts while it is away.
type provider struct {
	opts  OIDC
	clock func() time.Time

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
}

func newProvider(opts OIDC, clock func() time.Time) *provider {
	if opts.RoleClaim == "" {
		opts.RoleClaim = "roles"
	}
	return &provider{opts: opts, clock: clock}
}

func (p *provider) load(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verifier != nil {
		return p.verifier, nil
	}
	config := &oidc.Config{ClientID: p.opts.Audience, Now: p.clock}
	ctx = context.WithoutCancel(ctx) // the keys are fetched with it again and again
	if p.opts.JWKS != "" {
		p.verifier = oidc.NewVerifier(p.opts.Issuer, oidc.NewRemoteKeySet(ctx, p.opts.JWKS), config)
		return p.verifier, nil
	}
	found, err := oidc.NewProvider(ctx, p.opts.Issuer)
	if err != nil {
		return nil, &problemError{kind: unavailable, detail: "the OpenID provider does not answer", retryAfter: retryAfter, err: err}
	}
	p.verifier = found.VerifierContext(ctx, config)
	return p.verifier, nil
}

// verify returns whose token a JWT is. The error is token.ErrRejected where it is not
// valid.
func (p *provider) verify(ctx context.Context, text string) (*principal, error) {
	verifier, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	verified, err := verifier.Verify(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", token.ErrRejected, err)
	}
	claims := map[string]json.RawMessage{}
	if err := verified.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: %w", token.ErrRejected, err)
	}
	who := &principal{id: "oidc:" + verified.Subject, name: verified.Subject}
	for _, name := range []string{p.opts.NameClaim, "email"} {
		if values := claim(claims, name); name != "" && len(values) > 0 && values[0] != "" {
			who.name = values[0]
			break
		}
	}
	for _, value := range claim(claims, p.opts.RoleClaim) {
		if role := p.opts.Roles[value]; role.Includes(token.Viewer) && !who.role.Includes(role) {
			who.role = role
		}
	}
	who.streamPatterns = restrictedBy(claims, p.opts.StreamsClaim)
	who.tenants = restrictedBy(claims, p.opts.TenantsClaim)
	if p.opts.StreamsClaim != "" && len(who.streamPatterns) == 0 || p.opts.TenantsClaim != "" && len(who.tenants) == 0 {
		who.role = "" // nobody is unrestricted by leaving a claim out
	}
	return who, nil
}

// restrictedBy gives what a claim restricts to. An empty text would mean events without
// a tenant, and counts for nothing.
func restrictedBy(claims map[string]json.RawMessage, path string) []string {
	if path == "" {
		return nil
	}
	return slices.DeleteFunc(claim(claims, path), func(value string) bool { return value == "" })
}

// claim gives the texts at a path.
func claim(claims map[string]json.RawMessage, path string) []string {
	raw, ok := claims[path]
	if !ok {
		name, rest, deeper := strings.Cut(path, ".")
		inner := map[string]json.RawMessage{}
		if !deeper || json.Unmarshal(claims[name], &inner) != nil {
			return nil
		}
		return claim(inner, rest)
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var several []string
	if json.Unmarshal(raw, &several) == nil {
		return several
	}
	return nil
}
