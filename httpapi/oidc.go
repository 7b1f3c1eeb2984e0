package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

	mu     sync.Mutex
	keys   oidc.KeySet // nil until it was asked where they are
	asked  time.Time   // when that failed last
	failed error
	seen   map[[sha256.Size]byte]time.Time // tokens that are valid, until when
}

const (
	// providerTimeout is how long the provider may take to answer.
	providerTimeout = 5 * time.Second
	// maxSeen is how many valid tokens are remembered.
	maxSeen = 10_000
)

// signatures are the ways to sign that are taken: those with a public key.
func signatures() []string {
	return []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
	}
}

// keyring tells keys that cannot be fetched from a signature that is not theirs, which
// the verifier does not.
type keyring struct {
	oidc.KeySet
	failed error
}

// VerifySignature implements oidc.KeySet.
func (k *keyring) VerifySignature(ctx context.Context, text string) ([]byte, error) {
	payload, err := k.KeySet.VerifySignature(ctx, text)
	if err != nil && (ctx.Err() != nil || strings.HasPrefix(err.Error(), "fetching keys")) {
		k.failed = err
	}
	return payload, err //nolint:wrapcheck // the verifier says what
}

func newProvider(opts OIDC, clock func() time.Time) *provider {
	if opts.RoleClaim == "" {
		opts.RoleClaim = "roles"
	}
	return &provider{opts: opts, clock: clock}
}

// load finds out where the provider has its keys. After a failure the provider is left
// alone for as long as it may take to answer, so that callers do not queue for it.
func (p *provider) load(ctx context.Context) (oidc.KeySet, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys != nil {
		return p.keys, nil
	}
	if p.failed != nil && p.clock().Sub(p.asked) < providerTimeout {
		return nil, p.failed
	}
	// The keys are fetched with it again and again.
	ctx = oidc.ClientContext(context.WithoutCancel(ctx), &http.Client{Timeout: providerTimeout})
	at := p.opts.JWKS
	if at == "" {
		found, err := oidc.NewProvider(ctx, p.opts.Issuer)
		var document struct {
			Keys string `json:"jwks_uri"`
		}
		if err == nil {
			err = found.Claims(&document)
		}
		if err != nil {
			p.asked, p.failed = p.clock(), noProvider(err)
			return nil, p.failed
		}
		at = document.Keys
	}
	p.keys = oidc.NewRemoteKeySet(ctx, at)
	return p.keys, nil
}

func noProvider(err error) error {
	return &problemError{kind: unavailable, detail: "the OpenID provider does not answer", retryAfter: retryAfter, err: err}
}

// known reports whether a token was found to be valid, and has not expired.
func (p *provider) known(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clock().Before(p.seen[sha256.Sum256([]byte(text))])
}

func (p *provider) remember(text string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil || len(p.seen) >= maxSeen {
		p.seen = map[[sha256.Size]byte]time.Time{}
	}
	p.seen[sha256.Sum256([]byte(text))] = until
}

// verify returns whose token a JWT is. The error is token.ErrRejected where it is not
// valid.
func (p *provider) verify(ctx context.Context, text string) (*principal, error) {
	keys, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	ring := &keyring{KeySet: keys}
	config := &oidc.Config{ClientID: p.opts.Audience, Now: p.clock, SupportedSigningAlgs: signatures()}
	verified, err := oidc.NewVerifier(p.opts.Issuer, ring, config).Verify(ctx, text)
	if ring.failed != nil {
		return nil, noProvider(ring.failed)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", token.ErrRejected, err)
	}
	p.remember(text, verified.Expiry)
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
