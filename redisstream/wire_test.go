package redisstream_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// Whatever is added comes back the same, in order, by every way of reading.
func TestEntriesComeBackUnchanged(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	text := rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 0, 40),
		rapid.SampledFrom([][]byte{nil, {0}, {0xff, 0xfe}, []byte("\r\n"), []byte("name"), []byte("$5\r\n*2\r\n"), []byte("-ERR no")}),
	)
	streams := 0
	rapid.Check(t, func(t *rapid.T) {
		streams++
		name := fmt.Sprintf("wire:%d", streams)
		var events []*event.Event
		var b event.Batch
		id := event.ID{}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			id = event.ID{Ms: id.Ms + rapid.Uint64Range(0, 3).Draw(t, "ms"), Seq: id.Seq + rapid.Uint64Range(1, 3).Draw(t, "seq")}
			e := &event.Event{ID: id}
			for range rapid.IntRange(1, 8).Draw(t, "fields") {
				e.Fields = append(e.Fields, event.Field{Name: text.Draw(t, "name"), Value: text.Draw(t, "value")})
			}
			events = append(events, e)
			b.Append(e)
		}
		w, err := client.Writer(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if n, err := w.Add(t.Context(), &b, 0, b.Len(), true); err != nil || n != b.Len() {
			t.Fatal(n, err)
		}
		i := 0
		for e, err := range client.Scan(t.Context(), name, event.ID{}) {
			if err != nil || !e.Equal(events[i]) {
				t.Fatalf("event %d is %v, want %v (%v)", i, e, events[i], err)
			}
			got, found, err := client.Get(t.Context(), name, e.ID)
			if err != nil || !found || !got.Equal(events[i]) {
				t.Fatalf("Get %s: %v, want %v (%v)", e.ID, got, events[i], err)
			}
			i++
		}
		if i != len(events) {
			t.Fatalf("%d events, want %d", i, len(events))
		}
		raw.do(t, "DEL", name)
	})
}

