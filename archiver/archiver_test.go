package archiver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/redisstream"
)

func TestOnceArchivesAllStreams(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	s := shop.New(shop.Options{Seed: 1, Malformed: 0.1})
	h.publish(t, s, 500)
	summary := h.once(t, archiver.Options{})
	if summary.Streams != 3 || summary.Events != 500 || summary.Lost != 0 {
		t.Errorf("summary %+v, want 500 events of 3 streams", summary)
	}
	h.publish(t, s, 300)
	h.once(t, archiver.Options{})
	for _, stream := range shop.Streams {
		h.check(t, stream)
	}
	if again := h.once(t, archiver.Options{}); again.Commits != 0 {
		t.Errorf("%d commits where there was nothing new", again.Commits)
	}
}

// addAt publishes one event with an ID of its own.
func (h *harness) addAt(t *testing.T, stream string, id event.ID, size int) {
	t.Helper()
	e := event.Event{ID: id, Fields: []event.Field{{Name: []byte("data"), Value: bytes.Repeat([]byte{'x'}, size)}}}
	if err := h.admin.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: id.String(), Values: values(&e)}).Err(); err != nil {
		t.Fatal(err)
	}
	h.record[stream] = append(h.record[stream], e)
}

func (h *harness) segments(t *testing.T, stream string) []archive.PlannedSegment {
	t.Helper()
	plan, err := h.archive(t).Plan(t.Context(), archive.PlanSpec{Stream: stream})
	if err != nil {
		t.Fatal(err)
	}
	var segments []archive.PlannedSegment
	for s, err := range plan.Segments(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		segments = append(segments, s)
	}
	return segments
}

func TestSegmentsRollByCountAndHour(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	const hour = 3_600_000
	for i := range uint64(25) {
		h.addAt(t, "s", event.ID{Ms: 10*hour + i}, 10)
	}
	for i := range uint64(5) {
		h.addAt(t, "s", event.ID{Ms: 11*hour - 2 + i}, 10)
	}
	h.once(t, archiver.Options{Roll: archiver.Roll{Count: 10}})
	h.check(t, "s")
	var counts []uint64
	for _, s := range h.segments(t, "s") {
		counts = append(counts, s.Count)
	}
	if want := []uint64{10, 10, 7, 3}; !slices.Equal(counts, want) {
		t.Errorf("segments of %v events, want %v", counts, want)
	}
}

func TestSegmentsRollBySize(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	for i := range uint64(64) {
		e := event.Event{ID: event.ID{Ms: 1 + i}, Fields: []event.Field{{Name: []byte("data"), Value: noise(256 << 10)}}}
		if err := h.admin.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", ID: e.ID.String(), Values: values(&e)}).Err(); err != nil {
			t.Fatal(err)
		}
		h.record["s"] = append(h.record["s"], e)
	}
	h.once(t, archiver.Options{Roll: archiver.Roll{Size: 2 << 20}})
	h.check(t, "s")
	segments := h.segments(t, "s")
	if len(segments) < 2 {
		t.Errorf("%d segments, want several", len(segments))
	}
}

// noise does not compress.
func noise(n int) []byte {
	out := make([]byte, n)
	state := uint64(88172645463325252)
	for i := range out {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		out[i] = byte(state)
	}
	return out
}

