package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// Connect makes a client of the server at an address, as
// https://reservoir.example.com, which sends a token; "" is none. What client sends
// requests is up to the caller; nil is http.DefaultClient. Nothing is reached yet.
//
// Parameters of the generated methods that hold nothing are not sent. NewClient alone
// would send them all, and the server refuses such as an empty cursor.
func Connect(server, token string, client *http.Client) (*Client, error) {
	if client == nil {
		client = http.DefaultClient
	}
	return NewClient(server, WithHTTPClient(client), WithRequestEditorFn(omitEmpty), WithRequestEditorFn(
		func(_ context.Context, r *http.Request) error {
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			return nil
		}))
}

// omitEmpty takes out of a request the parameters that hold nothing.
func omitEmpty(_ context.Context, r *http.Request) error {
	var kept []string
	for _, part := range strings.Split(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		text, err := url.QueryUnescape(value)
		if err != nil {
			return err
		}
		least := name == "limit" || name == "to" // from 1
		if text != "" && text != "0001-01-01T00:00:00Z" && (text != "0" || !least) {
			kept = append(kept, part)
		}
	}
	r.URL.RawQuery = strings.Join(kept, "&")
	for name, values := range r.Header {
		if len(values) == 1 && values[0] == "" {
			delete(r.Header, name)
		}
	}
	return nil
}
