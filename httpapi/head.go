package httpapi

import (
	"context"
	"net/http"
)

type headKey struct{}

// answerHead answers HEAD as GET is answered. The body is left out by net/http, which
// goes by what was asked for first.
func answerHead(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && isAPI(r.URL.Path) {
			r = r.WithContext(context.WithValue(r.Context(), headKey{}, true))
			r.Method = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

// isHead reports whether only the head of an answer was asked for.
func isHead(ctx context.Context) bool { return ctx.Value(headKey{}) != nil }
