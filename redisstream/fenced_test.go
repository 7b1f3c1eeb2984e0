package redisstream_test

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// fencedBatch makes a batch of n events with the values from, from+1, … dealt to
// the streams in turn.
func fencedBatch(from, n int, streams ...string) *redisstream.FencedBatch {
	b := &redisstream.FencedBatch{Events: &event.Batch{}, Streams: streams}
	for i := range n {
		b.Events.Append(newEvent(event.ID{Ms: uint64(from + i + 1)}, "n", fmt.Sprint(from+i)))
		b.Entries = append(b.Entries, redisstream.FencedEntry{Event: i, Stream: i % len(streams)})
	}
	b.Position = func(n int) string { return fmt.Sprint(from + n) }
	return b
}

func openFence(t *testing.T, client *redisstream.Client, epoch uint64, keep bool) *redisstream.FencedWriter {
	t.Helper()
	w, err := client.Fence(t.Context(), redisstream.FenceOptions{Key: "fence", Epoch: epoch, KeepIDs: keep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// values returns the field n of all entries of a stream.
func values(t *testing.T, client *redisstream.Client, stream string) (got []string) {
	t.Helper()
	for _, e := range collect(t, client, stream, redisstream.ReaderOptions{}) {
		v, _ := e.Get("n")
		got = append(got, string(v))
	}
	return got
}

// wantCount fails unless a stream holds the values 0 to n-1.
func wantCount(t *testing.T, client *redisstream.Client, stream string, n int) {
	t.Helper()
	got := values(t, client, stream)
	if len(got) != n {
		t.Fatalf("%d entries, want %d", len(got), n)
	}
	for i, v := range got {
		if v != fmt.Sprint(i) {
			t.Fatalf("entry %d is %s", i, v)
		}
	}
}

func TestFencedWriter(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	w := openFence(t, client, 3, false)
	if w.Position() != "" {
		t.Fatalf("position %q", w.Position())
	}
	for i := range 5 {
		if err := w.Write(t.Context(), fencedBatch(i*100, 100, "s"), nil); err != nil {
			t.Fatal(err)
		}
	}
	w.Rest()
	if err := w.Write(t.Context(), fencedBatch(500, 1, "s"), nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := w.Write(t.Context(), fencedBatch(501, 1, "s"), nil); err == nil {
		t.Fatal("a closed writer writes")
	}
	wantCount(t, client, "s", 501)
	if w := openFence(t, client, 3, false); w.Position() != "501" {
		t.Fatalf("position %q", w.Position())
	}
	if _, err := client.Fence(t.Context(), redisstream.FenceOptions{Key: "fence", Epoch: 2}); !errors.Is(err, redisstream.ErrFenced) {
		t.Fatalf("a lower epoch: %v", err)
	}
	if err := client.EndFence(t.Context(), redisstream.FenceOptions{Key: "fence", Epoch: 9}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := rawClient(t, server.Addr()).do(t, "TTL", "fence").(int64); n <= 0 || n > 3600 {
		t.Fatalf("the key expires after %d s", n)
	}
	if _, err := client.Fence(t.Context(), redisstream.FenceOptions{Key: "fence", Epoch: 8}); !errors.Is(err, redisstream.ErrFenced) {
		t.Fatalf("a lower epoch, after the end: %v", err)
	}
}

// A writer that was taken over writes nothing, whatever it had ready, and
// whether the new one has written or not.
func TestFencedWriterIsFenced(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	for _, test := range []struct {
		name  string
		epoch uint64 // of the new writer: the same one comes again after a failure
		ahead bool
		write bool
		rest  bool
	}{
		{name: "plain", epoch: 2},
		{name: "same epoch", epoch: 1},
		{name: "after the new one wrote", epoch: 2, write: true},
		{name: "sent ahead", epoch: 2, ahead: true},
		{name: "sent ahead, same epoch", epoch: 1, ahead: true, write: true},
		{name: "connected again", epoch: 2, rest: true, write: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			rawClient(t, server.Addr()).do(t, "FLUSHALL")
			client := connect(t, redisstream.Config{URL: server.URL()})
			stale := openFence(t, client, 1, false)
			second := fencedBatch(10, 10, "s")
			next := func() *redisstream.FencedBatch {
				if test.ahead {
					return second
				}
				return nil
			}
			if err := stale.Write(t.Context(), fencedBatch(0, 10, "s"), next); err != nil {
				t.Fatal(err)
			}
			if test.rest {
				stale.Rest()
			}
			fresh := openFence(t, client, test.epoch, false)
			if fresh.Position() != "10" {
				t.Fatalf("position %q", fresh.Position())
			}
			want := 10
			if test.write {
				if err := fresh.Write(t.Context(), fencedBatch(10, 5, "s"), nil); err != nil {
					t.Fatal(err)
				}
				want = 15
			}
			err := stale.Write(t.Context(), second, nil)
			lost := redisstream.ErrFenced
			if test.epoch == 1 {
				lost = redisstream.ErrCheckpointLost
			}
			if !errors.Is(err, lost) {
				t.Fatalf("the stale writer: %v", err)
			}
			wantCount(t, client, "s", want)
			if err := fresh.Write(t.Context(), fencedBatch(want, 5, "s"), nil); err != nil {
				t.Fatal(err)
			}
			wantCount(t, client, "s", want+5)
		})
	}
}

// What was sent ahead is added by its own Write only.
func TestFencedWriterAhead(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	for _, keep := range []bool{false, true} {
		rawClient(t, server.Addr()).do(t, "FLUSHALL")
		w := openFence(t, client, 1, keep)
		var batches []*redisstream.FencedBatch
		for i := range 50 {
			// Streams change, so that new ones have to be looked at as well.
			batches = append(batches, fencedBatch(i*100, 100, fmt.Sprint("s", i/5%7)))
		}
		for i, b := range batches {
			next := func() *redisstream.FencedBatch {
				if i+1 == len(batches) || i%10 == 3 {
					return nil
				}
				return batches[i+1]
			}
			if err := w.Write(t.Context(), b, next); err != nil {
				t.Fatal(err)
			}
		}
		total := 0
		for i := range 7 {
			total += len(values(t, client, fmt.Sprint("s", i)))
		}
		if total != 5000 {
			t.Fatalf("%d entries", total)
		}
		// Another batch than the one that was sent ahead, and none.
		ahead := func() *redisstream.FencedBatch { return fencedBatch(9000, 10, "other") }
		for i := range 2 {
			if err := w.Write(t.Context(), fencedBatch(5000+i*10, 10, "s"), ahead); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		if n := rawClient(t, server.Addr()).do(t, "EXISTS", "other").(int64); n != 0 {
			t.Fatal("a batch that was sent ahead was added")
		}
		if got := values(t, client, "s"); len(got) != 20 || got[19] != "5019" {
			t.Fatal(got)
		}
	}
}

func TestFencedWriterRefusals(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	for _, test := range []struct {
		name   string
		spoil  func()
		repair func()
		want   error
	}{
		{"another type", func() { raw.do(t, "SET", "s", "text") }, func() { raw.do(t, "DEL", "s") }, redisstream.ErrNotStream},
		{"out of memory", func() { raw.do(t, "CONFIG", "SET", "maxmemory", 1) }, func() { raw.do(t, "CONFIG", "SET", "maxmemory", 0) }, redisstream.ErrNotNow},
		{"a replica", func() { raw.do(t, "REPLICAOF", "127.0.0.1", 1) }, func() { raw.do(t, "REPLICAOF", "NO", "ONE") }, redisstream.ErrReadOnly},
		{"lost", func() { raw.do(t, "DEL", "fence") }, func() {}, redisstream.ErrCheckpointLost},
		{"changed", func() { raw.do(t, "HSET", "fence", "fence", "1 other 17") }, func() {}, redisstream.ErrCheckpointLost},
		{"a higher epoch", func() { raw.do(t, "HSET", "fence", "fence", "9 other 17") }, func() {}, redisstream.ErrFenced},
	} {
		t.Run(test.name, func(t *testing.T) {
			raw.do(t, "FLUSHALL")
			w := openFence(t, client, 1, false)
			if err := w.Write(t.Context(), fencedBatch(0, 10, "other"), nil); err != nil {
				t.Fatal(err)
			}
			test.spoil()
			err := w.Write(t.Context(), fencedBatch(10, 10, "s"), nil)
			test.repair()
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if n := raw.do(t, "EXISTS", "s").(int64); n != 0 {
				t.Fatal("something was added")
			}
			if err := w.Write(t.Context(), fencedBatch(10, 10, "s"), nil); err == nil {
				t.Fatal("a writer is alive after an error")
			}
		})
	}
}

// An entry that Redis refuses in the midst of a transaction puts the position
// back to before it.
func TestFencedWriterPutsBack(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	// The stream has room for three more IDs.
	raw.do(t, "XADD", "full", fmt.Sprintf("%d-%d", uint64(math.MaxUint64), uint64(math.MaxUint64-3)), "n", "x")
	w := openFence(t, client, 1, false)
	if err := w.Write(t.Context(), fencedBatch(0, 10, "s"), nil); err != nil {
		t.Fatal(err)
	}
	err := w.Write(t.Context(), fencedBatch(10, 10, "full"), nil)
	partial, ok := errors.AsType[*redisstream.PartialError](err)
	if !ok || partial.Added != 3 || len(partial.Refused) != 7 || partial.Refused[0] != 3 || partial.Stream != "full" || partial.PutBack != nil {
		t.Fatalf("%+v, %v", partial, err)
	}
	if w := openFence(t, client, 2, false); w.Position() != "13" {
		t.Fatalf("position %q", w.Position())
	}
	// Two streams: what was added after the first refused entry is told.
	w = openFence(t, client, 3, false)
	err = w.Write(t.Context(), fencedBatch(13, 10, "full", "s"), nil)
	partial, ok = errors.AsType[*redisstream.PartialError](err)
	if !ok || partial.Added != 5 || partial.Refused[0] != 0 || !strings.Contains(err.Error(), "5 were added after it") {
		t.Fatalf("%+v, %v", partial, err)
	}
	if w := openFence(t, client, 4, false); w.Position() != "13" {
		t.Fatalf("position %q", w.Position())
	}
}

func TestFencedWriterRestores(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	w := openFence(t, client, 1, true)
	for i := range 3 {
		if err := w.Write(t.Context(), fencedBatch(i*10, 10, "a", "b"), nil); err != nil {
			t.Fatal(err)
		}
	}
	w = openFence(t, client, 2, true)
	if w.Last("a") != (event.ID{Ms: 29}) || w.Last("b") != (event.ID{Ms: 30}) || w.Last("c") != (event.ID{}) {
		t.Fatal(w.Last("a"), w.Last("b"), w.Last("c"))
	}
	if err := w.Write(t.Context(), fencedBatch(30, 10, "a", "b"), nil); err != nil {
		t.Fatal(err)
	}
	// A reader's group does no harm, nor does one that reads.
	raw.do(t, "XGROUP", "CREATE", "a", "g", 0)
	raw.do(t, "XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", ">")
	if err := w.Write(t.Context(), fencedBatch(40, 10, "a", "b"), nil); err != nil {
		t.Fatal(err)
	}
	if err := w.SetID(t.Context(), "a", event.ID{Ms: 99}, 77, event.ID{}); err != nil {
		t.Fatal(err)
	}
	info, err := client.Info(t.Context(), "a")
	if err != nil || info.LastGeneratedID != (event.ID{Ms: 99}) || info.EntriesAdded != 77 || info.Length != 25 {
		t.Fatalf("%+v, %v", info, err)
	}
	// Somebody else adds an entry in between.
	raw.do(t, "XADD", "b", "60-1", "n", "foreign")
	err = w.Write(t.Context(), fencedBatch(100, 10, "a", "b"), nil)
	if !errors.Is(err, redisstream.ErrForeign) || !strings.Contains(err.Error(), "60-1") {
		t.Fatal(err)
	}
	if _, err := client.Fence(t.Context(), redisstream.FenceOptions{Key: "fence", Epoch: 1}); !errors.Is(err, redisstream.ErrFenced) {
		t.Fatal(err)
	}
	if n := raw.do(t, "XLEN", "a").(int64); n != 25 {
		t.Fatalf("%d entries", n)
	}
}

// TestFencedWriterIsTouched: what changes a stream that is restored, and adds
// nothing to it, delays the restore, and fails it only if it goes on.
func TestFencedWriterIsTouched(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	w := openFence(t, client, 1, true)
	if err := w.Write(t.Context(), fencedBatch(0, 10, "a"), nil); err != nil {
		t.Fatal(err)
	}
	tries := 0
	touched := func(from, times int) *redisstream.FencedBatch {
		b := fencedBatch(from, 10, "a")
		position := b.Position
		b.Position = func(n int) string { // the stream is watched by now
			if tries++; tries <= times {
				raw.do(t, "PEXPIRE", "a", 1e6+tries)
			}
			return position(n)
		}
		return b
	}
	if err := w.Write(t.Context(), touched(10, 8), nil); err != nil || tries != 9 {
		t.Fatalf("%d tries: %v", tries, err)
	}
	wantCount(t, client, "a", 20)
	tries = 0
	err := w.Write(t.Context(), touched(20, math.MaxInt), nil)
	if !errors.Is(err, redisstream.ErrNotNow) || !strings.Contains(err.Error(), `"a"`) {
		t.Fatalf("%d tries: %v", tries, err)
	}
	t.Log(err)
	wantCount(t, client, "a", 20)
	if w = openFence(t, client, 2, true); w.Position() != "20" {
		t.Fatal(w.Position())
	}
	if err := w.Write(t.Context(), fencedBatch(20, 10, "a"), nil); err != nil {
		t.Fatal(err)
	}
	wantCount(t, client, "a", 30)
}

// TestFenceKnown: a key that is not there any more is not made anew.
func TestFenceKnown(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	known := redisstream.FenceOptions{Key: "fence", Epoch: 2, Known: true}
	for range 2 {
		if _, err := client.Fence(t.Context(), known); !errors.Is(err, redisstream.ErrCheckpointLost) {
			t.Fatal(err)
		}
		if n := raw.do(t, "EXISTS", "fence").(int64); n != 0 {
			t.Fatal("the key was written")
		}
	}
	openFence(t, client, 1, false).Close()
	w, err := client.Fence(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}

func TestTryFence(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{ACL: []string{
		"user full on >secret ~orders* ~reservoir:* +@all",
		"user lacking on >secret ~orders* ~reservoir:* +@all -xadd",
	}})
	client := func(user string) *redisstream.Client {
		return connect(t, redisstream.Config{Addrs: []string{server.Addr()}, Username: user, Password: "secret"})
	}
	raw := rawClient(t, server.Addr())
	for _, keep := range []bool{false, true} {
		opts := redisstream.FenceOptions{Key: "reservoir:replay:x", KeepIDs: keep}
		if err := client("full").TryFence(t.Context(), opts, []string{"orders", "orders:copy"}); err != nil {
			t.Fatal(err)
		}
		err := client("lacking").TryFence(t.Context(), opts, []string{"orders"})
		if denied, ok := errors.AsType[*redisstream.PermissionError](err); !ok || denied.Command != "xadd" {
			t.Fatal(err)
		}
		if err := client("full").TryFence(t.Context(), opts, []string{"orders", "payments"}); !errors.Is(err, redisstream.ErrPermission) {
			t.Fatal(err)
		}
		opts.Key = "elsewhere"
		if err := client("full").TryFence(t.Context(), opts, []string{"orders"}); !errors.Is(err, redisstream.ErrPermission) {
			t.Fatal(err)
		}
	}
	if n := raw.do(t, "DBSIZE").(int64); n != 0 {
		t.Fatalf("%d keys were made", n)
	}
}

func TestBacklogs(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	fill(t, client, "s", 10)
	raw.do(t, "XGROUP", "CREATE", "s", "g", 0)
	raw.do(t, "XREADGROUP", "GROUP", "g", "c", "COUNT", 4, "STREAMS", "s", ">")
	middle := collect(t, client, "s", redisstream.ReaderOptions{})[4].ID
	raw.do(t, "XGROUP", "CREATE", "s", "midst", middle.String())
	for _, test := range []struct {
		group string
		want  redisstream.Backlog
	}{
		{"", redisstream.Backlog{Length: 10}},
		{"none", redisstream.Backlog{Length: 10}},
		{"g", redisstream.Backlog{Length: 10, Grouped: true, Lag: 6, Pending: 4}},
		{"midst", redisstream.Backlog{Length: 10, Grouped: true, Lag: 10, LagUnknown: true}},
	} {
		got, err := client.Backlogs(t.Context(), []string{"none", "s"}, test.group)
		if err != nil || len(got) != 2 || got[0] != (redisstream.Backlog{}) || got[1] != test.want {
			t.Fatalf("%q: %+v, %v", test.group, got, err)
		}
	}
	raw.do(t, "SET", "text", "x")
	if _, err := client.Backlogs(t.Context(), []string{"s", "text"}, "g"); !errors.Is(err, redisstream.ErrNotStream) {
		t.Fatal(err)
	}
}

// With connections that break at any byte, of requests and replies, and a new
// writer after each, every entry is there once and in order.
func TestFencedWritesThatBreak(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	direct := connect(t, redisstream.Config{URL: server.URL()})
	addr := badNetwork(t, server.Addr(), 12_000)
	client := connectAtLast(t, addr)
	const total, size = 6000, 100
	broken, epoch := 0, uint64(0)
	for done := 0; done < total; {
		if broken++; broken > 1000 {
			t.Fatal("no progress")
		}
		epoch++
		w, err := client.Fence(t.Context(), redisstream.FenceOptions{Key: "fence", Epoch: epoch})
		if err != nil {
			if !errors.Is(err, redisstream.ErrUnreachable) {
				t.Fatal(err)
			}
			continue
		}
		done = 0
		if text := w.Position(); text != "" {
			if done, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		}
		b := fencedBatch(done, size, "s")
		for err == nil && done < total {
			var ahead *redisstream.FencedBatch
			err = w.Write(t.Context(), b, func() *redisstream.FencedBatch {
				ahead = fencedBatch(done+size, size, "s")
				return ahead
			})
			if err == nil {
				done += size
				b = ahead
			}
		}
		w.Close()
		if err != nil && !errors.Is(err, redisstream.ErrUnreachable) {
			t.Fatal(err)
		}
	}
	if broken < 5 {
		t.Fatal("hardly a connection broke: the test shows nothing")
	}
	t.Logf("%d writers", broken)
	wantCount(t, direct, "s", total)
}

// A server that is killed loses entries and position alike.
func TestFencedWritesWhenRedisIsKilled(t *testing.T) {
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			server := stacktest.Redis(t, stack.RedisOptions{AOF: true, Fsync: fsync})
			done, epoch := 0, uint64(0)
			const rounds, size = 6, 50
			for range rounds {
				client := connect(t, redisstream.Config{URL: server.URL()})
				epoch++
				w := openFence(t, client, epoch, false)
				at := 0
				if text := w.Position(); text != "" {
					var err error
					if at, err = strconv.Atoi(text); err != nil {
						t.Fatal(err)
					}
				}
				if fsync == "always" && at < done {
					t.Fatalf("the position is %d, %d were written", at, done)
				}
				if at > 0 {
					wantCount(t, client, "s", at)
				}
				killed := make(chan error, 1)
				for n := 0; ; n++ {
					if n == 20 {
						go func() { killed <- server.Kill() }()
					}
					err := w.Write(t.Context(), fencedBatch(at, size, "s"), nil)
					if err != nil {
						if !errors.Is(err, redisstream.ErrUnreachable) {
							t.Fatal(err)
						}
						break
					}
					at += size
				}
				done = at
				if err := <-killed; err != nil {
					t.Fatal(err)
				}
				if err := server.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestFencedWriterInCluster(t *testing.T) {
	nodes, addrs := cluster(t)
	client := connect(t, redisstream.Config{URL: "redis+cluster://" + addrs[1]})
	if !client.Clustered() {
		t.Fatal("no cluster")
	}
	var writers []*redisstream.FencedWriter
	for i := range 12 {
		w, err := client.Fence(t.Context(), redisstream.FenceOptions{Key: fmt.Sprintf("f:{s%d}", i), Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		writers = append(writers, w)
	}
	write := func(round, i int) error {
		return writers[i].Write(t.Context(), fencedBatch(round*10, 10, fmt.Sprintf("{s%d}", i)), nil)
	}
	for round := range 3 {
		for i := range writers {
			if err := write(round, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Every slot moves to the next node, with what it holds: by then the writers
	// are told where, and go on.
	for i := range writers {
		eventually(t, func() error { return agree(t, nodes) })
		name := fmt.Sprintf("{s%d}", i)
		slot := nodes[0].do(t, "CLUSTER", "KEYSLOT", name).(int64)
		from := int(slot) * 3 / 16384
		source, target := nodes[from], nodes[(from+1)%3]
		sourceID, targetID := source.do(t, "CLUSTER", "MYID").(string), target.do(t, "CLUSTER", "MYID").(string)
		target.do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", sourceID)
		source.do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", targetID)
		host, port, err := net.SplitHostPort(target.Options().Addr)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 { // one key is there, the other one here
			source.do(t, "MIGRATE", host, port, name, 0, 5000)
			if err := write(3, i); !errors.Is(err, redisstream.ErrNotNow) {
				t.Fatalf("in the midst of it: %v", err)
			}
			source.do(t, "MIGRATE", host, port, "f:"+name, 0, 5000)
		} else {
			source.do(t, "MIGRATE", host, port, "", 0, 5000, "KEYS", name, "f:"+name)
		}
		eventually(t, func() error { // gossip may disagree with what one node was told
			for _, node := range []*commands{target, source, nodes[(from+2)%3]} {
				node.do(t, "CLUSTER", "SETSLOT", slot, "NODE", targetID)
			}
			for _, node := range nodes {
				err := node.Do(t.Context(), "EXISTS", name).Err()
				if node == target && err != nil || node != target && (err == nil || !strings.Contains(err.Error(), target.Options().Addr)) {
					return fmt.Errorf("slot %d is not settled: %w", slot, err)
				}
			}
			return nil
		})
		if i == 0 { // as after every error, a new writer finds out
			if writers[0], err = client.Fence(t.Context(), redisstream.FenceOptions{Key: "f:" + name, Epoch: 2}); err != nil || writers[0].Position() != "30" {
				t.Fatalf("position %q, %v", writers[0].Position(), err)
			}
			defer writers[0].Close()
		}
	}
	eventually(t, func() error { return agree(t, nodes) })
	for i := range writers {
		epoch := uint64(10)
		eventually(t, func() error { // nodes may send the writer to and fro for a moment
			err := write(3, i)
			if !errors.Is(err, redisstream.ErrNotNow) {
				return err
			}
			epoch++
			w, openErr := client.Fence(t.Context(), redisstream.FenceOptions{Key: fmt.Sprintf("f:{s%d}", i), Epoch: epoch})
			if openErr == nil {
				writers[i].Close()
				writers[i] = w
			}
			return errors.Join(err, openErr)
		})
		writers[i].Close()
		wantCount(t, client, fmt.Sprintf("{s%d}", i), 40)
	}
}

// agree tells whether the nodes of a cluster know the same of each other. A slot that
// moves before they do may be lost by its new owner, whose epoch is not the highest.
func agree(t *testing.T, nodes []*commands) error {
	t.Helper()
	var first string
	for i, node := range nodes {
		var known []string
		for line := range strings.Lines(node.do(t, "CLUSTER", "NODES").(string)) {
			fields := strings.Fields(line)
			known = append(known, fmt.Sprint(fields[0], " epoch ", fields[6], " slots ", fields[8:]))
		}
		slices.Sort(known)
		switch all := strings.Join(known, "\n"); {
		case i == 0:
			first = all
		case all != first:
			return fmt.Errorf("nodes disagree:\n%s\nand\n%s", first, all)
		}
	}
	return nil
}
