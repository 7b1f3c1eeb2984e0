package redisstream_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// connect opens a client that lives as long as the test.
func connect(tb testing.TB, cfg redisstream.Config) *redisstream.Client {
	tb.Helper()
	client, err := redisstream.Connect(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := client.Close(); err != nil {
			tb.Error(err)
		}
	})
	return client
}

// commands sends what the package has no method for.
type commands struct{ *redis.Client }

func rawClient(tb testing.TB, addr string) *commands {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2})
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &commands{c}
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (c *commands) do(t failer, args ...any) any {
	t.Helper()
	reply, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args[0], err)
	}
	return reply
}

// newEvent makes an event of names and values in turn.
func newEvent(id event.ID, namesAndValues ...string) *event.Event {
	e := &event.Event{ID: id}
	for i := 0; i < len(namesAndValues); i += 2 {
		e.Fields = append(e.Fields, event.Field{Name: []byte(namesAndValues[i]), Value: []byte(namesAndValues[i+1])})
	}
	return e
}

// store adds events with their IDs.
func store(t *testing.T, client *redisstream.Client, stream string, events ...*event.Event) {
	t.Helper()
	w, err := client.Writer(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var b event.Batch
	for _, e := range events {
		b.Append(e)
	}
	if n, err := w.Add(t.Context(), &b, 0, b.Len(), true); err != nil || n != len(events) {
		t.Fatalf("added %d of %d: %v", n, len(events), err)
	}
}

// collect reads a stream to its end and returns copies of its events.
func collect(t testing.TB, client *redisstream.Client, stream string, opts redisstream.ReaderOptions) (events []event.Event) {
	t.Helper()
	r, err := client.Reader(t.Context(), stream, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b event.Batch
	var e event.Event
	after := event.ID{}
	for {
		snap, err := r.Read(t.Context(), after, &b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			b.Event(i, &e)
			events = append(events, e.Clone())
			after = e.ID
		}
		if snap.AtEnd {
			return events
		}
	}
}

func sameEvents(t testing.TB, got []event.Event, want []*event.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range got {
		if !got[i].Equal(want[i]) {
			t.Fatalf("event %d is %s with %d fields, want %s with %d", i, got[i].ID, len(got[i].Fields), want[i].ID, len(want[i].Fields))
		}
	}
}

func filler(size int) string { return strings.Repeat("x", size) }

// eventually waits until f succeeds, looking often, and fails after a while.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still after 30 s: %v", err)
		}
	}
}

// fakeServer answers every connection's first request, whatever it is, with the
// same bytes, and then stays silent. It is for servers that cannot be had.
func fakeServer(t *testing.T, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for {
			nc, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, nc)
			if _, err := nc.Read(make([]byte, 4096)); err == nil {
				if _, err := bytes.NewBufferString(answer).WriteTo(nc); err != nil {
					t.Error(err)
				}
			}
		}
		for _, nc := range open {
			if err := nc.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}
