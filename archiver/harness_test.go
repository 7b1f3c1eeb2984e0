package archiver_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
)

// harness is one Redis, one store and what was published: the record that the
// archive is compared with.
type harness struct {
	server *stack.Redis
	admin  *redis.Client
	client *redisstream.Client
	store  objectstore.Store
	record map[string][]event.Event
}

func newHarness(t *testing.T, opts stack.RedisOptions) *harness {
	t.Helper()
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{server: stacktest.Redis(t, opts), store: store, record: map[string][]event.Event{}}
	h.connect(t, h.server)
	return h
}

// connect turns the harness to another server, such as a promoted replica.
func (h *harness) connect(t *testing.T, server *stack.Redis) {
	t.Helper()
	h.server = server
	client, err := redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	h.client = client
	admin := adminOf(server)
	h.admin = admin
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
}

func adminOf(server *stack.Redis) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
}

func (h *harness) archive(t *testing.T) *archive.Archive {
	t.Helper()
	a, err := archive.Open(t.Context(), h.store, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *harness) archiver(t *testing.T, opts archiver.Options) *archiver.Archiver {
	t.Helper()
	if opts.Include == nil {
		opts.Include = []string{"*"}
	}
	a, err := archiver.New(h.client, h.archive(t), opts, slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// once archives what there is and wants nothing left.
func (h *harness) once(t *testing.T, opts archiver.Options) archiver.Summary {
	t.Helper()
	s, err := h.archiver(t, opts).Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Left) > 0 {
		t.Fatalf("left: %+v", s.Left)
	}
	return s
}

// add publishes n small events to a stream and records them; it returns the
// last ID.
func (h *harness) add(t *testing.T, stream string, n int) event.ID {
	t.Helper()
	pipe := h.admin.Pipeline()
	var events []event.Event
	for i := range n {
		e := event.Event{Fields: []event.Field{
			{Name: []byte("event_type"), Value: []byte("Counted")},
			{Name: []byte("payload"), Value: fmt.Appendf(nil, `{"n":%d}`, len(h.record[stream])+i)},
		}}
		events = append(events, e)
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: values(&e)})
	}
	replies, err := pipe.Exec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range replies {
		if events[i].ID, err = event.ParseID(r.(*redis.StringCmd).Val()); err != nil {
			t.Fatal(err)
		}
	}
	h.record[stream] = append(h.record[stream], events...)
	return events[n-1].ID
}

// publish has the shop publish n events, and records them.
func (h *harness) publish(t *testing.T, s *shop.Shop, n int) {
	t.Helper()
	for range n {
		stream, e := s.Next()
		id, err := h.admin.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: values(&e)}).Result()
		if err != nil {
			t.Fatal(err)
		}
		if e.ID, err = event.ParseID(id); err != nil {
			t.Fatal(err)
		}
		h.record[stream] = append(h.record[stream], e)
	}
}

func values(e *event.Event) []any {
	out := make([]any, 0, 2*len(e.Fields))
	for _, f := range e.Fields {
		out = append(out, f.Name, f.Value)
	}
	return out
}

// check compares the archive of a stream, in both formats, with the record.
func (h *harness) check(t *testing.T, stream string) {
	t.Helper()
	h.checkEvents(t, stream, h.record[stream])
}

func (h *harness) checkEvents(t *testing.T, stream string, want []event.Event) {
	t.Helper()
	a := h.archive(t)
	for _, format := range []archive.Format{archive.JSONL, archive.Parquet} {
		plan, err := a.Plan(t.Context(), archive.PlanSpec{Stream: stream, Format: format})
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for e, err := range plan.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if i == len(want) {
				t.Fatalf("%s of %s: event %s is more than was published", format, stream, e.ID)
			}
			if !e.Equal(&want[i]) {
				t.Fatalf("%s of %s: event %d is %s, want %s", format, stream, i, e.ID, want[i].ID)
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("%s of %s: %d events, want %d", format, stream, i, len(want))
		}
	}
}

// gaps returns the recorded losses of all incarnations.
func (h *harness) gaps(t *testing.T, stream string) []archive.RecordedGap {
	t.Helper()
	plan, err := h.archive(t).Plan(t.Context(), archive.PlanSpec{Stream: stream})
	if err != nil {
		t.Fatal(err)
	}
	var gaps []archive.RecordedGap
	for g, err := range plan.Gaps(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		gaps = append(gaps, g)
	}
	return gaps
}

// wantGap wants exactly one gap.
func (h *harness) wantGap(t *testing.T, stream string, lost uint64, exact bool, cause archive.GapCause) archive.RecordedGap {
	t.Helper()
	gaps := h.gaps(t, stream)
	if len(gaps) != 1 || gaps[0].Lost != lost || gaps[0].Exact != exact || gaps[0].Cause != cause {
		t.Fatalf("gaps of %s: %+v, want one of %d entries, exact %v, %s", stream, gaps, lost, exact, cause)
	}
	return gaps[0]
}

// incarnations returns how many there are.
func (h *harness) incarnations(t *testing.T, stream string) int {
	t.Helper()
	n := 0
	for _, err := range h.archive(t).Incarnations(t.Context(), stream) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// eventually polls until ok, for at most half a minute.
func eventually(t *testing.T, what string, ok func(ctx context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
