package sink_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
)

func TestRedisParse(t *testing.T) {
	kind := sink.NewRedis(sink.RedisOptions{})
	for _, test := range []struct {
		target  string
		options map[string]string
		want    string
	}{
		{"{stream}:copy", nil, `{"stream":"{stream}:copy"}`},
		{"", map[string]string{"ids": "keep", "provenance": "false"}, `{"ids":"keep","provenance":false}`},
		{"redis://elsewhere:6379/1", map[string]string{"stream": "x", "allow_source": "true"}, `{"stream":"x","url":"redis://elsewhere:6379/1","allow_source":true}`},
		{"copy", map[string]string{"stream": "other"}, `{"stream":"other"}`},
	} {
		got, err := kind.Parse(test.target, test.options)
		if err != nil || string(got) != test.want {
			t.Errorf("%q, %v: %s, %v, want %s", test.target, test.options, got, err, test.want)
		}
	}
	for _, options := range []map[string]string{{"steam": "x"}, {"provenance": "perhaps"}} {
		if _, err := kind.Parse("x", options); err == nil || !strings.Contains(remedy.Of(err), "allow_source") {
			t.Errorf("%v: %v", options, err)
		}
	}
}

// What cannot work is refused before anything is written, with a remedy.
func TestRedisCheckRefuses(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{ACL: []string{"user reader on >secret ~* +@all -xadd"}})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	addr := server.Addr()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	command(t, addr, "SET", "text", "x")
	command(t, addr, "XADD", "full", "18446744073709551615-18446744073709551615", "a", "b")
	command(t, addr, "XADD", "used:copy", "1-1", "a", "b")
	command(t, addr, "XDEL", "used:copy", "1-1")
	command(t, addr, "XGROUP", "CREATE", "prepared:copy", "g", "$", "MKSTREAM")
	kind := sink.NewRedis(sink.RedisOptions{
		Default: client, AllowHosts: sink.Hosts{"127.0.0.1"},
		Environ: func(name string) (string, bool) {
			value, there := map[string]string{"RESERVOIR_SINK_PASSWORD": "secret", "RESERVOIR_SINK_WRONG": "wrong"}[name]
			return value, there
		},
	})
	keep := map[string]any{"ids": "keep", "stream": "{stream}:copy"}
	for _, test := range []struct {
		name     string
		options  map[string]any
		streams  string
		pressure replay.BackPressure
		want     string // "" passes
	}{
		{name: "the source itself", options: map[string]any{}, streams: "a", want: "is replayed"},
		{name: "another source", options: map[string]any{"stream": "b"}, streams: "a b", want: "is replayed"},
		{name: "the source, by another name", options: map[string]any{"url": "redis://localhost:" + port}, streams: "a", want: "not allowed"},
		{name: "the source, by an allowed name", options: map[string]any{"url": "redis://127.0.0.1:" + port + "?db=0"}, streams: "a", want: "is replayed"},
		{name: "the source, allowed", options: map[string]any{"allow_source": true}, streams: "a"},
		{name: "another database", options: map[string]any{"url": "redis://127.0.0.1:" + port + "/3"}, streams: "a"},
		{name: "many into one", options: map[string]any{"stream": "all"}, streams: "a b"},
		{name: "many restored as one", options: map[string]any{"stream": "all", "ids": "keep"}, streams: "a b", want: "would both be restored"},
		{name: "a text", options: map[string]any{"stream": "text"}, streams: "a", want: "not a stream"},
		{name: "a full stream", options: map[string]any{"stream": "full"}, streams: "a", want: "highest ID"},
		{name: "restored into a fresh stream", options: keep, streams: "a"},
		{name: "restored into a stream that was used", options: keep, streams: "used", want: "fresh stream"},
		{name: "restored into a prepared stream", options: keep, streams: "prepared", pressure: replay.BackPressure{Group: "g", MaxLag: 10}},
		{name: "no such group", options: map[string]any{"stream": "x"}, streams: "a", pressure: replay.BackPressure{Group: "g", MaxLag: 10}, want: "no consumer group"},
		{name: "no group", options: map[string]any{"stream": "x"}, streams: "a", pressure: replay.BackPressure{MaxLag: 10}, want: "needs a consumer group"},
		{name: "a secret", options: map[string]any{"url": "redis://reader:${RESERVOIR_SINK_PASSWORD}@127.0.0.1:" + port, "stream": "x"}, streams: "a", want: "XADD"},
		{name: "a secret that is not there", options: map[string]any{"url": "redis://reader:${RESERVOIR_SINK_OTHER}@127.0.0.1:" + port}, streams: "a", want: "RESERVOIR_SINK_OTHER is not set"},
		{name: "somebody's secret", options: map[string]any{"url": "redis://reader:${HOME}@127.0.0.1:" + port}, streams: "a", want: "RESERVOIR_SINK_"},
		{name: "a wrong password", options: map[string]any{"url": "redis://reader:${RESERVOIR_SINK_WRONG}@127.0.0.1:" + port, "stream": "x"}, streams: "a", want: "refused the user"},
		{name: "a password in the clear", options: map[string]any{"url": "redis://reader:secret@127.0.0.1:" + port, "stream": "x"}, streams: "a", want: "url holds a password"},
		{name: "half of one", options: map[string]any{"url": "redis://:half${RESERVOIR_SINK_PASSWORD}@127.0.0.1:" + port, "stream": "x"}, streams: "a", want: "url holds a password"},
		{name: "nobody there", options: map[string]any{"url": "redis://127.0.0.1:1"}, streams: "a", want: replay.ErrUnavailable.Error()},
		{name: "an unknown option", options: map[string]any{"steam": "x"}, streams: "a", want: "steam"},
		{name: "unknown IDs", options: map[string]any{"ids": "old"}, streams: "a", want: "ids"},
		{name: "restored with provenance", options: map[string]any{"ids": "keep", "provenance": true}, streams: "a", want: "provenance"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := openingOf(t, 0, test.options, strings.Fields(test.streams)...)
			o.Replay, o.BackPressure = "", test.pressure
			keys := command(t, addr, "DBSIZE")
			got, err := kind.Check(t.Context(), o)
			if n := command(t, addr, "DBSIZE"); n != keys {
				t.Fatalf("%d keys, there were %d", n, keys)
			}
			switch {
			case test.want == "" && (err != nil || got.Guarantee != replay.ExactlyOnce || !strings.HasPrefix(got.Key, "redis://127.0.0.1:"+port+"/")):
				t.Fatalf("%+v, %v", got, err)
			case test.want == "":
				return
			case err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), ":secret@"):
				t.Fatalf("%+v, %v", got, err)
			case remedy.Of(err) == "" && !errors.Is(err, replay.ErrUnavailable) && !strings.Contains(test.name, "IDs"):
				t.Fatalf("no remedy: %v", err)
			}
		})
	}
	if _, err := sink.NewRedis(sink.RedisOptions{}).Check(t.Context(), openingOf(t, 0, map[string]any{}, "a")); err == nil || remedy.Of(err) == "" {
		t.Fatal(err)
	}
}

