package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/consumer"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

func plainID(t *testing.T, text string) string {
	t.Helper()
	id, err := event.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func TestStores(t *testing.T) {
	t.Parallel()
	banks(t, func(t *testing.T, b *bank) {
		for name, test := range map[string]func(*testing.T, *bank){
			"order and position": testOrder,
			"retry":              testRetry,
			"dead letters":       testDeadLetters,
			"batch with failure": testBatchFailure,
			"duplicates":         testDuplicates,
			"skipped":            testSkipped,
			"start":              testStart,
			"lost":               testLost,
			"graceful stop":      testStop,
			"too slow to stop":   testTooSlow,
			"sharing":            testSharing,
			"latency":            testLatency,
			"operations":         testOperations,
			"seek":               testSeek,
			"replaced":           testReplaced,
			"telemetry":          testTelemetry,
		} {
			t.Run(name, func(t *testing.T) { test(t, b) })
		}
	})
}

// named makes names that no other test uses.
func named(t *testing.T) string {
	name := t.Name()
	return strings.ReplaceAll(name[strings.LastIndexByte(name, '/')+1:], "_", "-")
}

func testOrder(t *testing.T, b *bank) {
	name := named(t)
	var mu sync.Mutex
	var seen []string
	s := settings{name: name, streams: []string{name}, batch: 7, before: func(_ context.Context, r *consumer.Record) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.ID.String())
		return nil
	}}
	var ids []string
	for range 50 {
		ids = append(ids, b.deposit(t, name, name, 2))
	}
	stop := b.start(t, s)
	b.holds(t, name, 100)
	stop()
	if at := b.position(t, name, name); at != ids[49] {
		t.Errorf("position %s, want %s", at, ids[49])
	}
	for range 50 {
		ids = append(ids, b.deposit(t, name, name, 3))
	}
	b.start(t, s)
	b.holds(t, name, 250)
	if got, want := fmt.Sprint(seen), fmt.Sprint(ids); got != want {
		t.Errorf("handled %s\nwant %s", got, want)
	}
}

func testRetry(t *testing.T, b *bank) {
	name := named(t)
	var attempts []int
	stop := b.start(t, settings{
		name: name, streams: []string{name}, retry: consumer.Retry{Attempts: 9, Initial: 10 * time.Millisecond, Max: 20 * time.Millisecond},
		before: func(_ context.Context, r *consumer.Record) error {
			attempts = append(attempts, r.Attempt)
			switch len(attempts) {
			case 1:
				return errors.New("first")
			case 2:
				panic("second")
			}
			return nil
		},
	})
	b.deposit(t, name, name, 1)
	b.holds(t, name, 1)
	stop()
	if got := fmt.Sprint(attempts); got != "[1 2 3]" {
		t.Errorf("attempts %s", got)
	}
	if letters := b.dead(t, name); len(letters) > 0 {
		t.Errorf("dead letters %v", letters)
	}
}

func testDeadLetters(t *testing.T, b *bank) {
	name := named(t)
	poison, panics := b.deposit(t, name, name, 1), b.deposit(t, name, name, 1)
	garbled := b.add(t, name, "type", "Deposit", "payload", "no\xffsense")
	last := b.deposit(t, name, name, 5)
	count := map[string]int{}
	b.start(t, settings{
		name: name, streams: []string{name}, retry: consumer.Retry{Attempts: 3, Initial: time.Millisecond},
		before: func(_ context.Context, r *consumer.Record) error {
			count[r.ID.String()]++
			switch r.ID.String() {
			case poison:
				return fmt.Errorf("no such account\x00")
			case panics:
				return consumer.Permanent(errors.New("never"))
			}
			return nil
		},
	})
	b.holds(t, name, 5)
	b.reaches(t, name, name, last)
	letters := b.dead(t, name)
	want := [][3]string{{poison, "3", "no such account"}, {panics, "1", "never"}, {garbled, "1", "decode the payload"}}
	if len(letters) != len(want) {
		t.Fatalf("dead letters %q", letters)
	}
	for i, l := range letters {
		if l[0] != want[i][0] || l[1] != want[i][1] || !strings.HasPrefix(l[2], want[i][2]) {
			t.Errorf("dead letter %q, want %q", l, want[i])
		}
	}
	if count[poison] != 3 || count[panics] != 1 {
		t.Errorf("handled %v", count)
	}
}

