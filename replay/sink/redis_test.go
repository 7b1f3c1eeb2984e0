package sink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
)

func connectRedis(t *testing.T, cfg redisstream.Config) *redisstream.Client {
	t.Helper()
	client, err := redisstream.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// command runs what redisstream has no method for.
func command(t *testing.T, addr string, args ...any) any {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2})
	defer c.Close()
	reply, err := c.Do(t.Context(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatalf("%v: %v", args, err)
	}
	return reply
}

func jsonOf(t *testing.T, v map[string]any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// openingOf is that of a replay of streams.
func openingOf(t *testing.T, epoch uint64, options map[string]any, streams ...string) replay.Opening {
	t.Helper()
	o := replay.Opening{Replay: "job", Epoch: epoch, Options: jsonOf(t, options), Whole: true}
	for _, s := range streams {
		o.Streams = append(o.Streams, replay.StreamRange{Stream: s, Incarnation: 1})
	}
	return o
}

// story is what is replayed: n events dealt to the streams in turn, merged by time.
type story struct {
	streams []string
	events  []event.Event
}

func newStory(n int, streams ...string) *story {
	s := &story{streams: streams}
	for i := range n {
		s.events = append(s.events, event.Event{ID: event.ID{Ms: uint64(i) + 1}, Fields: []event.Field{{Name: []byte("n"), Value: fmt.Append(nil, i)}}})
	}
	return s
}

func (s *story) origin(i int) replay.Origin {
	n := i % len(s.streams)
	id := s.events[i].ID
	return replay.Origin{Position: replay.Position{Ms: id.Ms, Stream: n, Incarnation: 1, ID: id}, Stream: s.streams[n]}
}

// batch makes the batch of up to size events that come after a position.
func (s *story) batch(after replay.Position, size int) *replay.Batch {
	b := &replay.Batch{}
	for i := range s.events {
		if o := s.origin(i); o.Position.Compare(after) > 0 && b.Len() < size {
			b.Append(&s.events[i])
			b.Origins = append(b.Origins, o)
		}
	}
	return b
}

// play replays the story from where the sink is, as the engine does.
func (s *story) play(t *testing.T, to replay.Sink, size int) error {
	t.Helper()
	at, err := to.Position(t.Context())
	if err != nil {
		return err
	}
	b := s.batch(at, size)
	for b.Len() > 0 {
		var next *replay.Batch
		after := b.Origins[b.Len()-1].Position
		err := to.(replay.AheadWriter).WriteAhead(t.Context(), b, func() *replay.Batch {
			next = s.batch(after, size)
			return next
		})
		if err != nil {
			return err
		}
		if b = next; b == nil {
			b = s.batch(after, size)
		}
	}
	return nil
}

// want fails unless the target of each stream holds its events, once and in order.
func (s *story) want(t *testing.T, client *redisstream.Client, target func(stream string) string, provenance, ids bool) {
	t.Helper()
	for n, stream := range s.streams {
		i := n
		for got, err := range client.Scan(t.Context(), target(stream), event.ID{}) {
			if err != nil {
				t.Fatal(err)
			}
			if i >= len(s.events) {
				t.Fatalf("stream %s: more than there should be: %s", stream, got.ID)
			}
			want := s.events[i].Clone()
			if provenance {
				want.Fields = append(want.Fields, event.Field{Name: []byte(sink.FieldReplay), Value: []byte("job")},
					event.Field{Name: []byte(sink.FieldStream), Value: []byte(stream)}, event.Field{Name: []byte(sink.FieldID), Value: []byte(want.ID.String())})
			}
			if !ids {
				want.ID = got.ID
			}
			if !got.Equal(&want) {
				t.Fatalf("stream %s: got %s %s, want %s %s", stream, got.ID, got.Fields, want.ID, want.Fields)
			}
			i += len(s.streams)
		}
		if i < len(s.events) {
			t.Fatalf("stream %s ends before event %d", stream, i)
		}
	}
}

func copyOf(stream string) string { return stream + ":copy" }

func openRedis(t *testing.T, kind replay.SinkKind, o replay.Opening) replay.Sink {
	t.Helper()
	s, err := kind.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRedisReplays(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	for _, test := range []struct {
		name       string
		options    map[string]any
		provenance bool
		ids        bool
	}{
		{"new IDs", map[string]any{}, true, false},
		{"without provenance", map[string]any{"provenance": false}, false, false},
		{"kept IDs", map[string]any{"ids": "keep"}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			command(t, server.Addr(), "FLUSHALL")
			test.options["stream"] = "{stream}:copy"
			s := newStory(2000, "a", "b", "c")
			o := openingOf(t, 1, test.options, s.streams...)
			if _, err := kind.Check(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if n := command(t, server.Addr(), "DBSIZE").(int64); n != 0 {
				t.Fatalf("the check made %d keys", n)
			}
			// In three attempts, the first of which ends in the midst of it.
			first := openRedis(t, kind, o)
			if p, err := first.Position(t.Context()); err != nil || !p.IsZero() {
				t.Fatal(p, err)
			}
			if err := first.Write(t.Context(), s.batch(replay.Position{}, 700)); err != nil {
				t.Fatal(err)
			}
			o.Epoch = 2
			second := openRedis(t, kind, o)
			if p, err := second.Position(t.Context()); err != nil || p != s.origin(699).Position {
				t.Fatal(p, err)
			}
			// The first one has more to write, but may not.
			if err := first.Write(t.Context(), s.batch(s.origin(699).Position, 100)); !errors.Is(err, replay.ErrFenced) {
				t.Fatalf("the stale sink: %v", err)
			}
			if err := s.play(t, second, 300); err != nil {
				t.Fatal(err)
			}
			// What is offered again is skipped.
			o.Epoch = 3
			third := openRedis(t, kind, o)
			if err := third.Write(t.Context(), s.batch(s.origin(1500).Position, 400)); err != nil {
				t.Fatal(err)
			}
			if n := command(t, server.Addr(), "EXISTS", "a:copy").(int64); (n == 0) != test.ids {
				t.Fatal("a stream that is restored is there before it is whole, or another one is not")
			}
			if err := third.(replay.Finisher).Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.want(t, client, copyOf, test.provenance, test.ids)
			o.Epoch = 1
			if _, err := kind.Open(t.Context(), o); !errors.Is(err, replay.ErrFenced) {
				t.Fatalf("a lower epoch opens: %v", err)
			}
			o.Epoch = 3
			if err := kind.Clean(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if n := lasting(t, server.Addr()); n != 3 {
				t.Fatalf("%d keys are left", n)
			}
		})
	}
}

// lasting counts the keys that do not expire.
func lasting(t *testing.T, addr string) (n int) {
	t.Helper()
	for _, key := range command(t, addr, "KEYS", "*").([]any) {
		if command(t, addr, "TTL", key).(int64) < 0 {
			n++
		}
	}
	return n
}

// cuts forwards connections to a server and cuts each at a random byte of what
// comes back, so that requests have been executed or not.
func cuts(t *testing.T, target string, after int) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			hangUp := sync.OnceFunc(func() { near.Close(); far.Close() })
			all.Go(func() {
				defer hangUp()
				io.Copy(far, near) //nolint:errcheck // it ends by a cut
			})
			all.Go(func() {
				defer hangUp()
				io.CopyN(near, far, int64(1+rand.IntN(after))) //nolint:errcheck // see above
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

func TestRedisLosesItsConnection(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client, AllowHosts: sink.Hosts{"127.0.0.1"}})
	url := "redis://" + cuts(t, server.Addr(), 40_000)
	s := newStory(5000, "a", "b")
	lost := 0
	for epoch := uint64(1); ; epoch++ {
		if epoch > 1000 {
			t.Fatal("no progress")
		}
		o := openingOf(t, epoch, map[string]any{"url": url, "stream": "{stream}:copy"}, s.streams...)
		to, err := kind.Open(t.Context(), o)
		if err == nil {
			err = s.play(t, to, 250)
			if closed := to.Close(); closed != nil {
				t.Fatal(closed)
			}
		}
		if err == nil {
			break
		}
		if lost++; !errors.Is(err, replay.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if lost < 3 {
		t.Fatal("hardly a connection was lost: the test shows nothing")
	}
	t.Logf("%d attempts", lost+1)
	s.want(t, client, copyOf, true, false)
}

// A Redis that is killed and started again has both the entries and the
// checkpoint, or neither.
func TestRedisIsKilled(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{AOF: true, Fsync: "everysec"})
	s := newStory(6000, "a", "b")
	kind := sink.NewRedis(sink.RedisOptions{AllowHosts: sink.Hosts{"*"}})
	for epoch := uint64(1); ; epoch++ {
		o := openingOf(t, epoch, map[string]any{"url": server.URL(), "stream": "{stream}:copy"}, s.streams...)
		to := openRedis(t, kind, o)
		killed := make(chan error, 1)
		if epoch <= 5 {
			go func() {
				select {
				case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
				case <-t.Context().Done():
				}
				killed <- server.Kill()
			}()
		}
		err := s.play(t, to, 20)
		if epoch > 5 {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if err != nil && !errors.Is(err, replay.ErrUnavailable) {
			t.Fatal(err)
		}
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.want(t, connectRedis(t, redisstream.Config{URL: server.URL()}), copyOf, true, false)
}

// A restored stream is what it was, to XINFO STREAM too.
func TestRedisRestores(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	s := newStory(0, "orders")
	source := shop.New(shop.Options{Seed: 3, Malformed: 0.1})
	at := event.ID{Ms: 1_763_700_000_000}
	add := func(e event.Event) {
		at.Seq++
		e.ID = at
		s.events = append(s.events, e)
	}
	for range 500 {
		_, e := source.Next()
		add(e)
	}
	var wide, binary event.Event
	for i := range 10_000 {
		wide.Fields = append(wide.Fields, event.Field{Name: fmt.Append(nil, i), Value: []byte("v")})
	}
	add(wide)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		bytes := make([]byte, rng.IntN(5000))
		for i := range bytes {
			bytes[i] = byte(rng.Uint32())
		}
		binary.Fields = append(binary.Fields, event.Field{Name: []byte("\r\n\x00"), Value: bytes}, event.Field{})
	}
	add(binary)

	// The original has lost its first entries and its last one.
	var b event.Batch
	for i := range s.events {
		b.Append(&s.events[i])
	}
	w, err := client.Writer(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(t.Context(), &b, 0, b.Len(), true); err != nil {
		t.Fatal(err)
	}
	w.Close()
	command(t, server.Addr(), "XADD", "orders", fmt.Sprintf("%d-9999999", at.Ms), "a", "b")
	command(t, server.Addr(), "XTRIM", "orders", "MAXLEN", 400)
	before, err := client.Info(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	s.events = s.events[len(s.events)+1-int(before.Length):]
	command(t, server.Addr(), "XDEL", "orders", before.LastGeneratedID.String())
	if before, err = client.Info(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	command(t, server.Addr(), "DEL", "orders")

	o := openingOf(t, 1, map[string]any{"ids": "keep", "allow_source": true}, "orders")
	o.Streams[0].Head, o.Streams[0].EntriesAdded = before.LastGeneratedID, before.EntriesAdded
	if _, err := kind.Check(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	to := openRedis(t, kind, o)
	if err := s.play(t, to, 100); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := to.(replay.Finisher).Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.want(t, client, func(s string) string { return s }, false, true)
	after, err := client.Info(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	before.MaxDeletedID = after.MaxDeletedID // the archive does not know it
	if after != before {
		t.Fatalf("restored as %+v, want %+v", after, before)
	}
	if _, err := kind.Check(t.Context(), o); err == nil || !strings.Contains(err.Error(), "fresh stream") {
		t.Fatalf("a stream that exists: %v", err)
	}
}

func TestRedisRejectsBeforeItWrites(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	for _, ids := range []string{"new", "keep"} {
		command(t, server.Addr(), "FLUSHALL")
		s := newStory(10, "a")
		s.events[3].Fields = nil
		rejected := []int{3}
		if ids == "keep" {
			rejected = []int{3, 7}
		}
		b := s.batch(replay.Position{}, 10)
		if ids == "keep" { // the ID goes back, in another incarnation
			b.Batch.Reset()
			for i := range s.events {
				e := s.events[i].Clone()
				if i == 7 {
					e.ID = event.ID{Ms: 2}
				}
				b.Append(&e)
			}
		}
		to := openRedis(t, kind, openingOf(t, 1, map[string]any{"ids": ids, "stream": ids}, "a"))
		err := to.Write(t.Context(), b)
		r, ok := errors.AsType[*replay.RejectedError](err)
		if !ok || !r.Unwritten || len(r.Events) != len(rejected) {
			t.Fatal(err)
		}
		for i, n := range rejected {
			if r.Events[i].Index != n || remedy.Of(r.Events[i].Err) == "" {
				t.Fatalf("%+v", r.Events[i])
			}
		}
		if n := command(t, server.Addr(), "EXISTS", ids).(int64); n != 0 {
			t.Fatal("something was written")
		}
		// The rest is offered again.
		var rest replay.Batch
		var e event.Event
		for i := range b.Len() {
			if b.Event(i, &e); len(e.Fields) > 0 && e.ID == s.events[i].ID {
				rest.Append(&e)
				rest.Origins = append(rest.Origins, b.Origins[i])
			}
		}
		if err := to.Write(t.Context(), &rest); err != nil {
			t.Fatal(err)
		}
		if p, err := to.Position(t.Context()); err != nil || p != s.origin(9).Position {
			t.Fatal(p, err)
		}
	}
}

func TestRedisFailsLoudly(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	s := newStory(100, "a", "b")
	for _, test := range []struct {
		name  string
		ids   string
		spoil []any
		text  string
		want  error
	}{
		{"a target of another type", "new", []any{"SET", "b:copy", "x"}, "not a stream", nil},
		{"a target that is full", "new", []any{"XADD", "b:copy", "18446744073709551615-18446744073709551613", "a", "b"}, "2 were added after it", nil},
		{"somebody else adds", "keep", []any{"XADD", "b:copy", "60-5", "a", "b"}, "somebody else", nil},
		{"the checkpoint is deleted", "new", []any{"DEL", "reservoir:replay:job"}, "checkpoint", nil},
		{"out of memory", "new", []any{"CONFIG", "SET", "maxmemory", 1}, "", replay.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			command(t, server.Addr(), "FLUSHALL")
			to := openRedis(t, kind, openingOf(t, 1, map[string]any{"stream": "{stream}:copy", "ids": test.ids}, s.streams...))
			// Up to here the target b was not looked at.
			first := s.batch(replay.Position{}, 1)
			if err := to.Write(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			command(t, server.Addr(), test.spoil...)
			err := to.Write(t.Context(), s.batch(first.Origins[0].Position, 8))
			if err == nil && test.ids == "keep" {
				err = to.(replay.Finisher).Finish(t.Context())
			}
			command(t, server.Addr(), "CONFIG", "SET", "maxmemory", 0)
			switch {
			case err == nil, test.want != nil && !errors.Is(err, test.want):
				t.Fatal(err)
			case test.want == nil && (errors.Is(err, replay.ErrUnavailable) || remedy.Of(err) == "" || !strings.Contains(err.Error(), test.text)):
				t.Fatalf("%v: %s", err, remedy.Of(err))
			}
			t.Log(err, "→", remedy.Of(err))
		})
	}
}

// TestRedisLosesItsCheckpoint: a checkpoint that was evicted is not made anew as
// long as the target holds entries, in whatever lane.
func TestRedisLosesItsCheckpoint(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	s := newStory(100, "a", "b")
	opening := openingOf(t, 1, map[string]any{"stream": "{stream}:copy"}, s.streams...)
	to := openRedis(t, kind, opening)
	first := s.batch(replay.Position{}, 10)
	if err := to.Write(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	command(t, server.Addr(), "DEL", "reservoir:replay:job")
	if err := to.Write(t.Context(), s.batch(first.Origins[9].Position, 10)); !errors.Is(err, replay.ErrRecordLost) {
		t.Fatal(err)
	}
	opening.Written = first.Origins[9].Position
	for epoch := range uint64(3) { // resumed, again and again
		opening.Epoch = epoch + 2
		_, err := kind.Open(t.Context(), opening)
		if !errors.Is(err, replay.ErrRecordLost) || errors.Is(err, replay.ErrUnavailable) || !strings.Contains(remedy.Of(err), "noeviction") {
			t.Fatal(err)
		}
		if n := command(t, server.Addr(), "EXISTS", "reservoir:replay:job").(int64); n != 0 {
			t.Fatal("the checkpoint was made anew")
		}
	}
	// Entries that were read and trimmed were there all the same.
	command(t, server.Addr(), "DEL", "a:copy")
	command(t, server.Addr(), "XTRIM", "b:copy", "MAXLEN", 0)
	if _, err := kind.Open(t.Context(), opening); !errors.Is(err, replay.ErrRecordLost) {
		t.Fatal(err)
	}
	// Redis lost everything: the replay begins anew.
	command(t, server.Addr(), "FLUSHALL")
	to = openRedis(t, kind, opening)
	if p, err := to.Position(t.Context()); err != nil || !p.IsZero() {
		t.Fatal(p, err)
	}
	if err := s.play(t, to, 10); err != nil {
		t.Fatal(err)
	}
	s.want(t, client, copyOf, true, false)
}
