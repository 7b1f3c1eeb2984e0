package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

func TestTokens(t *testing.T) {
	w := newWorld(t)
	// As long as there is no token, whoever is on this machine is an admin.
	var who api.Principal
	w.want(http.StatusOK, "GET", "/v1/whoami", "", "").decode(t, &who)
	if who.ID != "anonymous" || who.Role != "admin" {
		t.Fatalf("whoami: %+v", who)
	}
	w.want(http.StatusUnauthorized, "GET", "/v1/whoami", "", "", "X-Forwarded-For", "192.0.2.7")
	if r := w.hosted("evil.example"); r != http.StatusUnauthorized {
		t.Errorf("a name that was bound to this machine is let in: %d", r)
	}

	var made api.CreatedToken
	w.want(http.StatusCreated, "POST", "/v1/tokens", "", `{"name":"boss","role":"admin"}`).decode(t, &made)
	boss := made.Text
	waitUntil(t, func() bool { return w.call("GET", "/v1/whoami", "", "").StatusCode == http.StatusUnauthorized })
	w.want(http.StatusOK, "GET", "/v1/whoami", boss, "").decode(t, &who)
	if who.Name != "boss" || who.ID != "token:"+made.Token.ID {
		t.Fatalf("whoami: %+v", who)
	}
	w.want(http.StatusCreated, "POST", "/v1/tokens", boss, `{"name":"ci","role":"operator","streams":["shop:*"]}`).decode(t, &made)
	w.want(http.StatusOK, "GET", "/v1/whoami", made.Text, "").decode(t, &who)
	if len(who.Streams) != 1 || who.Role != "operator" {
		t.Fatalf("whoami: %+v", who)
	}
	if got := w.want(http.StatusUnprocessableEntity, "POST", "/v1/tokens", boss, `{"name":"old","role":"viewer","expires_at":"2020-01-01T00:00:00Z"}`).problem(t); got != "invalid-spec" {
		t.Errorf("problem %s", got)
	}
	var list api.TokenList
	answer := w.want(http.StatusOK, "GET", "/v1/tokens", boss, "")
	answer.decode(t, &list)
	if len(list.Tokens) != 2 || list.Tokens[1].CreatedBy != "boss" || list.Tokens[1].State != "valid" || strings.Contains(string(answer.body), "hash") {
		t.Fatalf("tokens: %s", answer.body)
	}
	w.want(http.StatusNoContent, "DELETE", "/v1/tokens/"+made.Token.ID, boss, "")
	w.want(http.StatusUnauthorized, "GET", "/v1/whoami", made.Text, "")
	w.want(http.StatusNotFound, "DELETE", "/v1/tokens/01KAJ4M5N6P7Q8R9S0T1V2W3X4", boss, "")

	// What was done is in the audit trail, newest first, by pages; what failed too.
	var trail, page api.AuditList
	w.want(http.StatusOK, "GET", "/v1/audit", boss, "").decode(t, &trail)
	var got []string
	for _, e := range trail.Entries {
		got = append(got, e.Operation+" "+e.Name+" "+string(e.Result))
	}
	want := "revokeToken boss refused, revokeToken boss done, createToken boss refused, createToken boss done, createToken anonymous done"
	if strings.Join(got, ", ") != want {
		t.Errorf("audit: %s, want %s", strings.Join(got, ", "), want)
	}
	if e := trail.Entries[1]; e.Subject != made.Token.ID || e.Status != http.StatusNoContent || e.From == "" || e.RequestID == "" {
		t.Errorf("entry: %+v", e)
	}
	n := 0
	for cursor := ""; ; n++ {
		path := "/v1/audit?limit=1"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		w.want(http.StatusOK, "GET", path, boss, "").decode(t, &page)
		if page.Entries[0].ID != trail.Entries[n].ID {
			t.Errorf("page %d: %+v", n, page)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	w.want(http.StatusOK, "GET", "/v1/audit?operation=createToken&who=anonymous", boss, "").decode(t, &page)
	if len(page.Entries) != 1 {
		t.Errorf("filtered: %+v", page)
	}
	for _, secret := range []string{boss, made.Text} {
		if strings.Contains(w.logs.String(), secret[len(secret)-20:]) {
			t.Error("the log has a secret")
		}
	}
}

// hosted asks who calls under another name of the server.
func (w *world) hosted(name string) int {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/v1/whoami", nil)
	w.must(err)
	r.Host = name
	response, err := http.DefaultClient.Do(r)
	w.must(err)
	w.must(response.Body.Close())
	return response.StatusCode
}

func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it never came to be")
		}
	}
}

