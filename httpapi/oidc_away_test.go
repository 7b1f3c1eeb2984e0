package httpapi_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/reservoirhq/reservoir/httpapi"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

// signed makes a token of an issuer.
func (w *world) signed(issuer, id string, by *rsa.PrivateKey) string {
	w.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: by, KeyID: id}}, nil)
	w.must(err)
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": issuer, "aud": "reservoir", "sub": "u1", "exp": time.Now().Add(time.Hour).Unix(), "roles": "looks",
	}).Serialize()
	w.must(err)
	return text
}

func withProvider(issuer, keys string) func(*world) {
	return func(w *world) {
		w.opts.OIDC = &httpapi.OIDC{Issuer: issuer, Audience: "reservoir", JWKS: keys, Roles: map[string]token.Role{"looks": token.Viewer}}
	}
}

// Who makes tokens up is slowed down, and so is the asking for keys; who has a valid one and
// calls from the same address is not.
func TestForgedOpenIDTokens(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var fetched atomic.Int64
	keys := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}}
		if err := json.NewEncoder(rw).Encode(set); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(keys.Close)
	const issuer = "https://issuer.example"
	w := newWorld(t, withProvider(issuer, keys.URL))
	valid := w.signed(issuer, "one", key)
	w.want(http.StatusOK, "GET", "/v1/whoami", valid, "")
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	count := map[int]int{}
	for range 100 {
		count[w.call("GET", "/v1/whoami", w.signed(issuer, "two", foreign), "").StatusCode]++
	}
	if count[http.StatusTooManyRequests] < 50 || count[http.StatusUnauthorized]+count[http.StatusTooManyRequests] != 100 || fetched.Load() > 50 {
		t.Errorf("forged tokens were answered %v, and keys were fetched %d times", count, fetched.Load())
	}
	w.want(http.StatusOK, "GET", "/v1/whoami", valid, "")
}

// A provider that does not answer is not a token's fault, and nobody queues for it.
func TestOpenIDProviderIsAway(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	w := newWorld(t, withProvider("https://issuer.example", gone.URL))
	for range 30 { // no failure of who calls
		w.want(http.StatusServiceUnavailable, "GET", "/v1/whoami", w.signed("https://issuer.example", "one", key), "")
	}
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(release) })
	w = newWorld(t, withProvider(hangs.URL, ""))
	began := time.Now()
	for range 4 {
		w.want(http.StatusServiceUnavailable, "GET", "/v1/whoami", w.signed(hangs.URL, "one", key), "")
	}
	if took := time.Since(began); took > 15*time.Second { // one after another it would be 20 s
		t.Errorf("four callers waited for %v", took)
	}
}
