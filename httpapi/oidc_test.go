package httpapi_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/reservoirhq/reservoir/httpapi"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

func TestOpenIDTokens(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}}
	mux := http.NewServeMux()
	issuer := httptest.NewServer(mux)
	t.Cleanup(issuer.Close)
	serve := func(path string, value any) {
		mux.HandleFunc("GET "+path, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(rw).Encode(value); err != nil {
				t.Error(err)
			}
		})
	}
	serve("/keys", keys)
	serve("/.well-known/openid-configuration", map[string]any{
		"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
	})
	w := newWorld(t, func(w *world) {
		w.opts.OIDC = &httpapi.OIDC{
			Issuer: issuer.URL, Audience: "reservoir", RoleClaim: "realm.roles", TenantsClaim: "tenants",
			Roles: map[string]token.Role{"looks": token.Viewer, "acts": token.Operator},
		}
	})
	sign := func(by *rsa.PrivateKey, change func(map[string]any)) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: by, KeyID: "one"}}, nil)
		w.must(err)
		claims := map[string]any{
			"iss": issuer.URL, "aud": "reservoir", "sub": "u1", "email": "ann@example.com", "exp": time.Now().Add(time.Hour).Unix(),
			"realm": map[string]any{"roles": []string{"other", "looks", "acts"}}, "tenants": []string{"acme"},
		}
		change(claims)
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		w.must(err)
		return text
	}
	var who api.Principal
	w.want(http.StatusOK, "GET", "/v1/whoami", sign(key, func(map[string]any) {}), "").decode(t, &who)
	if who.ID != "oidc:u1" || who.Name != "ann@example.com" || who.Role != "operator" || len(who.Tenants) != 1 || who.Tenants[0] != "acme" {
		t.Fatalf("whoami: %+v", who)
	}
	for name, text := range map[string]string{
		"expired":          sign(key, func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }),
		"another audience": sign(key, func(c map[string]any) { c["aud"] = "others" }),
		"another issuer":   sign(key, func(c map[string]any) { c["iss"] = "https://evil.example" }),
		"another key":      sign(foreign, func(map[string]any) {}),
		"none":             "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSJ9.",
	} {
		if got := w.call("GET", "/v1/whoami", text, "").StatusCode; got != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got)
		}
	}
	w.want(http.StatusForbidden, "GET", "/v1/whoami", sign(key, func(c map[string]any) { c["realm"] = "x" }), "")
	for _, tenants := range []any{nil, []string{}, "", []string{""}, 7} { // a claim that should restrict and does not
		w.want(http.StatusForbidden, "GET", "/v1/events", sign(key, func(c map[string]any) { c["tenants"] = tenants }), "")
	}
	w.want(http.StatusUnauthorized, "GET", "/v1/whoami", "", "")
	w.want(http.StatusOK, "GET", "/v1/whoami", w.as(token.Viewer), "")
}
