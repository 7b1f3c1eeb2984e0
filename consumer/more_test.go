package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/reservoirhq/reservoir/consumer"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// operator is what a Consumer of any store can do beside running.
type operator interface {
	running
	DeadLetters(ctx context.Context, limit int) ([]consumer.DeadLetter, error)
	Retry(ctx context.Context, d consumer.DeadLetter) error
	Discard(ctx context.Context, d consumer.DeadLetter) error
	Seek(ctx context.Context, stream string, position event.ID) error
}

func testOperations(t *testing.T, b *bank) {
	name := named(t)
	ctx := t.Context()
	var ids []string
	for n := range 3 {
		ids = append(ids, b.add(t, name, "type", "Deposit", "payload", fmt.Sprintf(`{"account":%q,"amount":%d}`, name, n+1), "bin", "\xff\x00", "bin", ""))
	}
	var healthy atomic.Bool
	s := settings{name: name, streams: []string{name}, dedup: time.Hour, before: func(context.Context, *consumer.Record) error {
		if !healthy.Load() {
			return consumer.Permanent(errors.New("ill"))
		}
		return nil
	}}
	b.start(t, s)
	b.reaches(t, name, name, ids[2])
	made, err := b.consumer(s)
	if err != nil {
		t.Fatal(err)
	}
	c := made.(operator)
	letters, err := c.DeadLetters(ctx, 10)
	if err != nil || len(letters) != 3 {
		t.Fatalf("dead letters %v, %v", letters, err)
	}
	d := letters[0]
	if d.Stream != name || d.ID.String() != ids[0] || d.Type != "Deposit" || d.Attempts != 1 || d.Error != "ill" ||
		d.Key != "at:"+name+"/"+ids[0] || time.Since(d.FailedAt).Abs() > time.Minute {
		t.Errorf("dead letter %+v", d)
	}
	if len(d.Fields) != 4 || string(d.Fields[2].Value) != "\xff\x00" || string(d.Fields[3].Name) != "bin" {
		t.Errorf("its fields are %q", d.Fields)
	}
	if err := c.Retry(ctx, d); err == nil || !strings.Contains(err.Error(), "ill") {
		t.Errorf("retry of an ill one: %v", err)
	}
	healthy.Store(true)
	if err := c.Retry(ctx, d); err != nil {
		t.Error(err)
	}
	if err := c.Retry(ctx, d); b.kind != "at least once" && !errors.Is(err, consumer.ErrNoDeadLetter) {
		t.Errorf("second retry: %v", err)
	}
	if err := c.Discard(ctx, letters[1]); err != nil {
		t.Error(err)
	}
	if err := c.Discard(ctx, letters[1]); !errors.Is(err, consumer.ErrNoDeadLetter) {
		t.Errorf("second discard: %v", err)
	}
	if balance, _ := b.account(t, name); balance != 1 && b.kind != "at least once" {
		t.Errorf("balance %d", balance)
	}
	if letters, err := c.DeadLetters(ctx, 10); err != nil || len(letters) != 1 {
		t.Errorf("dead letters %v, %v", letters, err)
	}
	// A copy of what was retried is a duplicate; of what was discarded it is not.
	before, _ := b.account(t, name)
	for _, id := range ids[:2] {
		b.add(t, name, "type", "Deposit", "payload", fmt.Sprintf(`{"account":%q,"amount":100}`, name), "reservoir_stream", name, "reservoir_id", id)
	}
	b.reaches(t, name, name, b.add(t, name, "type", "Deposit", "payload", fmt.Sprintf(`{"account":%q,"amount":0}`, name)))
	if balance, _ := b.account(t, name); balance != before+100 {
		t.Errorf("balance %d, want %d", balance, before+100)
	}
}

