package redisstream_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// cluster starts three masters that share the slots.
func cluster(t *testing.T) (nodes []*commands, addrs []string) {
	t.Helper()
	const slots = 16384
	var buses []int
	for i := range 3 {
		buses = append(buses, busPort(t))
		server := stacktest.Redis(t, stack.RedisOptions{Args: []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", fmt.Sprint(buses[i])}})
		node := rawClient(t, server.Addr())
		node.do(t, "CLUSTER", "SET-CONFIG-EPOCH", i+1) // or they dispute what moves
		node.do(t, "CLUSTER", "ADDSLOTSRANGE", i*slots/3, (i+1)*slots/3-1)
		nodes, addrs = append(nodes, node), append(addrs, server.Addr())
	}
	for i, addr := range addrs[1:] {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		nodes[0].do(t, "CLUSTER", "MEET", host, port, buses[i+1])
	}
	for _, node := range nodes {
		eventually(t, func() error {
			info := node.do(t, "CLUSTER", "INFO").(string)
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return fmt.Errorf("the cluster is not ready: %s", info)
			}
			return nil
		})
	}
	return nodes, addrs
}

// busPort finds a port for a node's bus that no client is given: the default one
// often is where the system finds ports for connections.
func busPort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(10_000)
		if l, err := net.Listen("tcp", net.JoinHostPort("", fmt.Sprint(port))); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func TestCluster(t *testing.T) {
	nodes, addrs := cluster(t)
	client := connect(t, redisstream.Config{URL: "redis+cluster://" + addrs[1]})
	var names []string
	for i := range 30 {
		name := fmt.Sprintf("orders:%02d", i)
		names = append(names, name)
		fill(t, client, name, 50+i)
		if got := collect(t, client, name, redisstream.ReaderOptions{MaxCount: 20}); len(got) != 50+i {
			t.Fatalf("%s: %d events", name, len(got))
		}
	}
	infos, err := client.Infos(t.Context(), append(names, "none"))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if infos[i].Err != nil || infos[i].Stream != name || infos[i].Length != uint64(50+i) {
			t.Fatalf("%+v", infos[i])
		}
	}
	if infos[30].Err == nil {
		t.Fatal("info of a stream that does not exist")
	}
	var found []string
	for name, err := range client.Discover(t.Context(), []string{"orders:*"}, []string{"*:07"}) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, name)
	}
	slices.Sort(found)
	if want := slices.Delete(slices.Clone(names), 7, 8); !slices.Equal(found, want) {
		t.Fatalf("discovered %v", found)
	}
	if err := client.MirrorHead(t.Context(), names[3], "g", infos[3].LastID, 53); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Trim(t.Context(), names[3], redisstream.TrimSpec{CommittedHead: infos[3].LastID}); err != nil || n > 52 {
		t.Fatal(n, err)
	}
	if _, err := client.Server(t.Context()); err != nil {
		t.Fatal(err)
	}
	moveSlot(t, nodes, client)
}

// moveSlot moves a stream's slot while a Reader, a Writer and idle connections
// are in use, and looks at the stream before, in the midst of it, and after.
func moveSlot(t *testing.T, nodes []*commands, client *redisstream.Client) {
	t.Helper()
	const name = "{moving}stream"
	fill(t, client, name, 300)
	slot := nodes[0].do(t, "CLUSTER", "KEYSLOT", name).(int64)
	from := int(slot) * 3 / 16384
	source, target := nodes[from], nodes[(from+1)%3]
	sourceID, targetID := source.do(t, "CLUSTER", "MYID").(string), target.do(t, "CLUSTER", "MYID").(string)
	r, err := client.Reader(t.Context(), name, redisstream.ReaderOptions{MaxCount: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := client.Writer(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var b, more event.Batch
	position, read, length := event.ID{}, 0, 300
	step := func(when string) {
		t.Helper()
		more.Reset()
		more.Append(newEvent(event.ID{}, "a", "b"))
		if n, err := w.Add(t.Context(), &more, 0, 1, false); err != nil || n != 1 {
			t.Fatalf("%s: added %d, %v", when, n, err)
		}
		length++
		for range 3 {
			if _, err := r.Read(t.Context(), position, &b); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if b.Len() != 10 || !position.Less(b.ID(0)) {
				t.Fatalf("%s: %d events", when, b.Len())
			}
			position, read = b.ID(9), read+10
		}
		infos, err := client.Infos(t.Context(), []string{name})
		if err != nil || infos[0].Err != nil || infos[0].Length != uint64(length) {
			t.Fatalf("%s: %+v, %v", when, infos, err)
		}
		if _, found, err := client.Get(t.Context(), name, position); err != nil || !found {
			t.Fatalf("%s: %v, %v", when, found, err)
		}
	}
	step("before")
	target.do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", sourceID)
	source.do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", targetID)
	step("migrating, the key not moved yet")
	host, port, err := net.SplitHostPort(target.Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	source.do(t, "MIGRATE", host, port, name, 0, 5000)
	step("the key moved, the slot not yet")
	for _, node := range []*commands{target, source, nodes[(from+2)%3]} {
		node.do(t, "CLUSTER", "SETSLOT", slot, "NODE", targetID)
	}
	step("after")
	if got := collect(t, client, name, redisstream.ReaderOptions{}); len(got) != length || read != 120 {
		t.Fatalf("%d events, want %d", len(got), length)
	}
}

func TestSentinelFailover(t *testing.T) {
	master := stacktest.Redis(t, stack.RedisOptions{})
	replica := stacktest.Redis(t, stack.RedisOptions{ReplicaOf: master.Addr()})
	sentinel := stacktest.Sentinel(t, "shop", master.Addr())
	observer := rawClient(t, sentinel.Addr())
	eventually(t, func() error {
		if replicas := observer.do(t, "SENTINEL", "REPLICAS", "shop").([]any); len(replicas) != 1 {
			return fmt.Errorf("%d replicas", len(replicas))
		}
		return nil
	})
	client := connect(t, redisstream.Config{URL: "redis+sentinel://" + sentinel.Addr() + "/shop", ReadTimeout: 2 * time.Second})
	fill(t, client, "s", 100)
	if n := rawClient(t, master.Addr()).do(t, "WAIT", 1, 5000).(int64); n != 1 {
		t.Fatal("not replicated")
	}
	copied := rawClient(t, replica.Addr())
	eventually(t, func() error {
		if n := copied.do(t, "XLEN", "s").(int64); n != 100 {
			return fmt.Errorf("the replica has %d entries", n)
		}
		return nil
	})
	r, err := client.Reader(t.Context(), "s", redisstream.ReaderOptions{MaxCount: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b event.Batch
	before, err := r.Read(t.Context(), event.ID{}, &b)
	if err != nil {
		t.Fatal(err)
	}
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	var after redisstream.Snapshot
	eventually(t, func() (err error) {
		after, err = r.Read(t.Context(), event.ID{}, &b)
		return err
	})
	if after.Epoch == before.Epoch || b.Len() != 10 || after.Info.EntriesAdded != 100 {
		t.Fatalf("%+v, then %+v", before, after)
	}
	eventually(t, func() error {
		w, err := client.Writer(t.Context(), "s")
		if err != nil {
			return err
		}
		defer w.Close()
		_, err = w.Add(t.Context(), &b, 0, 1, false)
		return err
	})
	eventually(t, func() error { return client.MirrorHead(t.Context(), "s", "g", event.ID{Ms: 1}, 1) })
}