func TestTheDaemonFollowsAndFindsNewStreams(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "first", 10)
	a := h.archiver(t, archiver.Options{
		PollInterval: 10 * time.Millisecond, DiscoverInterval: 50 * time.Millisecond, Roll: archiver.Roll{Age: 50 * time.Millisecond},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for i := range 5 {
		h.add(t, "first", 7)
		h.add(t, fmt.Sprintf("other-%d", i), 3)
		eventually(t, "all of it is archived", func(context.Context) bool { return a.Progress().Events == 10+uint64(i+1)*10 })
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for stream := range h.record {
		h.check(t, stream)
	}
}

func TestTwoArchiversOnTheSameStreams(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var engines []*archiver.Archiver
	for range 3 {
		a := h.archiver(t, archiver.Options{
			PollInterval: 5 * time.Millisecond, DiscoverInterval: 20 * time.Millisecond,
			Roll: archiver.Roll{Age: 10 * time.Millisecond, Count: 20},
		})
		engines = append(engines, a)
		group.Go(func() {
			if err := a.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	total := uint64(0)
	for range 40 {
		h.add(t, "s", 25)
		h.add(t, "r", 5)
		total += 30
	}
	eventually(t, "all is archived", func(context.Context) bool {
		var events uint64
		for _, a := range engines {
			events += a.Progress().Events
		}
		return events >= total
	})
	stop()
	group.Wait()
	h.once(t, archiver.Options{})
	h.check(t, "s")
	h.check(t, "r")
}

func TestATooLargeEntryStopsItsStreamOnly(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.addAt(t, "s", event.ID{Ms: 1}, 10)
	h.addAt(t, "s", event.ID{Ms: 2}, 5000)
	h.addAt(t, "s", event.ID{Ms: 3}, 10)
	h.add(t, "other", 20)
	summary, err := h.archiver(t, archiver.Options{MaxEntrySize: 1000}).Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var tooLarge *redisstream.TooLargeError
	if len(summary.Left) != 1 || !errors.As(summary.Left[0].Err, &tooLarge) || tooLarge.ID != (event.ID{Ms: 2}) {
		t.Fatalf("left %+v, want stream s with the ID of the entry", summary.Left)
	}
	h.check(t, "other")
	h.checkEvents(t, "s", h.record["s"][:1])
	h.once(t, archiver.Options{})
	h.check(t, "s")
}

func TestAKeyThatIsNoStream(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.admin.Set(t.Context(), "k", "v", 0)
	h.add(t, "s", 3)
	summary, err := h.archiver(t, archiver.Options{Include: []string{"k", "s", "nowhere"}}).Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(summary.Left) != 2 {
		t.Fatalf("left %+v, want k and nowhere", summary.Left)
	}
	for _, l := range summary.Left {
		want := map[string]error{"k": redisstream.ErrNotStream, "nowhere": redisstream.ErrNoStream}[l.Stream]
		if !errors.Is(l.Err, want) {
			t.Errorf("%s: %v, want %v", l.Stream, l.Err, want)
		}
	}
	h.check(t, "s")
}

func TestTheMirrorGroupShowsTheHead(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "s", 10)
	h.once(t, archiver.Options{Group: "reservoir"})
	h.add(t, "s", 4)
	groups, err := h.admin.XInfoGroups(t.Context(), "s").Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != 1 || groups[0].Lag != 4 || groups[0].Pending != 0 {
		t.Errorf("groups %+v, want one with a lag of 4", groups)
	}
}

func TestTrimmingStopsAtWhatOthersNeed(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{Args: []string{"--stream-node-max-entries", "1"}})
	for i := range uint64(20) {
		h.addAt(t, "s", event.ID{Ms: 1 + i}, 10)
	}
	h.admin.XGroupCreate(t.Context(), "s", "g", "12-0")
	h.once(t, archiver.Options{Trim: archiver.Trim{Enabled: true, Retain: time.Hour}})
	h.check(t, "s")
	first, err := h.admin.XRangeN(t.Context(), "s", "-", "+", 1).Result()
	if err != nil || len(first) != 1 || first[0].ID != "12-0" {
		t.Errorf("the stream begins with %+v (%v), want 12-0, which the group was delivered last", first, err)
	}
	h.admin.XGroupDestroy(t.Context(), "s", "g")
	h.addAt(t, "s", event.ID{Ms: 100}, 10)
	h.once(t, archiver.Options{Trim: archiver.Trim{Enabled: true, Retain: time.Hour}})
	h.check(t, "s")
	if n := h.admin.XLen(t.Context(), "s").Val(); n != 1 {
		t.Errorf("%d entries left, want the head alone", n)
	}
	if gaps := h.gaps(t, "s"); len(gaps) > 0 {
		t.Errorf("gaps %+v by the archiver's own trimming", gaps)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, opts := range map[string]archiver.Options{
		"streams.include":           {},
		"archive.formats":           {Include: []string{"s"}, Formats: []archive.Format{"avro"}},
		"archive.roll.size":         {Include: []string{"s"}, Roll: archiver.Roll{Size: -1}},
		"archive.poll.max_interval": {Include: []string{"s"}, PollInterval: time.Minute, PollMaxInterval: time.Second},
	} {
		if err := opts.Validate(); err == nil || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Errorf("%+v: %v, want an error that names %s", opts, err, name)
		}
	}
}