func TestRedisWarnings(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{AOF: true, Fsync: "everysec"})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	check := func() []string {
		t.Helper()
		target, err := kind.Check(t.Context(), openingOf(t, 0, map[string]any{"stream": "x"}, "a"))
		if err != nil {
			t.Fatal(err)
		}
		return target.Warnings
	}
	if got := check(); len(got) != 0 {
		t.Fatal(got)
	}
	command(t, server.Addr(), "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	command(t, server.Addr(), "CONFIG", "SET", "appendonly", "no")
	if got := check(); len(got) != 2 {
		t.Fatal(got)
	}
}

func TestRedisPressure(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	s := newStory(3000, "a", "b")
	for _, stream := range s.streams {
		command(t, server.Addr(), "XGROUP", "CREATE", copyOf(stream), "billing", "$", "MKSTREAM")
	}
	o := openingOf(t, 1, map[string]any{"stream": "{stream}:copy"}, s.streams...)
	if err := s.play(t, openRedis(t, kind, o), 1000); err != nil {
		t.Fatal(err)
	}
	command(t, server.Addr(), "XREADGROUP", "GROUP", "billing", "c", "COUNT", 300, "STREAMS", "b:copy", ">")
	command(t, server.Addr(), "XDEL", "a:copy", firstID(t, client, "a:copy", 700))
	for i, test := range []struct {
		bounds replay.BackPressure
		want   string
	}{
		{replay.BackPressure{}, ""},
		{replay.BackPressure{MaxLength: 1500}, ""},
		{replay.BackPressure{MaxLength: 1499}, "stream b:copy has 1,500 entries (bound 1,499)"},
		{replay.BackPressure{Group: "billing", MaxLag: 1400, MaxPending: 299}, "group billing of stream a:copy may be up to 1,499 entries behind (bound 1,400): redis cannot tell its lag until it has read the stream to its end"},
		{replay.BackPressure{Group: "billing", MaxLag: 1499, MaxPending: 299}, "group billing of stream b:copy has 300 entries pending (bound 299)"},
		{replay.BackPressure{Group: "billing", MaxLag: 1500, MaxPending: 300}, ""},
	} {
		o.BackPressure, o.Epoch = test.bounds, uint64(i)+2
		to := openRedis(t, kind, o)
		got, err := to.(replay.Presser).Pressure(t.Context())
		if err != nil || got != test.want {
			t.Errorf("%+v: %q, %v", test.bounds, got, err)
		}
	}
	command(t, server.Addr(), "XREADGROUP", "GROUP", "billing", "c", "STREAMS", "a:copy", ">")
	o.BackPressure, o.Epoch = replay.BackPressure{Group: "billing", MaxLag: 1199}, 20
	to := openRedis(t, kind, o)
	if got, err := to.(replay.Presser).Pressure(t.Context()); err != nil || got != "group billing of stream b:copy is 1,200 entries behind (bound 1,199)" {
		t.Errorf("%q, %v", got, err)
	}
	command(t, server.Addr(), "XGROUP", "DESTROY", "b:copy", "billing")
	if _, err := to.(replay.Presser).Pressure(t.Context()); err == nil || !strings.Contains(remedy.Of(err), "XGROUP CREATE") {
		t.Fatal(err)
	}
}