// testBatchFailure: of events in one transaction, the ones before and after one
// that fails are booked once.
func testBatchFailure(t *testing.T, b *bank) {
	name := named(t)
	var ids []string
	for range 30 {
		ids = append(ids, b.deposit(t, name, name, 1))
	}
	bad := map[string]bool{ids[0]: true, ids[9]: true, ids[10]: true, ids[29]: true}
	b.start(t, settings{
		name: name, streams: []string{name}, batch: 20, retry: consumer.Retry{Attempts: 2, Initial: time.Millisecond},
		before: func(_ context.Context, r *consumer.Record) error {
			if bad[r.ID.String()] {
				return errors.New("bad")
			}
			return nil
		},
	})
	b.reaches(t, name, name, ids[29])
	if balance, bookings := b.account(t, name); balance != 26 || bookings != 26 {
		t.Errorf("balance %d of %d bookings", balance, bookings)
	}
	if letters := b.dead(t, name); len(letters) != len(bad) {
		t.Errorf("dead letters %q", letters)
	}
}

// testDuplicates: copies that a replay makes, into the same stream and another one,
// are handled once; without deduplication every one of them.
func testDuplicates(t *testing.T, b *bank) {
	name := named(t)
	copies := name + ":copy"
	payload := fmt.Sprintf(`{"account":%q,"amount":1}`, name)
	var last string
	for n := range 20 {
		fields := []any{"type", "Deposit", "payload", payload}
		if n%2 == 0 {
			fields = append(fields, "event_id", fmt.Sprintf("%s-%d", name, n))
		}
		id := b.add(t, name, fields...)
		fields = append(fields, "reservoir_replay", "r1", "reservoir_stream", name, "reservoir_id", id)
		b.add(t, copies, fields...)
		last = b.add(t, name, fields...)
	}
	lastCopy := b.deposit(t, copies, name+":other", 1)
	if b.kind == "at least once" { // which cannot tell while both are in hand
		stop := b.start(t, settings{name: name, streams: []string{name}, batch: 6, dedup: time.Hour})
		b.reaches(t, name, name, last)
		stop()
	}
	stop := b.start(t, settings{name: name, streams: []string{name, copies}, batch: 6, dedup: time.Hour})
	b.reaches(t, name, name, last)
	b.reaches(t, name, copies, lastCopy)
	if balance, bookings := b.account(t, name); balance != 20 || bookings != 20 {
		t.Errorf("balance %d of %d bookings, want 20", balance, bookings)
	}
	stop()
	naive := name + "-naive"
	b.start(t, settings{name: naive, streams: []string{name, copies}})
	b.reaches(t, naive, name, last)
	b.reaches(t, naive, copies, lastCopy)
	if balance, _ := b.account(t, name); balance != 20+60 {
		t.Errorf("balance %d without deduplication", balance)
	}
}

func testSkipped(t *testing.T, b *bank) {
	name := named(t)
	for range 10 {
		b.add(t, name, "type", "Unknown", "n", "1")
	}
	b.deposit(t, name, name, 1)
	var last string
	for range 10 {
		last = b.add(t, name, "no", "type")
	}
	stop := b.start(t, settings{name: name, streams: []string{name}})
	b.holds(t, name, 1)
	b.reaches(t, name, name, last)
	last = b.add(t, name, "type", "Unknown")
	b.reaches(t, name, name, last) // within a second, while the stream is silent
	b.add(t, name, "type", "Unknown")
	stop() // at once
}

func testStart(t *testing.T, b *bank) {
	name := named(t)
	b.deposit(t, name, name, 1)
	second := b.deposit(t, name, name, 10)
	last := b.deposit(t, name, name, 100)
	after, err := event.ParseID(second)
	if err != nil {
		t.Fatal(err)
	}
	b.start(t, settings{name: name + "-after", streams: []string{name}, start: consumer.After(after)})
	b.holds(t, name, 100)
	stop := b.start(t, settings{name: name + "-now", streams: []string{name}, start: consumer.Now()})
	b.reaches(t, name+"-now", name, last)
	stop()
	b.deposit(t, name, name, 1000)
	b.holds(t, name, 1100) // of -after
	b.start(t, settings{name: name + "-now", streams: []string{name}, start: consumer.Now()})
	b.holds(t, name, 2100)
}