// A session is a cookie that scripts cannot read; what another site's page sends with it
// is refused.
func TestSessions(t *testing.T) {
	w := newWorld(t)
	operator := w.as(token.Operator)
	w.want(http.StatusUnauthorized, "POST", "/v1/session", "", `{"token":"rsv_wrong"}`)
	cookie := w.want(http.StatusNoContent, "POST", "/v1/session", "", jsonOf(t, api.NewSession{Token: operator})).Header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q has no %s", cookie, want)
		}
	}
	session, _, _ := strings.Cut(cookie, ";")
	w.want(http.StatusOK, "GET", "/v1/jobs", "", "", "Cookie", session)
	w.want(http.StatusCreated, "POST", "/v1/replays", "", replayBody, "Cookie", session, "Sec-Fetch-Site", "same-origin")
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		if got := w.want(http.StatusForbidden, "POST", "/v1/replays", "", replayBody, append(headers, "Cookie", session)...).problem(t); got != "cross-origin" {
			t.Errorf("%v: %s", headers, got)
		}
	}
	gone := w.want(http.StatusNoContent, "DELETE", "/v1/session", "", "", "Cookie", session).Header.Get("Set-Cookie")
	if !strings.Contains(gone, "Max-Age=0") {
		t.Errorf("cookie %q", gone)
	}
}

// A token that is restricted to streams or tenants sees nothing of others.
func TestRestrictedTokens(t *testing.T) {
	w := newWorld(t)
	all := w.as(token.Operator)
	tenant := w.token(token.New{Role: token.Operator, Tenants: []string{"acme"}})
	stream := w.token(token.New{Role: token.Operator, Streams: []string{"shop:o*"}})

	for _, path := range []string{
		"/v1/events?limit=1000", "/v1/streams/shop:orders/events?live=true", "/v1/streams/shop:orders/events?aggregate=globex-1", "/v1/aggregates/globex-1/events",
		"/v1/streams", "/v1/streams/shop:orders", "/v1/streams/shop:orders/events?type=*&where=tenant%20!=%20%22acme%22",
	} {
		a := w.want(http.StatusOK, "GET", path, tenant, "")
		if strings.Contains(string(a.body), "globex") || strings.Contains(string(a.body), "totals") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	var events api.EventList
	w.want(http.StatusOK, "GET", "/v1/events?limit=1000", tenant, "").decode(t, &events)
	if len(events.Events) != 2*ordersPerTenant {
		t.Errorf("%d events of the tenant", len(events.Events))
	}
	w.want(http.StatusNotFound, "GET", "/v1/streams/shop:orders/events/1760000001010-0", tenant, "")
	w.want(http.StatusForbidden, "GET", "/v1/events?tenant=globex", tenant, "")
	est := w.want(http.StatusOK, "POST", "/v1/replays/estimate", tenant, `{"streams":["shop:*"]}`)
	var count struct{ Total struct{ Events int } }
	est.decode(t, &count)
	if strings.Contains(string(est.body), "globex") || count.Total.Events != 2*ordersPerTenant {
		t.Errorf("estimate: %s", est.body)
	}
	w.want(http.StatusForbidden, "POST", "/v1/replays/estimate", tenant, `{"streams":["shop:*"],"filter":{"tenants":["globex"]}}`)

	var streams api.StreamList
	w.want(http.StatusOK, "GET", "/v1/streams", stream, "").decode(t, &streams)
	if len(streams.Streams) != 1 || streams.Streams[0].Stream != "shop:orders" {
		t.Errorf("streams: %+v", streams)
	}
	for _, path := range []string{"", "/events", "/coverage", "/segments", "/tail", "/events/1760000001011-0"} {
		w.want(http.StatusNotFound, "GET", "/v1/streams/shop:payments"+path, stream, "")
	}
	w.want(http.StatusForbidden, "POST", "/v1/replays/estimate", stream, `{"streams":["shop:*"]}`)
	w.want(http.StatusOK, "POST", "/v1/replays/estimate", stream, `{"streams":["shop:o*"]}`)

	// Jobs: one of everything is seen by nobody restricted, one of theirs by them.
	var whole, own api.Job
	w.want(http.StatusCreated, "POST", "/v1/replays", all, `{"spec":{"streams":["shop:*"],"sink":{"type":"redis","options":{"stream":"copy-of-all"}}}}`).decode(t, &whole)
	w.want(http.StatusCreated, "POST", "/v1/replays", tenant, `{"spec":{"streams":["shop:*"],"sink":{"type":"redis","options":{"stream":"copy-of-one"}}}}`).decode(t, &own)
	if !strings.Contains(string(own.Spec), `"tenants":["acme"]`) {
		t.Errorf("spec: %s", own.Spec)
	}
	for _, bearer := range []string{tenant, stream} {
		for _, r := range [][2]string{{"GET", ""}, {"GET", "/events"}, {"GET", "/dead-letters"}, {"POST", "/pause"}, {"POST", "/cancel"}, {"POST", "/dead-letters/purge"}, {"POST", "/dead-letters/retry"}} {
			w.want(http.StatusNotFound, r[0], "/v1/jobs/"+whole.ID+r[1], bearer, "")
		}
	}
	var list api.JobList
	w.want(http.StatusOK, "GET", "/v1/jobs", tenant, "").decode(t, &list)
	if len(list.Jobs) != 1 || list.Jobs[0].ID != own.ID {
		t.Errorf("jobs of the tenant: %+v", list)
	}
	w.want(http.StatusOK, "GET", "/v1/jobs", stream, "").decode(t, &list)
	if len(list.Jobs) != 0 {
		t.Errorf("jobs of the stream: %+v", list)
	}
}