// testSeek goes back while a worker is busy: the events are handled again.
func testSeek(t *testing.T, b *bank) {
	name := named(t)
	for range 5 {
		b.deposit(t, name, name, 1)
	}
	s := settings{name: name, streams: []string{name}}
	b.start(t, s)
	b.holds(t, name, 5)
	made, err := b.consumer(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.(operator).Seek(t.Context(), name, event.ID{}); err != nil {
		t.Fatal(err)
	}
	last := b.deposit(t, name, name, 1)
	b.reaches(t, name, name, last)
	if balance, _ := b.account(t, name); balance != 11 && (b.kind != "at least once" || balance != 12) { // 12: by the fenced worker too
		t.Errorf("balance %d", balance)
	}
}

// testReplaced: a stream that was deleted and made anew, with lower IDs, is not read
// as if nothing had happened.
func testReplaced(t *testing.T, b *bank) {
	name := named(t)
	b.deposit(t, name, name, 1)
	s := settings{name: name, streams: []string{name}}
	stop := b.start(t, s)
	b.holds(t, name, 1)
	stop()
	b.admin.Del(t.Context(), name)
	if err := b.admin.Do(t.Context(), "XADD", name, "1-1", "type", "Deposit", "payload", fmt.Sprintf(`{"account":%q,"amount":10}`, name)).Err(); err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	s.logger = log.logger()
	b.start(t, s)
	waitFor(t, "the change to be reported", func() (string, bool) {
		return log.String(), strings.Contains(log.String(), redisstream.ErrHistoryReplaced.Error())
	})
	made, err := b.consumer(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.(operator).Seek(t.Context(), name, event.ID{}); err != nil {
		t.Fatal(err)
	}
	b.holds(t, name, 11)
}

func testTelemetry(t *testing.T, b *bank) {
	name := named(t)
	registry := prometheus.NewRegistry()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	b.add(t, name, "type", "Deposit", "correlation_id", "c-1", "traceparent", parent, "payload", fmt.Sprintf(`{"account":%q,"amount":1}`, name),
		"reservoir_replay", "r1", "reservoir_stream", "x", "reservoir_id", "1-1")
	b.add(t, name, "type", "Deposit", "payload", "{")
	b.add(t, name, "type", "Other")
	s := settings{name: name, streams: []string{name}, metrics: registry, traces: provider}
	if _, err := b.consumer(s); err != nil { // two consumers of a name share the metrics
		t.Fatal(err)
	}
	stop := b.start(t, s)
	b.holds(t, name, 1)
	b.reaches(t, name, name, b.deposit(t, name, name, 1))
	stop()
	for metric, want := range map[string]float64{"handled_events": 2, "dead_letters": 1, "failed_attempts": 1, "skipped_events": 1} {
		n := 0.0
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "reservoir_consumer_"+metric+"_total" {
				n = f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		if n != want {
			t.Errorf("%s is %v, want %v", metric, n, want)
		}
	}
	var first sdktrace.ReadOnlySpan
	failed := 0
	for _, span := range spans.Ended() {
		if len(span.Links()) > 0 {
			first = span
		}
		if span.Status().Code == codes.Error {
			failed++
		}
	}
	if failed == 0 || first == nil {
		t.Fatalf("%d failed spans, linked: %v", failed, first)
	}
	if id := first.Links()[0].SpanContext.TraceID().String(); !strings.Contains(parent, id) || first.Name() != "process Deposit" {
		t.Errorf("span %q is linked to %s", first.Name(), id)
	}
	attributes := fmt.Sprint(first.Attributes())
	for _, want := range []string{"c-1", "r1", name} {
		if !strings.Contains(attributes, want) {
			t.Errorf("no %q in %s", want, attributes)
		}
	}
}

// TestOutage takes the database, and then Redis, away while a consumer works.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgresql", "mysql"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			source := stacktest.Redis(t, stack.RedisOptions{AOF: true})
			var server interface {
				Kill() error
				Restart(ctx context.Context) error
			}
			address := ""
			if kind == "mysql" {
				m := stacktest.MySQL(t)
				server, address = m, m.DSN()
			} else {
				p := stacktest.Postgres(t)
				server, address = p, p.URL()
			}
			var both [2]*bank // the consumer's, and one that keeps no connection to a server that was killed
			for i := range both {
				b, err := openBank(t.Context(), kind, address, source.URL())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := b.close(); err != nil {
						t.Error(err)
					}
				})
				both[i] = b
			}
			b, observer := both[0], both[1]
			observer.db.SetMaxIdleConns(0)
			b.start(t, settings{name: "bank", streams: []string{"bank"}, batch: 3, lease: 2 * time.Second, retry: consumer.Retry{Attempts: 2}})
			sum := int64(0)
			for n := range 3 {
				for range 200 {
					observer.deposit(t, "bank", "a", 1)
				}
				sum += 200
				if n == 0 {
					if err := server.Kill(); err != nil {
						t.Fatal(err)
					}
					if err := server.Restart(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				observer.holds(t, "a", sum)
				if n == 1 {
					if err := source.Kill(); err != nil {
						t.Fatal(err)
					}
					if err := source.Restart(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if letters := observer.dead(t, "bank"); len(letters) > 0 {
				t.Errorf("an outage made dead letters: %q", letters)
			}
		})
	}
}

// TestRedisInPart: Redis does not roll back. An event of which a command fails is
// reported, and the others of its transaction are handled once.
func TestRedisInPart(t *testing.T) {
	t.Parallel()
	b := newBank(t, "redis")
	ctx := t.Context()
	if err := b.admin.Set(ctx, "{reservoir}:text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	mux := consumer.NewMux[redis.Pipeliner]()
	mux.Handle("*", func(ctx context.Context, pipe redis.Pipeliner, r *consumer.Record) error {
		pipe.Incr(ctx, "{reservoir}:n")
		if r.Type == "Bad" {
			pipe.HIncrBy(ctx, "{reservoir}:text", "field", 1)
		}
		pipe.Get(ctx, "{reservoir}:absent") // a nil reply is no failure
		return nil
	})
	c, err := consumer.New(consumer.Config[redis.Pipeliner]{Name: "c", Redis: b.client, Streams: []string{"s"}, Store: b.redisStore(), Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, kind := range []string{"Good", "Bad", "Good"} {
		ids = append(ids, b.add(t, "s", "type", kind))
	}
	runCtx, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- c.Run(runCtx) }()
	b.reaches(t, "c", "s", ids[2])
	waitFor(t, "the dead letter", func() (string, bool) {
		letters := b.dead(t, "c")
		return fmt.Sprint(letters), len(letters) == 1 && letters[0][0] == ids[1] && strings.Contains(letters[0][2], "applied in part: hincrby: WRONGTYPE")
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := b.admin.Get(ctx, "{reservoir}:n").Val(); n != "3" {
		t.Errorf("counted %s events", n)
	}
}

// TestNotMigrated: a forgotten Migrate is told, with its remedy.
func TestNotMigrated(t *testing.T) {
	t.Parallel()
	b := newBank(t, "postgresql")
	if _, err := b.db.ExecContext(t.Context(), "DROP TABLE reservoir_consumer_members"); err != nil {
		t.Fatal(err)
	}
	c, err := b.consumer(settings{name: "c", streams: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, consumer.ErrNotMigrated) {
		t.Errorf("error %v", err)
	}
}
