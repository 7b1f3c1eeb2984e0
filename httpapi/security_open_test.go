package httpapi_test

import (
	"net/http"
	"testing"
)

// An open server does not take what a proxy passes on for a request of this machine.
func TestOpenServersRefuseProxies(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusOK, "GET", "/v1/whoami", "", "")
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"} {
		w.want(http.StatusUnauthorized, "GET", "/v1/whoami", "", "", header, "192.0.2.7")
	}
}
