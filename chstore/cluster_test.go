package chstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// TestServersThatDisagree looks at a table on the two servers of a cluster, from a third
// one: a server that has another generation under the name, or nothing, is noticed, named,
// and waited for.
func TestServersThatDisagree(t *testing.T) {
	ctx := t.Context()
	live := Table{Name: "t"}
	marks := []Mark{{Projection: "p", Generation: 1}, {Projection: "p", Generation: 2}}
	var servers []*stack.ClickHouse
	var stores []*Store
	var ports []string
	var shards strings.Builder
	for range 2 {
		engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
		host, port, err := net.SplitHostPort(engine.Addr())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&shards, "<shard><replica><host>%s</host><port>%s</port></replica></shard>", host, port)
		store := opened(t, Config{URL: engine.URL()})
		known, err := engine.Query(ctx, "SELECT tcpPort() FORMAT TSVRaw") // clients know another one, that of a relay
		if err != nil {
			t.Fatal(err)
		}
		known = strings.TrimSpace(known)
		for _, mark := range marks {
			spec := TableSpec{Columns: []Column{{Name: "a", Type: "String"}}, Engine: "MergeTree", OrderBy: "a"}
			if err := store.CreateTable(ctx, live.Of(mark.Generation), spec, mark); err != nil {
				t.Fatal(err)
			}
		}
		servers, stores, ports = append(servers, engine), append(stores, store), append(ports, ":"+known)
	}
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: "<remote_servers><both>" + shards.String() + "</both></remote_servers>"})
	cluster := opened(t, Config{URL: engine.URL(), Cluster: "both"})
	exchange := func(server int, want, expect Mark) {
		t.Helper()
		if err := stores[server].Exchange(ctx, live, want, expect); err != nil {
			t.Fatal(err)
		}
	}
	mixed := func(want Mark, behind ...int) {
		t.Helper()
		err := cluster.settled(ctx, live, want, 300*time.Millisecond)
		if !errors.Is(err, ErrMixed) {
			t.Fatalf("settled: %v, want %v", err, ErrMixed)
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
	settled := func(want Mark) {
		t.Helper()
		if err := cluster.everywhere(ctx, live, want); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	exchange(0, marks[0], Mark{})
	mixed(marks[0], 1) // the other one has no such table
	exchange(1, marks[0], Mark{})
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
	if err := cluster.settled(ctx, live, marks[1], time.Second); err == nil {
		t.Error("a server that is down is taken for one that has exchanged its tables")
	}
}

// opened connects until the test ends.
func opened(t *testing.T, config Config) *Store {
	t.Helper()
	store, err := Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}