func testLost(t *testing.T, b *bank) {
	name := named(t)
	var mu sync.Mutex
	var lost []redisstream.Loss
	s := settings{name: name, streams: []string{name}, lost: func(_ context.Context, _ string, l redisstream.Loss) {
		mu.Lock()
		defer mu.Unlock()
		lost = append(lost, l)
	}}
	b.deposit(t, name, name, 1) // trimmed before the consumer was there: no loss
	b.deposit(t, name, name, 1)
	trim := func(keep int) {
		if err := b.admin.XTrimMaxLen(t.Context(), name, int64(keep)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	trim(1)
	stop := b.start(t, s)
	b.holds(t, name, 1)
	stop()
	for range 5 {
		b.deposit(t, name, name, 1)
	}
	trim(2)
	stop = b.start(t, s)
	b.holds(t, name, 3)
	stop()
	if len(lost) != 1 || lost[0].Lost != 3 || !lost[0].Exact {
		t.Errorf("lost %+v, want 3 entries", lost)
	}
	for range 2 {
		b.deposit(t, name, name, 1)
	}
	trim(0) // nothing is left to read
	for range 2 {
		stop = b.start(t, s)
		waitFor(t, "the second loss", func() (string, bool) {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprint(lost), len(lost) >= 2
		})
		stop()
	}
	if len(lost) != 2 || lost[1].Lost != 2 {
		t.Errorf("lost %+v, want 2 more entries, once", lost)
	}
}

// testStop ends a consumer in the middle of a batch: what was begun is committed,
// nothing more is begun, and another one can have the stream at once.
func testStop(t *testing.T, b *bank) {
	name := named(t)
	for range 10 {
		b.deposit(t, name, name, 1)
	}
	inHand, ending := make(chan struct{}), make(chan struct{})
	count := 0
	stop := b.start(t, settings{name: name, streams: []string{name}, lease: time.Minute, after: func(ctx context.Context, _ *consumer.Record) error {
		if count++; count == 4 {
			close(inHand)
			<-ending
			return ctx.Err()
		}
		return nil
	}})
	<-inHand
	go func() {
		// Stop has cancelled Run's context by the time that a second consumer is refused the lease no more: give
		// it the chance to do the wrong thing first.
		<-time.After(100 * time.Millisecond)
		close(ending)
	}()
	stop()
	if balance, bookings := b.account(t, name); balance != 4 || bookings != 4 {
		t.Errorf("balance %d of %d bookings, want 4", balance, bookings)
	}
	began := time.Now()
	b.start(t, settings{name: name, streams: []string{name}, lease: time.Minute})
	b.holds(t, name, 10)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("taken over after %v", took)
	}
}

func testTooSlow(t *testing.T, b *bank) {
	name := named(t)
	b.deposit(t, name, name, 1)
	inHand := make(chan struct{})
	stop := b.start(t, settings{name: name, streams: []string{name}, stop: 50 * time.Millisecond, before: func(ctx context.Context, _ *consumer.Record) error {
		close(inHand)
		<-ctx.Done()
		return ctx.Err()
	}})
	<-inHand
	stop()
	if _, bookings := b.account(t, name); bookings != 0 {
		t.Errorf("%d bookings", bookings)
	}
	b.start(t, settings{name: name, streams: []string{name}})
	b.holds(t, name, 1)
}

// testSharing has two consumers share four streams, and one take all when the other
// has gone.
func testSharing(t *testing.T, b *bank) {
	name := named(t)
	var streams []string
	for n := range 4 {
		streams = append(streams, fmt.Sprintf("%s-%d", name, n))
		b.deposit(t, streams[n], name, 1)
	}
	var handled [2]atomic.Int64
	var stops [2]func()
	for i := range 2 {
		stops[i] = b.start(t, settings{name: name, streams: []string{name + "-?"}, before: func(context.Context, *consumer.Record) error {
			handled[i].Add(1)
			return nil
		}})
	}
	total := int64(4)
	b.holds(t, name, total)
	waitFor(t, "both to share", func() (string, bool) {
		for i := range handled {
			handled[i].Store(0)
		}
		for _, stream := range streams {
			b.deposit(t, stream, name, 1)
		}
		total += 4
		b.holds(t, name, total)
		return fmt.Sprintf("%d and %d", handled[0].Load(), handled[1].Load()), handled[0].Load() == 2 && handled[1].Load() == 2
	})
	stops[0]()
	for _, stream := range streams {
		b.deposit(t, stream, name, 1)
	}
	b.holds(t, name, total+4)
}

func testLatency(t *testing.T, b *bank) {
	name := named(t)
	arrived := make(chan time.Time, 1)
	b.start(t, settings{name: name, streams: []string{name}, before: func(context.Context, *consumer.Record) error {
		arrived <- time.Now()
		return nil
	}})
	b.deposit(t, name, name, 1)
	<-arrived
	var best time.Duration
	for range 10 {
		began := time.Now()
		b.deposit(t, name, name, 1)
		if took := (<-arrived).Sub(began); best == 0 || took < best {
			best = took
		}
	}
	t.Logf("from XADD to the handler: %v at best of 10", best)
	if best > 100*time.Millisecond {
		t.Errorf("an event took %v at least", best)
	}
}
