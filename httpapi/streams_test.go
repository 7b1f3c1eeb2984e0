package httpapi_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

func TestStreamsAndEvents(t *testing.T) {
	w := newWorld(t)
	viewer := w.as(token.Viewer)

	var streams api.StreamList
	w.want(http.StatusOK, "GET", "/v1/streams", viewer, "").decode(t, &streams)
	if len(streams.Streams) != 3 || streams.Streams[1].Stream != "shop:orders" || streams.Streams[1].Totals.Events != 2*ordersPerTenant || streams.Streams[1].Live.Length != 2*ordersPerTenant {
		t.Fatalf("streams: %+v", streams)
	}
	var first, second api.StreamList
	w.want(http.StatusOK, "GET", "/v1/streams?limit=2&stream=shop:*&stream=other:*", viewer, "").decode(t, &first)
	w.want(http.StatusOK, "GET", "/v1/streams?limit=2&stream=shop:*&stream=other:*&cursor="+first.Next, viewer, "").decode(t, &second)
	if len(first.Streams) != 2 || len(second.Streams) != 1 || second.Next != "" {
		t.Fatalf("pages: %+v, %+v", first, second)
	}
	var one api.Stream
	w.want(http.StatusOK, "GET", "/v1/streams/shop:orders", viewer, "").decode(t, &one)
	if one.Head == "" || one.Live.Lag != 0 {
		t.Fatalf("stream: %+v", one)
	}
	w.want(http.StatusNotFound, "GET", "/v1/streams/nothing", viewer, "")

	var cover api.Coverage
	w.want(http.StatusOK, "GET", "/v1/streams/shop:orders/coverage", viewer, "").decode(t, &cover)
	if len(cover.Hours) != 1 || cover.Hours[0].Events != 2*ordersPerTenant || cover.Hours[0].Types["OrderPlaced"] != 2*ordersPerTenant {
		t.Fatalf("coverage: %+v", cover)
	}

	var all api.SegmentList
	w.want(http.StatusOK, "GET", "/v1/streams/shop:orders/segments", viewer, "").decode(t, &all)
	var paged []api.Segment
	for cursor := ""; ; {
		var page api.SegmentList
		path := "/v1/streams/shop:orders/segments?limit=1"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		w.want(http.StatusOK, "GET", path, viewer, "").decode(t, &page)
		paged = append(paged, page.Segments...)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(all.Segments) < 2 || len(paged) != len(all.Segments) {
		t.Fatalf("%d segments, by pages %d", len(all.Segments), len(paged))
	}

	var event api.Event
	w.want(http.StatusOK, "GET", "/v1/streams/shop:orders/events/1760000001010-0", viewer, "").decode(t, &event)
	if event.Tenant != "globex" || event.AggregateID != "globex-1" || string(event.Payload) != `{"total":1.5}` {
		t.Fatalf("event: %+v", event)
	}
	w.want(http.StatusNotFound, "GET", "/v1/streams/shop:orders/events/1-1", viewer, "")
	w.want(http.StatusBadRequest, "GET", "/v1/streams/shop:orders/events/x", viewer, "")
}

// Pages of events are together what one page would be, whatever their size.
func TestPagesOfEvents(t *testing.T) {
	w := newWorld(t)
	viewer := w.as(token.Viewer)
	w.add("shop:orders", firstMs+1_000_000, "OrderPlaced", "acme", "acme-0", `{}`) // live only
	read := func(path, limit string) (ids []string) {
		for cursor := ""; ; {
			q := "limit=" + limit
			if cursor != "" {
				q += "&cursor=" + url.QueryEscape(cursor)
			}
			sep := "?"
			if strings.Contains(path, "?") {
				sep = "&"
			}
			var page api.EventList
			w.want(http.StatusOK, "GET", path+sep+q, viewer, "").decode(t, &page)
			for _, e := range page.Events {
				ids = append(ids, e.Stream+" "+e.ID)
			}
			if cursor = page.Next; cursor == "" {
				return ids
			}
		}
	}
	for path, n := range map[string]int{
		"/v1/streams/shop:orders/events":                                           2 * ordersPerTenant,
		"/v1/streams/shop:orders/events?live=true":                                 2*ordersPerTenant + 1,
		"/v1/streams/shop:orders/events?tenant=acme":                               ordersPerTenant,
		"/v1/streams/shop:orders/events?where=payload.total%20>%2010":              18 + 2,
		"/v1/streams/shop:orders/events?to=1760000001000":                          3,
		"/v1/streams/shop:orders/events?event_id=e-shop:orders-" + "1760000000000": 1,
		"/v1/events":                                        4*ordersPerTenant + 1,
		"/v1/events?stream=shop:*&type=*Paid":               2 * ordersPerTenant,
		"/v1/aggregates/order%2Facme-3/events":              2,
		"/v1/aggregates/acme-3/events?stream=shop:payments": 1,
		"/v1/aggregates/nobody/events":                      0,
	} {
		whole := read(path, "1000")
		if len(whole) != n {
			t.Errorf("%s: %d events, want %d", path, len(whole), n)
		}
		for _, limit := range []string{"1", "7"} {
			if got := read(path, limit); strings.Join(got, ",") != strings.Join(whole, ",") {
				t.Errorf("%s by %s: %v, want %v", path, limit, got, whole)
			}
		}
	}
	for _, path := range []string{"/v1/streams/shop:orders/events?from=tomorrow", "/v1/events?where=total%20%3E", "/v1/streams/shop:orders/events?where=payload.total%20%3E%20%22x%22"} {
		if got := w.want(http.StatusUnprocessableEntity, "GET", path, viewer, "").problem(t); got != "invalid-spec" {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, path := range []string{"/v1/events?cursor=x!", "/v1/events?form=2025-01-01", "/v1/events?limit=0", "/v1/events?limit=1001", "/v1/events?limit=x"} {
		if got := w.want(http.StatusBadRequest, "GET", path, viewer, "").problem(t); got != "invalid-request" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// Names of streams may hold anything.
func TestNamesInPaths(t *testing.T) {
	w := newWorld(t)
	viewer := w.as(token.Viewer)
	names := []string{"a/b", "a%41", "a%2Fb", "ü ?#&", "..", "a+b"}
	for i, name := range names {
		w.add(name, firstMs+i, "Line", "", "", `1`)
	}
	w.archive()
	for i, name := range names {
		escaped := url.PathEscape(name)
		if name == ".." {
			escaped = "%2E%2E"
		}
		var list api.EventList
		w.want(http.StatusOK, "GET", "/v1/streams/"+escaped+"/events", viewer, "").decode(t, &list)
		if len(list.Events) != 1 || list.Events[0].Stream != name || !strings.HasPrefix(list.Events[0].ID, "17600000000") {
			t.Errorf("%d %q: %+v", i, name, list)
		}
	}
}
