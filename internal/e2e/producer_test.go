package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
)

// record is what was added to Redis, known from the producers alone.
type record struct {
	mu      sync.Mutex
	streams map[string][]event.Event
	total   int
}

func newRecord() *record { return &record{streams: map[string][]event.Event{}} }

func (r *record) add(batch []entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range batch {
		r.streams[e.stream] = append(r.streams[e.stream], e.Event)
	}
	r.total += len(batch)
}

// count is how many entries were added to all streams.
func (r *record) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

// entry is an event and where it belongs.
type entry struct {
	stream string
	event.Event
}

// producer adds entries with IDs that it chooses: it can send a batch again
// whose answer was lost, and nothing is added twice. It alone writes to its
// streams.
type producer struct {
	client *redis.Client
	record *record
	rng    *rand.Rand
	next   func() entry // without an ID
	last   event.ID
}

// newProducers gives one producer for the shop's streams and one for each of
// two streams of odd events.
func newProducers(t *testing.T, url string, rec *record, seed uint64) []*producer {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	opts.MaxRetries = -1 // send says when to send again
	opts.DisableIdentity = true
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })

	// Half a minute before the end of an hour, which some segments shall meet.
	began := time.Date(2026, 11, 21, 7, 59, 30, 0, time.UTC)
	s := shop.New(shop.Options{Seed: seed, Start: began, Malformed: 0.05})
	makers := []func(*rand.Rand) entry{func(*rand.Rand) entry {
		stream, e := s.Next()
		return entry{stream, e}
	}}
	for _, name := range []string{"odd:ids/and values", "odd:\xff\xfe binary/..\n"} {
		makers = append(makers, func(rng *rand.Rand) entry { return entry{name, oddEvent(rng)} })
	}
	var out []*producer
	for i, m := range makers {
		rng := newRand(seed, 100+i)
		out = append(out, &producer{
			client: client, record: rec, rng: rng, last: event.ID{Ms: uint64(began.UnixMilli())},
			next: func() entry { return m(rng) },
		})
	}
	return out
}

// produce has producers write until stop is called, which waits for them and
// fails the test if one of them failed.
func produce(t *testing.T, producers []*producer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	errs := make([]error, len(producers))
	for i, p := range producers {
		group.Go(func() { errs[i] = p.run(ctx) })
	}
	stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("produce: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// run adds a batch every now and then until ctx ends; a batch that was begun is
// added to its end.
func (p *producer) run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	for {
		if err := p.send(work, p.batch(between(p.rng, 1, 30))); err != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(between(p.rng, 1, 60)) * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

// batch makes the next entries.
func (p *producer) batch(n int) []entry {
	out := make([]entry, n)
	for i := range out {
		out[i] = p.next()
		out[i].ID = p.id()
	}
	return out
}

// id chooses the next ID: mostly the same millisecond or the next few, now and
// then one of another hour.
func (p *producer) id() event.ID {
	switch n := p.rng.IntN(3000); {
	case n == 0:
		p.last = event.ID{Ms: p.last.Ms + 40*60_000}
	case n < 1500:
		p.last = event.ID{Ms: p.last.Ms, Seq: p.last.Seq + 1 + uint64(p.rng.IntN(2))*p.rng.Uint64N(1<<40)}
	default:
		p.last = event.ID{Ms: p.last.Ms + 1 + p.rng.Uint64N(5), Seq: p.rng.Uint64N(3)}
	}
	return p.last
}

// send adds a batch and records it. What got no answer is sent again: an ID
// that Redis then refuses as too low was added the first time.
func (p *producer) send(ctx context.Context, batch []entry) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for again := false; ; again = true {
		err := p.try(ctx, batch, again)
		if err == nil {
			p.record.add(batch)
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("add entries up to %s: %w: %w", batch[len(batch)-1].ID, ctx.Err(), err)
		}
	}
}

func (p *producer) try(ctx context.Context, batch []entry, again bool) error {
	pipe := p.client.Pipeline()
	for i := range batch {
		e := &batch[i]
		args := make([]any, 0, 3+2*len(e.Fields))
		args = append(args, "XADD", e.stream, e.ID.String())
		for _, f := range e.Fields {
			args = append(args, f.Name, f.Value)
		}
		pipe.Do(ctx, args...)
	}
	replies, err := pipe.Exec(ctx)
	if len(replies) < len(batch) {
		return errors.Join(err, errors.New("some replies are missing"))
	}
	for _, r := range replies {
		if err := r.Err(); err != nil && (!again || !strings.Contains(err.Error(), "equal or smaller")) {
			return err
		}
	}
	return nil
}

// oddEvent makes an entry that no envelope fits: empty, repeated and binary
// names and values, JSON and what only looks like it, now and then a large one.
func oddEvent(rng *rand.Rand) event.Event {
	names := [...]string{"", "payload", "payload", "id", "type", "tenant", "a b", "\x00", "\xff\xfe", "ключ", `"`, "occurred_at", "version"}
	var e event.Event
	for range between(rng, 1, 6) {
		e.Fields = append(e.Fields, event.Field{Name: []byte(names[rng.IntN(len(names))]), Value: oddValue(rng)})
	}
	return e
}

func oddValue(rng *rand.Rand) []byte {
	switch rng.IntN(10) {
	case 0:
		return []byte{}
	case 1:
		return []byte(`{"a":[1,2,{"b":null}],"c":"\u00e9 \\"}`)
	case 2:
		return []byte(`{"$base64":"AAEC"}`)
	case 3:
		return []byte(`{"cut":`)
	case 4:
		return []byte("2026-11-21T07:59:59.123Z")
	case 5:
		return []byte("-00042")
	case 6:
		if rng.IntN(30) == 0 {
			return bytes.Repeat([]byte("large \xf0\x9f\x90\x9f\x00"), between(rng, 1, 8000))
		}
		return []byte("line\nbreak\r\n\u2028")
	default:
		b := make([]byte, rng.IntN(40))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
}