// firstID gives the ID of the n-th entry of a stream.
func firstID(t *testing.T, client *redisstream.Client, stream string, n int) string {
	t.Helper()
	for e, err := range client.Scan(t.Context(), stream, event.ID{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n--; n == 0 {
			return e.ID.String()
		}
	}
	t.Fatal("there are not so many")
	return ""
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

// startCluster starts three masters that share the slots.
func startCluster(t *testing.T) (addrs []string) {
	t.Helper()
	const slots = 16384
	var buses []int
	for i := range 3 {
		buses = append(buses, busPort(t))
		server := stacktest.Redis(t, stack.RedisOptions{Args: []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", fmt.Sprint(buses[i])}})
		command(t, server.Addr(), "CLUSTER", "ADDSLOTSRANGE", i*slots/3, (i+1)*slots/3-1)
		addrs = append(addrs, server.Addr())
	}
	for i, addr := range addrs[1:] {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		command(t, addrs[0], "CLUSTER", "MEET", host, port, buses[i+1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, addr := range addrs {
		for {
			info := command(t, addr, "CLUSTER", "INFO").(string)
			if strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("the cluster is not ready: %s", info)
			}
		}
	}
	return addrs
}

func TestRedisCluster(t *testing.T) {
	addrs := startCluster(t)
	client := connectRedis(t, redisstream.Config{URL: "redis+cluster://" + addrs[0]})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	var streams []string
	for i := range 100 { // more than there may be connections
		streams = append(streams, fmt.Sprintf("s%d", i))
	}
	s := newStory(5000, streams...)
	for _, ids := range []string{"new", "keep"} {
		target := func(stream string) string { return stream + ":" + ids }
		o := openingOf(t, 1, map[string]any{"stream": "{stream}:" + ids, "ids": ids}, streams...)
		if _, err := kind.Check(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		first := openRedis(t, kind, o)
		if err := first.Write(t.Context(), s.batch(replay.Position{}, 930)); err != nil {
			t.Fatal(err)
		}
		// One stream gets nothing of the next batch, which is written in part only.
		if err := first.Write(t.Context(), s.batch(s.origin(929).Position, 50)); err != nil {
			t.Fatal(err)
		}
		o.Epoch = 2
		second := openRedis(t, kind, o)
		if p, err := second.Position(t.Context()); err != nil || p != s.origin(929).Position {
			t.Fatal(p, err)
		}
		if err := first.Write(t.Context(), s.batch(s.origin(979).Position, 100)); !errors.Is(err, replay.ErrFenced) {
			t.Fatalf("the stale sink: %v", err)
		}
		if err := s.play(t, second, 500); err != nil {
			t.Fatal(err)
		}
		if err := second.(replay.Finisher).Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.want(t, client, target, ids == "new", ids == "keep")
		if err := kind.Clean(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	keys := 0
	for _, addr := range addrs {
		keys += lasting(t, addr)
	}
	if keys != 200 {
		t.Fatalf("%d keys, want 200", keys)
	}
	// Lanes without events move on now and then.
	o := openingOf(t, 3, map[string]any{"stream": "{stream}:idle"}, "x", "y")
	to := openRedis(t, kind, o)
	lone := newStory(600, "x")
	if err := lone.play(t, to, 2); err != nil {
		t.Fatal(err)
	}
	if p, err := to.Position(t.Context()); err != nil || p.IsZero() {
		t.Fatal(p, err)
	}
	for _, name := range []string{"a}b", "{}x"} {
		o := openingOf(t, 1, map[string]any{"stream": name}, "a")
		if _, err := kind.Check(t.Context(), o); err == nil || remedy.Of(err) == "" {
			t.Fatalf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"{tag}x", "a{b", "{{stream}}:copy"} {
		o := openingOf(t, 1, map[string]any{"stream": name}, "a")
		if err := newStory(10, "a").play(t, openRedis(t, kind, o), 5); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	}
}
