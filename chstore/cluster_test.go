package chstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// TestServersThatDisagree looks at a table on the two servers of a cluster, from a third
// one: a server that has another generation under the name, or nothing, is noticed, named,
// and waited for.
func TestServersThatDisagree(t *testing.T) {
	ctx := t.Context()
	live := chstore.Table{Name: "t"}
	marks := []chstore.Mark{{Projection: "p", Generation: 1}, {Projection: "p", Generation: 2}}
	var servers []*stack.ClickHouse
	var stores []*chstore.Store
	var ports []string
	var shards strings.Builder
	for range 2 {
		engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
		host, port, err := net.SplitHostPort(engine.Addr())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&shards, "<shard><replica><host>%s</host><port>%s</port></replica></shard>", host, port)
		store := open(t, chstore.Config{URL: engine.URL()})
		known, err := engine.Query(ctx, "SELECT tcpPort() FORMAT TSVRaw") // clients know another one, that of a relay
		if err != nil {
			t.Fatal(err)
		}
		known = strings.TrimSpace(known)
		for _, mark := range marks {
			spec := chstore.TableSpec{Columns: []chstore.Column{{Name: "a", Type: "String"}}, Engine: "MergeTree", OrderBy: "a"}
			if err := store.CreateTable(ctx, live.Of(mark.Generation), spec, mark); err != nil {
				t.Fatal(err)
			}
		}
		servers, stores, ports = append(servers, engine), append(stores, store), append(ports, ":"+known)
	}
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: "<remote_servers><both>" + shards.String() + "</both></remote_servers>"})
	cluster := open(t, chstore.Config{URL: engine.URL(), Cluster: "both"})
	exchange := func(server int, want, expect chstore.Mark) {
		t.Helper()
		if err := stores[server].Exchange(ctx, live, want, expect); err != nil {
			t.Fatal(err)
		}
	}
	mixed := func(want chstore.Mark, behind ...int) {
		t.Helper()
		err := cluster.Settled(ctx, live, want, 300*time.Millisecond)
		if !errors.Is(err, chstore.ErrMixed) {
			t.Fatalf("settled: %v, want %v", err, chstore.ErrMixed)
		}
		for i, port := range ports {
			named, wanted := strings.Contains(err.Error(), port), false
			for _, b := range behind {
				wanted = wanted || b == i
			}
			if named != wanted {
				t.Errorf("%v: server %d is named: %t", err, i, named)
			}
		}
	}
	settled := func(want chstore.Mark) {
		t.Helper()
		if err := cluster.Settled(ctx, live, want, time.Minute); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	exchange(0, marks[0], chstore.Mark{})
	mixed(marks[0], 1) // the other one has no such table
	exchange(1, marks[0], chstore.Mark{})
	settled(marks[0])
	exchange(0, marks[1], marks[0])
	mixed(marks[1], 1)
	mixed(marks[0], 0)
	// One that comes late is waited for.
	late := make(chan error, 1)
	go func() {
		<-time.After(500 * time.Millisecond)
		late <- stores[1].Exchange(context.WithoutCancel(ctx), live, marks[1], marks[0])
	}()
	settled(marks[1])
	if err := <-late; err != nil {
		t.Fatal(err)
	}
	hosts, err := cluster.Hosts(ctx, live)
	if err != nil || len(hosts) != 2 || hosts[0].Host == hosts[1].Host || hosts[0].Mark != marks[1] {
		t.Errorf("hosts %+v, %v", hosts, err)
	}
	if err := servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Settled(ctx, live, marks[1], time.Second); err == nil {
		t.Error("a server that is down is taken for one that has exchanged its tables")
	}
}
