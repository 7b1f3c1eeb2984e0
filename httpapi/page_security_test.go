package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// What counts events of others is on no page of who is restricted to a tenant.
func TestPageNarrowsEstimatesAndLetters(t *testing.T) {
	w := newWorld(t, withClickHouse)
	w.withPage()
	job, err := w.opts.Rebuilds.Create(t.Context(), rebuild.Spec{Projection: "orders", Approval: projection.Automatic}, rebuild.CreateOptions{})
	w.must(err)
	w.run(job.ID)
	job, err = w.opts.Rebuilds.Create(t.Context(), rebuild.Spec{Projection: "orders", Scope: rebuild.Scope{Tenants: []string{"acme"}}}, rebuild.CreateOptions{Paused: true})
	w.must(err)
	letter, err := json.Marshal([]map[string]any{{"stream": "shop:orders", "id": "1760000000010-0", "type": "OrderSpoiled", "reason": "hush"}})
	w.must(err)
	_, err = w.jobs.Files(job.ID).Put(t.Context(), "letters/00000000000000000001.json", strings.NewReader(string(letter)), objectstore.Always)
	w.must(err)
	restricted := w.session(w.token(token.New{Role: token.Operator, Tenants: []string{"acme"}}))
	whole := w.session(w.as(token.Operator))
	for path, tells := range map[string]string{
		"/replays/estimate?stream=shop:*":       "<dt>Reads</dt>",
		"/jobs/" + job.ID:                       "OrderSpoiled",
		"/replays/estimate?stream=shop:orders*": "By type",
	} {
		if text := w.status200(path, whole); !strings.Contains(text, tells) {
			t.Errorf("%s does not tell %q: %s", path, tells, text)
		}
		shared := strings.HasSuffix(path, "orders*")
		if text := w.status200(path, restricted); strings.Contains(text, tells) != shared {
			t.Errorf("%s, restricted to acme, on %q: %s", path, tells, text)
		}
	}
}

// A key of a form is its sender's, and a form that comes again gives the job that there is.
func TestPageFormsMayComeTwice(t *testing.T) {
	w := newWorld(t)
	w.withPage()
	ann, bob := w.session(w.as(token.Operator)), w.session(w.token(token.New{Role: token.Operator, Streams: []string{"*"}}))
	form := url.Values{"key": {"once"}, "stream": {"shop:orders"}, "into": {"redis:copy"}, "reviewed": {"1"}, "sure": {"1"}, "word": {"redis:copy"}}
	post := func(session string) string {
		a := w.browser("POST", "/replays", session, form.Encode())
		if a.StatusCode != http.StatusSeeOther {
			t.Fatalf("%d: %s", a.StatusCode, a.body)
		}
		return a.Header.Get("Location")
	}
	first := post(ann)
	if post(ann) != first {
		t.Error("the form that came twice made two replays")
	}
	if post(bob) == first {
		t.Error("another person's form gave the first one's replay")
	}
	w.must(w.raw.Del(t.Context(), "shop:orders").Err())
	w.must(w.raw.Del(t.Context(), "copy").Err())
	w.must(w.raw.Set(t.Context(), "copy", "no stream any more", 0).Err()) // what refuses a new one
	if again := post(ann); again != first {
		t.Errorf("afterwards: %s, want %s", again, first)
	}
}

// Nobody is sent elsewhere after logging in.
func TestPageLoginStaysHere(t *testing.T) {
	w := newWorld(t)
	w.withPage()
	text := w.as(token.Viewer)
	for next, want := range map[string]string{
		"/jobs?state=failed": "/jobs?state=failed", "": "/", "//evil.example": "/", "/\t/evil.example": "/", "/\\evil.example": "/", "\t//evil.example": "/",
		"https://evil.example/": "/", "/\r\n/evil.example": "/", "javascript:alert(1)": "/", "/\x00/evil.example": "/",
	} {
		a := w.browser("POST", "/login", "", url.Values{"token": {text}, "next": {next}}.Encode())
		if got := a.Header.Get("Location"); a.StatusCode != http.StatusSeeOther || got != want {
			t.Errorf("next %q: %d, %q", next, a.StatusCode, got)
		}
	}
}
