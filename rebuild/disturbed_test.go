package rebuild_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/rebuild"
)

// disturbed has the service reach ClickHouse by way of one that says of the next n
// statements in the name of a live table that somebody killed them, and does not pass them
// on. It gives that number, which counts down.
func (k *kitchen) disturbed(name string) *atomic.Int64 {
	k.t.Helper()
	var n atomic.Int64
	target, err := url.Parse(k.ch.HTTPURL())
	k.must(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("query_id")
		mine, own := strings.CutPrefix(id, "reservoir/projector-"+name+"/")
		if own && !strings.HasPrefix(mine, "kill/") && !strings.HasPrefix(mine, "running/") && n.Load() > 0 { // see chstore.Store.Kill
			n.Add(-1)
			w.Header().Set("X-ClickHouse-Exception-Code", "394")
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, "Code: 394. DB::Exception: Query was cancelled. (QUERY_WAS_CANCELLED)")
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	k.t.Cleanup(server.Close)
	k.opts.ClickHouse, err = chstore.Connect(k.t.Context(), chstore.Config{URL: server.URL})
	k.must(err)
	k.t.Cleanup(func() { k.opts.ClickHouse.Close() })
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	return &n
}

// A feeder that has not found out yet that it lost its place kills, when it begins, what
// whoever has the place now runs in the name of the live table: that is done again.
func TestWhoHasThePlaceIsKilled(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 50))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "items"})
	k.build(rebuild.Spec{Projection: "items"})
	direct := *k
	kills := k.disturbed("items")
	settled := func(what string) {
		t.Helper()
		if n := kills.Load(); n != 0 {
			t.Errorf("%s: %d statements are still to be killed", what, n)
		}
	}

	kills.Store(1)
	if _, err := k.svc.Rollback(t.Context(), "items", "ann"); err != nil || k.live("items") != 1 {
		t.Errorf("a rollback: %v, and generation %d is live", err, k.live("items"))
	}
	settled("a rollback")

	job := direct.create(rebuild.Spec{Projection: "items"})
	dying := k.exchanged("items", "3", func() faulty.Fault { return faulty.Fault{Crash: true} })
	for !dying.Crashed() { // a busy machine may lose its lease before
		if job, err := direct.try(t.Context(), dying, job.ID, 2*time.Second); err == nil {
			t.Fatalf("the rebuild is %s", job.State)
		}
	}
	_, err := k.jobs.Cancel(t.Context(), job.ID, jobs.Change{By: "ann"})
	k.must(err)
	kills.Store(1)
	if job, err = k.try(t.Context(), k.store, job.ID, time.Minute); err != nil || job.State != jobs.Cancelled {
		t.Errorf("a rebuild that was cancelled is %s: %+v, %v", job.State, job.LastError, err)
	}
	settled("a rebuild that was cancelled")

	kills.Store(1)
	reg := prometheus.NewPedanticRegistry()
	stop := k.projectWith(reg, "items")
	k.must(k.publish(t.Context(), "shop:orders", 20))
	k.caughtUp(direct.reference("items"))
	stop()
	settled("a projector")
	if failures := k.measured(reg, "failures_total"); len(failures) > 0 {
		t.Errorf("the projector says that it failed: %v", failures)
	}
}
