package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/reservoirhq/reservoir/httpapi/token"
)

// sessionCookie holds the token of the web page's session.
const sessionCookie = "reservoir_session"

// authenticate returns who calls. The error is a problem that says why that is not
// known.
func (s *Server) authenticate(c echo.Context) (*principal, error) {
	ctx := c.Request().Context()
	text := credential(c.Request())
	if text == "" {
		return s.withoutToken(ctx, c)
	}
	address := "failed:" + subscriber(callOf(ctx).from)
	now := s.opts.Clock()
	if s.failures.exhausted(address, now) && !s.cheap(text) {
		return nil, tooManyFailures()
	}
	who, err := s.verify(ctx, text)
	if errors.Is(err, token.ErrRejected) {
		s.failures.take(address, now)
		return nil, rejected(err)
	}
	if err != nil {
		return nil, err
	}
	return who, nil
}

func rejected(err error) error {
	return &problemError{kind: unauthenticated, detail: token.ErrRejected.Error(), remedy: "Ask for a new token: `reservoir token create`", err: err}
}

// cheap reports whether a token was found to be valid a moment ago: who guesses is slowed
// down, and who calls from the same address is not.
func (s *Server) cheap(text string) bool {
	if s.provider != nil && s.provider.known(text) {
		return true
	}
	return s.tokens.Known(text)
}

func tooManyFailures() error {
	return &problemError{kind: tooManyRequests, detail: "too many tokens from this address were not valid", retryAfter: retryAfter}
}

// credential is the token that a request carries, or "".
func credential(r *http.Request) string {
	if scheme, text, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(text)
	}
	if r.Header.Get("Authorization") != "" {
		return "?" // a scheme that is not taken: never valid
	}
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		return cookie.Value
	}
	return ""
}

// verify returns whose token it is. The error wraps token.ErrRejected where it is not
// valid.
func (s *Server) verify(ctx context.Context, text string) (*principal, error) {
	if s.provider != nil && !strings.HasPrefix(text, token.Prefix) && strings.Count(text, ".") == 2 {
		return s.provider.verify(ctx, text)
	}
	t, err := s.tokens.Verify(ctx, text)
	if err != nil {
		return nil, err
	}
	return &principal{id: "token:" + t.ID, name: t.Name, role: t.Role, scope: scope{t.Streams, t.Tenants}}, nil
}

// withoutToken lets callers on the same machine in as long as there is no token at all
// and no OpenID provider.
func (s *Server) withoutToken(ctx context.Context, c echo.Context) (*principal, error) {
	locked, err := s.Locked(ctx)
	if err != nil {
		return nil, err
	}
	if !locked && local(c) {
		return anonymous(), nil
	}
	return nil, unauthenticated.problem("no token was sent").withRemedy("Send a token: Authorization: Bearer rsv_…; `reservoir token create` makes one")
}

// local reports whether a request comes from this machine and is addressed to it: a
// name that some site's DNS gives to 127.0.0.1 is not, nor is what a proxy passes on.
func local(c echo.Context) bool {
	r := c.Request()
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !loopback(host) {
		return false
	}
	for _, proxied := range []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-Ip"} {
		if r.Header.Get(proxied) != "" {
			return false
		}
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		name = host
	}
	return loopback(strings.Trim(name, "[]"))
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// gate remembers whether callers need a token. Once they do it stays so.
type gate struct {
	mu     sync.Mutex
	locked bool
	looked time.Time
}

// openFor is how long it is believed that there is still no token.
const openFor = 2 * time.Second

// Locked reports whether callers must authenticate: there is a token, valid or not, or
// an OpenID provider. As long as it is false, only this machine is served.
func (s *Server) Locked(ctx context.Context) (bool, error) {
	if s.provider != nil {
		return true, nil
	}
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	now := s.opts.Clock()
	if s.locks.locked || now.Sub(s.locks.looked) < openFor && !s.locks.looked.IsZero() {
		return s.locks.locked, nil
	}
	found, err := s.tokens.Any(ctx)
	if err != nil {
		return true, fmt.Errorf("find out whether callers need a token: %w", err)
	}
	s.locks.locked, s.locks.looked = found, now
	return found, nil
}
