package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/rebuild"
)

// TestRebuildOnCluster spreads rebuilds over the servers of a cluster: the tables are
// those that one server makes, also when a server is killed on the way and stays away,
// and who reads through a Distributed table on another server never sees anything else.
func TestRebuildOnCluster(t *testing.T) {
	t.Parallel()
	// Who reads for another needs to know the name of the cluster only.
	named := stack.ClickHouseOptions{Config: "<remote_servers><readers><shard><replica><host>127.0.0.1</host><port>1</port></replica></shard></readers></remote_servers>"}
	second, third := stacktest.ClickHouse(t, named), stacktest.ClickHouse(t, named)
	k := newKitchen(t, 10*time.Second, stack.ClickHouseOptions{Config: clusterOf(t, second, third)}, "timeline", "revenue")
	for range 8 { // segments of 500 events each
		for _, lane := range laneNames {
			if err := k.publish(t.Context(), lane, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustReservoir(t, k.with([]string{"RESERVOIR_ARCHIVE_ROLL_COUNT=500"}), "archive", "--once")
	alone := k.start(t, k.hand())
	k.first(t, "timeline", "revenue")
	alone.kill(t)
	names := []string{"timeline", "revenue"}
	want := map[string]string{}
	for _, name := range names {
		want[name] = k.content(t, name)
	}
	outside := stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: clusterOf(t, k.ch)})
	if _, err := outside.Query(t.Context(), "CREATE TABLE timeline (lane String, n UInt64) ENGINE = Distributed(readers, default, timeline)"); err != nil {
		t.Fatal(err)
	}
	stop := elsewhere(t, outside, "timeline")
	before := []int{filesRead(t, second), filesRead(t, third)}
	worker := k.clusterHand(t)
	for _, name := range names {
		k.built(t, k.order(t, rebuild.Spec{Projection: name, Way: rebuild.WayPushdown}, ""), time.Minute)
		if k.content(t, name) != want[name] {
			t.Errorf("%s is not what one server made of the events", name)
		}
	}
	for i, server := range []*stack.ClickHouse{second, third} {
		if n := filesRead(t, server); n <= before[i] {
			t.Errorf("server %d of the cluster read no files", i)
		}
	}
	worker.kill(t)
	for i, d := range []death{
		{Phase: rebuild.PhaseLoad, Statement: "INSERT INTO", Nth: 1, When: amid, How: held},
		{Phase: rebuild.PhaseLoad, Statement: "SELECT count", Nth: 1, How: held},
	} {
		name := names[i]
		id := k.order(t, rebuild.Spec{Projection: name, Way: rebuild.WayPushdown}, "")
		worker := k.clusterHand(t, d)
		worker.mustSay(t, frozen, 0)
		if err := second.Kill(); err != nil {
			t.Fatal(err)
		}
		worker.signal(t, syscall.SIGCONT)
		k.built(t, id, time.Minute)
		if k.content(t, name) != want[name] {
			t.Errorf("with a server killed, %s is not what one server made of the events", name)
		}
		worker.kill(t)
		if err := second.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
}

// clusterOf configures a cluster named readers.
func clusterOf(t *testing.T, servers ...*stack.ClickHouse) string {
	t.Helper()
	var shards strings.Builder
	for _, s := range servers {
		host, port, err := net.SplitHostPort(s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&shards, "<shard><replica><host>%s</host><port>%s</port></replica></shard>", host, port)
	}
	return "<remote_servers><readers>" + shards.String() + "</readers></remote_servers>"
}

// clusterHand is a worker whose ClickHouse shares the reading of files.
func (k *kitchen) clusterHand(t *testing.T, deaths ...death) *daemon {
	t.Helper()
	h := k.hand()
	h.Readers, h.Projector, h.Deaths = "readers", false, deaths
	return k.start(t, h)
}

// content is all that a table holds.
func (k *kitchen) content(t *testing.T, name string) string {
	t.Helper()
	text, err := k.ch.Query(t.Context(), "SELECT * FROM ("+contents[name]+") ORDER BY ALL")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// filesRead is how many requests a server has made of S3.
func filesRead(t *testing.T, ch *stack.ClickHouse) int {
	t.Helper()
	text, err := ch.Query(t.Context(), "SELECT sum(value) FROM system.events WHERE event IN ('S3GetObject', 'ReadBufferFromS3RequestsErrors', 'S3ReadRequestsCount')")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// elsewhere reads a table on another server all the while, which must be exact.
func elsewhere(t *testing.T, ch *stack.ClickHouse, name string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	reader, looks, wrong := &kitchen{ch: ch}, 0, []error{}
	var group sync.WaitGroup
	group.Go(func() {
		for ; ctx.Err() == nil; looks++ {
			at, err := reader.exact(context.WithoutCancel(ctx), name, name)
			if err == nil && at[laneNames[0]] == 0 {
				err = errors.New("the table is empty")
			}
			if err != nil {
				wrong = append(wrong, err)
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		group.Wait()
		if len(wrong) > 0 || looks == 0 {
			t.Errorf("%d of %d reads on another server went wrong: %v", len(wrong), looks, errors.Join(wrong[:min(len(wrong), 3)]...))
		}
	})
}
