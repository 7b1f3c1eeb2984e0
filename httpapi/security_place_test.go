package httpapi_test

import (
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/token"
)

// Places that no server gave are refused at once, and not looked for.
func TestPlacesThatNeverWere(t *testing.T) {
	w := newWorld(t)
	viewer := w.as(token.Viewer)
	cursor := base64.RawURLEncoding.EncodeToString([]byte(`{"i":99999999,"a":"1-1"}`))
	for _, live := range []string{"true", "false"} {
		if got := w.want(http.StatusBadRequest, "GET", "/v1/streams/shop:orders/events?live="+live+"&cursor="+cursor, viewer, "").problem(t); got != "invalid-request" {
			t.Errorf("live=%s: %s", live, got)
		}
	}
	w.want(http.StatusBadRequest, "GET", "/v1/streams/shop:orders/tail", viewer, "", "Last-Event-ID", "99999999/1-1")
}
