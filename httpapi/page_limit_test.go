package httpapi_test

import (
	"net/http"
	"strconv"
	"testing"
)

// The page tells who asks too often when to come again, as the API does.
func TestPageLimit(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Rate, w.opts.Burst = 0.5, 3 })
	w.withPage()
	for range 20 {
		a := w.browser("GET", "/settings", "", "")
		if a.StatusCode != http.StatusTooManyRequests {
			continue
		}
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 2 {
			t.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
		}
		return
	}
	t.Error("it is never too often")
}
