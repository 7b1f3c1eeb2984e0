package redisstream_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// Match agrees with Redis on names and patterns that are as odd as can be.
func TestMatchAsRedisDoes(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	raw := rawClient(t, server.Addr())
	odd := rapid.StringOfN(rapid.SampledFrom([]rune(`ab-^*?[]\`)), 1, 8, -1)
	rapid.Check(t, func(t *rapid.T) {
		name, pattern := odd.Draw(t, "name"), odd.Draw(t, "pattern")
		raw.do(t, "FLUSHALL")
		raw.do(t, "SET", name, "1")
		want := len(raw.do(t, "KEYS", pattern).([]any)) == 1
		if got := redisstream.Match(pattern, name); got != want {
			t.Fatalf("Match(%q, %q) = %v, Redis says %v", pattern, name, got, want)
		}
	})
}

func TestDiscover(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	for i := range 2500 {
		raw.do(t, "XADD", fmt.Sprintf("shop:%d", i), "*", "a", "b")
		raw.do(t, "SET", fmt.Sprintf("shop:text:%d", i), "no stream")
	}
	raw.do(t, "XADD", "other", "*", "a", "b")
	for _, test := range []struct {
		include, exclude []string
		want             int
	}{
		{[]string{"shop:*"}, nil, 2500},
		{[]string{"shop:*"}, []string{"shop:?", "shop:77"}, 2489},
		{[]string{"shop:1", "shop:*", "shop:1", "other", "later"}, []string{"other"}, 2501},
		{[]string{"shop:1*", "shop:*9", "*"}, nil, 2501},
		{[]string{"later", "shop:3"}, nil, 2},
		{[]string{"nothing*"}, nil, 0},
		{nil, nil, 0},
	} {
		seen := map[string]bool{}
		for name, err := range client.Discover(t.Context(), test.include, test.exclude) {
			if err != nil || seen[name] || !redisstream.Selected(name, test.include, test.exclude) {
				t.Fatalf("%v: %q, %v", test, name, err)
			}
			seen[name] = true
		}
		if len(seen) != test.want {
			t.Errorf("%v: %d streams", test, len(seen))
		}
	}
	for name, err := range client.Discover(t.Context(), []string{"*"}, nil) {
		if err != nil {
			t.Fatal(name, err)
		}
		break // which releases everything
	}
}

func TestMirrorHead(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	if err := client.MirrorHead(t.Context(), "s", "g", event.ID{Ms: 1}, 1); !errors.Is(err, redisstream.ErrNoStream) {
		t.Fatalf("no stream: %v", err)
	}
	if _, err := client.Groups(t.Context(), "s"); !errors.Is(err, redisstream.ErrNoStream) {
		t.Fatalf("no stream: %v", err)
	}
	for i := range 10 {
		store(t, client, "s", newEvent(event.ID{Ms: uint64(i) + 1}, "a", "b"))
	}
	for _, head := range []uint64{0, 4, 10, 7} {
		if err := client.MirrorHead(t.Context(), "s", "g", event.ID{Ms: head}, head); err != nil {
			t.Fatal(err)
		}
		groups, err := client.Groups(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		want := redisstream.Group{Name: "g", LastDeliveredID: event.ID{Ms: head}, Lag: 10 - int64(head)}
		if len(groups) != 1 || groups[0] != want {
			t.Fatalf("got %+v, want %+v", groups, want)
		}
	}
}

// Whatever groups and bounds there are, nothing is trimmed that one of them
// needs, and all but a block of the rest is.
func TestTrimKeepsWhatIsNeeded(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{Args: []string{"--stream-node-max-entries", "10"}})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	now := time.Now().UnixMilli()
	streams := 0
	rapid.Check(t, func(t *rapid.T) {
		streams++
		name := fmt.Sprintf("trim:%d", streams)
		n := rapid.IntRange(1, 200).Draw(t, "length")
		// One entry a minute, the last one minute ago; sequences beyond 53 bits.
		ids := make([]event.ID, n)
		for i := range n {
			ids[i] = event.ID{Ms: uint64(now - int64(n-i)*60_000), Seq: 1<<63 + uint64(i)}
			raw.do(t, "XADD", name, ids[i].String(), "a", "b")
		}
		spec := redisstream.TrimSpec{CommittedHead: rapid.SampledFrom(ids).Draw(t, "head")}
		keep := spec.CommittedHead
		lower := func(id event.ID) {
			if id.Less(keep) {
				keep = id
			}
		}
		if minutes := rapid.IntRange(0, n).Draw(t, "retain"); minutes > 0 {
			// Half a minute is more than the test takes.
			spec.RetainFor = time.Duration(minutes)*time.Minute + 30*time.Second
			lower(ids[n-minutes])
		}
		if rapid.Bool().Draw(t, "bounded") {
			spec.MinID = rapid.SampledFrom(ids).Draw(t, "min")
			lower(spec.MinID)
		}
		for g := range rapid.IntRange(0, 2).Draw(t, "groups") {
			start := rapid.SampledFrom(append([]event.ID{{}}, ids...)).Draw(t, "start")
			raw.do(t, "XGROUP", "CREATE", name, g, start.String())
			count := rapid.IntRange(0, n).Draw(t, "read")
			last := start
			for i, id := range ids {
				if start.Less(id) && count > 0 {
					raw.do(t, "XREADGROUP", "GROUP", g, "c", "COUNT", 1, "STREAMS", name, ">")
					last = id
					count--
					if rapid.Bool().Draw(t, "ack") {
						raw.do(t, "XACK", name, g, ids[i].String())
					} else {
						lower(id)
					}
				}
			}
			lower(last)
		}
		trimmed, err := client.Trim(t.Context(), name, spec)
		if err != nil {
			t.Fatal(err)
		}
		info, err := client.Info(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if keep.Less(info.FirstID) && info.FirstID != ids[0] {
			t.Fatalf("the first entry is %s, %s was needed", info.FirstID, keep)
		}
		removable := 0
		for _, id := range ids {
			if id.Less(keep) {
				removable++
			}
		}
		if int(trimmed) != n-int(info.Length) || removable-int(trimmed) >= 10 {
			t.Fatalf("trimmed %d of %d, %d left", trimmed, removable, info.Length)
		}
		raw.do(t, "DEL", name)
	})
}

func TestTrimInSteps(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	fill(t, client, "s", 35_000)
	info, err := client.Info(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	n, err := client.Trim(t.Context(), "s", redisstream.TrimSpec{CommittedHead: info.LastID, RetainFor: time.Hour})
	if err != nil || n != 0 {
		t.Fatalf("trimmed %d entries of the last hour, %v", n, err)
	}
	another := redisstream.TrimSpec{CommittedHead: info.LastID.Next()}
	if n, err = client.Trim(t.Context(), "s", another); err != nil || n != 0 {
		t.Fatalf("trimmed %d of a stream that does not hold the head, %v", n, err)
	}
	n, err = client.Trim(t.Context(), "s", redisstream.TrimSpec{CommittedHead: info.LastID})
	if err != nil || n < 34_900 || n > 34_999 {
		t.Fatalf("trimmed %d, %v", n, err)
	}
	if n, err = client.Trim(t.Context(), "none", redisstream.TrimSpec{CommittedHead: info.LastID}); err != nil || n != 0 {
		t.Fatalf("no stream: %d, %v", n, err)
	}
}

func TestWriter(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	var b event.Batch
	var want []*event.Event
	for i := range 2500 {
		e := newEvent(event.ID{Ms: uint64(i) + 1}, "v", fmt.Sprint(i))
		want = append(want, e)
		b.Append(e)
	}
	w, err := client.Writer(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	add := func(from, to int) (int, error) {
		t.Helper()
		return w.Add(t.Context(), &b, from, to, true)
	}
	if n, err := add(0, 1500); n != 1500 || err != nil {
		t.Fatal(n, err)
	}
	n, err := add(0, 2500)
	low, ok := errors.AsType[*redisstream.IDTooLowError](err)
	if n != 1000 || !ok || !errors.Is(err, redisstream.ErrIDTooLow) ||
		*low != (redisstream.IDTooLowError{First: event.ID{Ms: 1}, Last: event.ID{Ms: 1500}, Rejected: 1500}) {
		t.Fatal(n, err)
	}
	sameEvents(t, collect(t, client, "s", redisstream.ReaderOptions{}), want)

	// Out of memory: nothing of the transaction, and nothing after it.
	raw.do(t, "CONFIG", "SET", "maxmemory", 1)
	if n, err := w.Add(t.Context(), &b, 0, b.Len(), false); n != 0 || err == nil {
		t.Fatal(n, err)
	}
	raw.do(t, "CONFIG", "SET", "maxmemory", 0)
	if n := raw.do(t, "XLEN", "s").(int64); n != 2500 {
		t.Fatalf("%d entries", n)
	}
	if n, err := w.Add(t.Context(), &b, 0, 10, false); n != 10 || err != nil {
		t.Fatal(n, err)
	}

	b.Begin(event.ID{Ms: 9000}) // no fields: Redis has no such entries
	if n, err := add(2500, 2501); n != 0 || err == nil {
		t.Fatal(n, err)
	}
	raw.do(t, "SET", "text", "no stream")
	other, err := client.Writer(t.Context(), "text")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if n, err := other.Add(t.Context(), &b, 0, 1, true); n != 0 || !errors.Is(err, redisstream.ErrNotStream) {
		t.Fatal(n, err)
	}
}

func TestSetID(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	last, deleted := event.ID{Ms: 50, Seq: 2}, event.ID{Ms: 30}
	if err := client.SetID(t.Context(), "s", last, 100, deleted); !errors.Is(err, redisstream.ErrNoStream) {
		t.Fatalf("no stream: %v", err)
	}
	store(t, client, "s", newEvent(event.ID{Ms: 40}, "a", "b"))
	if err := client.SetID(t.Context(), "s", last, 100, deleted); err != nil {
		t.Fatal(err)
	}
	want := redisstream.Info{Length: 1, EntriesAdded: 100, LastGeneratedID: last, MaxDeletedID: deleted, FirstID: event.ID{Ms: 40}, LastID: event.ID{Ms: 40},
		LastDigest: event.Digest(newEvent(event.ID{}, "a", "b"))}
	if info, err := client.Info(t.Context(), "s"); err != nil || info != want {
		t.Fatalf("%+v, %v, want %+v", info, err, want)
	}
	if err := client.SetID(t.Context(), "s", event.ID{Ms: 39}, 100, deleted); !errors.Is(err, redisstream.ErrIDTooLow) {
		t.Fatalf("a lower ID: %v", err)
	}
}
