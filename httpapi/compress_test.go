package httpapi_test

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/token"
)

// TestCompressedIsTheSame: compressed answers, also many at once, say what plain ones do;
// short ones, and those to callers who take no compression, are left alone.
func TestCompressedIsTheSame(t *testing.T) {
	w := newWorld(t)
	viewer := w.as(token.Viewer)
	get := func(path, accept string) (status int, h http.Header, text []byte, err error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, nil)
		if err != nil {
			return 0, nil, nil, err
		}
		r.Header.Set("Authorization", "Bearer "+viewer)
		r.Header.Set("Accept-Encoding", accept)
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return 0, nil, nil, err
		}
		defer func() { err = errors.Join(err, response.Body.Close()) }()
		var body io.Reader = response.Body
		if response.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(body); err != nil {
				return 0, nil, nil, err
			}
		}
		text, err = io.ReadAll(body)
		return response.StatusCode, response.Header, text, err
	}
	for path, long := range map[string]bool{"/v1/openapi.yaml": true, "/v1/events?limit=1000": true, "/v1/whoami": false, "/v1/jobs/none": false} {
		status, plain, want, err := get(path, "identity")
		w.must(err)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				code, got, text, err := get(path, "gzip")
				if err != nil {
					t.Error(err)
					return
				}
				if zipped := got.Get("Content-Encoding") == "gzip"; zipped != long || code != status || got.Get("Vary") == "" {
					t.Errorf("%s: status %d, compressed %v", path, code, zipped)
				}
				if code == http.StatusOK && string(text) != string(want) {
					t.Errorf("%s: %d bytes, and %d without compression", path, len(text), len(want))
				}
			})
		}
		group.Wait()
		if plain.Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed for who takes none", path)
		}
	}
}
