package consumer_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/reservoirhq/reservoir/consumer"
	"github.com/reservoirhq/reservoir/event"
)

// lines is a log to look at.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestValidate(t *testing.T) {
	t.Parallel()
	_, err := consumer.New(consumer.Config[consumer.None]{Batch: -1, Lease: 1, Streams: []string{"a", "\xff"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Name is empty", "Redis is nil", `"\xff" is not text`, "Store is nil", "Mux is nil", "Batch is -1", "Lease is 1ns"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestMuxMistakes(t *testing.T) {
	t.Parallel()
	handler := func(context.Context, consumer.None, *consumer.Record) error { return nil }
	mux := consumer.NewMux[consumer.None]()
	mux.Handle("A", handler)
	mux.Handle("A", handler)
	mux.Handle("B*", handler)
	mux.Handle("B*", handler)
	mux.Handle("", handler)
	mux.Handle("C", nil)
	consumer.On[int](mux, "D", nil)
	_, err := consumer.New(consumer.Config[consumer.None]{Mux: mux})
	for _, want := range []string{`"A" has two`, `"B*" have two`, `type ""`, `"C" is nil`, `"D" is nil`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestKeyAndReplay(t *testing.T) {
	t.Parallel()
	fields := func(pairs ...string) (fields []event.Field) {
		for i := 0; i < len(pairs); i += 2 {
			fields = append(fields, event.Field{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
		}
		return fields
	}
	for _, c := range []struct {
		name   string
		record consumer.Record
		key    string
		replay bool
	}{
		{"an event with an ID of its own", consumer.Record{EventID: "4711"}, "id:4711", false},
		{"its copy", consumer.Record{EventID: "4711", Fields: fields("reservoir_replay", "r", "reservoir_stream", "s", "reservoir_id", "1-2")}, "id:4711", true},
		{"an event without", consumer.Record{}, "at:s/1-2", false},
		{"its copy elsewhere", consumer.Record{Stream: "t", ID: event.ID{Ms: 9}, Fields: fields("reservoir_stream", "s", "reservoir_id", "1-2")}, "at:s/1-2", true},
		{"a field that is not ours", consumer.Record{Fields: fields("reservoir_stream", "x", "reservoir_id", "y")}, "at:s/1-2", false},
	} {
		if c.record.Stream == "" {
			c.record.Stream, c.record.ID = "s", event.ID{Ms: 1, Seq: 2}
		}
		if key := c.record.Key(); key != c.key {
			t.Errorf("%s: key %q, want %q", c.name, key, c.key)
		}
		if _, stream, id, ok := c.record.Replay(); ok != c.replay || ok && (stream != "s" || id != event.ID{Ms: 1, Seq: 2}) {
			t.Errorf("%s: replay of %s %s, %v", c.name, stream, id, ok)
		}
	}
}