func TestExtremeEntries(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	many := newEvent(event.ID{Ms: 3})
	for i := range 10_000 {
		many.Fields = append(many.Fields, event.Field{Name: fmt.Appendf(nil, "field %d", i%5000), Value: fmt.Append(nil, i)})
	}
	events := []*event.Event{
		newEvent(event.ID{Seq: 1}, "", ""),
		newEvent(event.ID{Ms: 2}, "large", filler(10<<20), "after", "it"),
		many,
		newEvent(event.ID{Ms: 4}, "a", "1", "a", "2", "\x00", "\xff"),
		newEvent(event.MaxID, "the", "last"),
	}
	store(t, client, "extreme", events...)
	sameEvents(t, collect(t, client, "extreme", redisstream.ReaderOptions{}), events)
	sameEvents(t, collect(t, client, "extreme", redisstream.ReaderOptions{MaxCount: 1}), events)
	sameEvents(t, collect(t, client, "extreme", redisstream.ReaderOptions{Until: event.ID{Ms: 3}}), events[:3])
	sameEvents(t, collect(t, client, "extreme", redisstream.ReaderOptions{Until: event.ID{Ms: 3, Seq: 7}, MaxCount: 1}), events[:3])

	r, err := client.Reader(t.Context(), "extreme", redisstream.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b event.Batch
	snap, err := r.Read(t.Context(), event.MaxID, &b)
	if err != nil || b.Len() != 0 || !snap.AtEnd || !snap.HasInfo {
		t.Fatalf("after the highest ID: %d events, %+v, %v", b.Len(), snap, err)
	}
	want := redisstream.Info{
		Length: 5, EntriesAdded: 5, LastGeneratedID: event.MaxID, FirstID: event.ID{Seq: 1}, LastID: event.MaxID, LastDigest: event.Digest(events[4]),
	}
	if snap.Info != want {
		t.Fatalf("info %+v, want %+v", snap.Info, want)
	}
	if info, err := client.Info(t.Context(), "extreme"); err != nil || info != want {
		t.Fatalf("info %+v, %v, want %+v", info, err, want)
	}
	if _, found, err := client.Get(t.Context(), "extreme", event.ID{Ms: 9}); found || err != nil {
		t.Fatal(found, err)
	}
	asked := []event.ID{{Ms: 9}, {}, event.MaxID}
	digests := []string{"", "", event.Digest(events[4])}
	for _, e := range events {
		asked, digests = append(asked, e.ID), append(digests, event.Digest(e))
	}
	names := slices.Repeat([]string{"extreme"}, len(asked))
	infos, err := client.InfosAt(t.Context(), append(names, "none"), append(asked, event.ID{Ms: 1}))
	if err != nil || !errors.Is(infos[len(asked)].Err, redisstream.ErrNoStream) {
		t.Fatalf("%+v, %v", infos, err)
	}
	for i, id := range asked {
		if got := infos[i]; got.Err != nil || got.Info != want || got.Digest != digests[i] {
			t.Errorf("at %s: %+v, want %+v and the digest %q", id, got, want, digests[i])
		}
	}
}

// Entries that are suddenly large are all read, and neither they nor the length
// of the stream decide how much memory a batch takes.
func TestBatchesStayBounded(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	var events []*event.Event
	add := func(n, size int) {
		for range n {
			events = append(events, newEvent(event.ID{Ms: uint64(len(events)) + 1}, "value", filler(size)))
		}
	}
	add(3000, 10)
	add(60, 1<<20)
	add(3000, 10)
	add(10, 5<<20)
	add(10, 10)
	for len(events) > 0 { // in pieces, to be kind to the test's own memory
		n := min(len(events), 500)
		store(t, client, "sizes", events[:n]...)
		events = events[n:]
	}
	r, err := client.Reader(t.Context(), "sizes", redisstream.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ledger := redisstream.Ledger{}
	for {
		var b event.Batch
		snap, err := r.Read(t.Context(), ledger.Position, &b)
		if err != nil {
			t.Fatal(err)
		}
		if b.Len() == 0 && !snap.AtEnd {
			t.Fatal("an empty batch before the end")
		}
		if cap(b.Buf) > 96<<20 {
			t.Fatalf("a batch of %d MiB", cap(b.Buf)>>20)
		}
		for i := range b.Len() {
			if want := ledger.Position.Ms + uint64(i) + 1; b.ID(i).Ms != want {
				t.Fatalf("%s, want %d-0", b.ID(i), want)
			}
		}
		if before, after, err := ledger.Observe(snap, &b); err != nil || before != nil || after != nil {
			t.Fatal(before, after, err)
		}
		if snap.AtEnd {
			if !snap.HasInfo || ledger.Added != 6080 || snap.Info.Length != 6080 {
				t.Fatalf("at the end: %d entries, %+v", ledger.Added, snap)
			}
			return
		}
	}
}

func TestTooLargeEntryIsNamed(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	before := []*event.Event{newEvent(event.ID{Ms: 1}, "a", "1"), newEvent(event.ID{Ms: 2}, "b", filler(990))}
	store(t, client, "limit", before...)
	store(t, client, "limit", newEvent(event.ID{Ms: 3}, "small", "1", "payload", filler(1000)), newEvent(event.ID{Ms: 4}, "c", "3"))
	r, err := client.Reader(t.Context(), "limit", redisstream.ReaderOptions{MaxEntrySize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b event.Batch
	if snap, err := r.Read(t.Context(), event.ID{}, &b); err != nil || b.Len() != 2 || snap.AtEnd {
		t.Fatalf("before the large entry: %d events, %+v, %v", b.Len(), snap, err)
	}
	for range 2 {
		_, err = r.Read(t.Context(), event.ID{Ms: 2}, &b)
		large, ok := errors.AsType[*redisstream.TooLargeError](err)
		if !ok || !errors.Is(err, redisstream.ErrTooLarge) || b.Len() != 0 {
			t.Fatalf("got %v and %d events", err, b.Len())
		}
		want := redisstream.TooLargeError{ID: event.ID{Ms: 3}, Field: "payload", Size: 1013, Limit: 1000}
		if *large != want {
			t.Fatalf("got %+v, want %+v", *large, want)
		}
	}
	if _, err := r.Read(t.Context(), event.ID{Ms: 3}, &b); err != nil || b.Len() != 1 {
		t.Fatalf("after the large entry: %d events, %v", b.Len(), err)
	}
}

// A Reader that is asked for something else than what is on its way gives what
// it was asked for.
func TestReadFromAnywhere(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	var events []*event.Event
	for i := range 200 {
		events = append(events, newEvent(event.ID{Ms: uint64(i) + 1}, "v", fmt.Sprint(i)))
	}
	store(t, client, "anywhere", events...)
	r, err := client.Reader(t.Context(), "anywhere", redisstream.ReaderOptions{MaxCount: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rapid.Check(t, func(t *rapid.T) {
		var b event.Batch
		after := event.ID{Ms: rapid.Uint64Range(0, 205).Draw(t, "after")}
		for range rapid.IntRange(1, 3).Draw(t, "reads") {
			snap, err := r.Read(t.Context(), after, &b)
			if err != nil {
				t.Fatal(err)
			}
			want := min(10, max(0, 200-int(after.Ms)))
			if b.Len() != want || snap.AtEnd != (want < 10) {
				t.Fatalf("%d events after %s, want %d: %+v", b.Len(), after, want, snap)
			}
			if want > 0 && b.ID(0) != after.Next() && b.ID(0).Ms != after.Ms+1 {
				t.Fatalf("first %s after %s", b.ID(0), after)
			}
			if want > 0 {
				after = b.ID(want - 1)
			}
		}
	})
}

func TestKeysThatAreNoStreams(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	raw.do(t, "SET", "text", "value")
	raw.do(t, "XGROUP", "CREATE", "empty", "g", "0", "MKSTREAM")
	var b event.Batch
	read := func(name string) (redisstream.Snapshot, error) {
		r, err := client.Reader(t.Context(), name, redisstream.ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return r.Read(t.Context(), event.ID{}, &b)
	}
	if _, err := read("none"); !errors.Is(err, redisstream.ErrNoStream) {
		t.Errorf("no key: %v", err)
	}
	if _, err := read("text"); !errors.Is(err, redisstream.ErrNotStream) || !strings.Contains(err.Error(), `"text"`) {
		t.Errorf("a string: %v", err)
	}
	if snap, err := read("empty"); err != nil || !snap.AtEnd || b.Len() != 0 || snap.Info != (redisstream.Info{Groups: 1}) {
		t.Errorf("an empty stream: %+v, %v", snap, err)
	}
	infos, err := client.Infos(t.Context(), []string{"none", "text", "empty"})
	if err != nil || !errors.Is(infos[0].Err, redisstream.ErrNoStream) || !errors.Is(infos[1].Err, redisstream.ErrNotStream) ||
		infos[2].Err != nil || infos[2].Groups != 1 || infos[2].Stream != "empty" {
		t.Errorf("infos: %+v, %v", infos, err)
	}
	if _, err := client.Info(t.Context(), "none"); !errors.Is(err, redisstream.ErrNoStream) {
		t.Errorf("info of no key: %v", err)
	}
}
