package sink_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
)

// restoring is a restore in the midst of it.
type restoring struct {
	addr   string
	client *redisstream.Client
	kind   replay.SinkKind
	story  *story
	o      replay.Opening
}

func newRestoring(t *testing.T, streams ...string) *restoring {
	t.Helper()
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	r := &restoring{
		addr: server.Addr(), client: client, kind: sink.NewRedis(sink.RedisOptions{Default: client}),
		story: newStory(600, streams...), o: openingOf(t, 1, map[string]any{"ids": "keep", "allow_source": true}, streams...),
	}
	for i := range r.o.Streams {
		r.o.Streams[i].Head, r.o.Streams[i].EntriesAdded = event.ID{Ms: 5000}, 700
	}
	return r
}

// begin writes a part of the story, and gives the sink up.
func (r *restoring) begin(t *testing.T) {
	t.Helper()
	if err := openRedis(t, r.kind, r.o).Write(t.Context(), r.story.batch(replay.Position{}, 250)); err != nil {
		t.Fatal(err)
	}
	r.o.Epoch++
	r.o.Written = r.story.origin(249).Position
}

// end goes on from there to the end.
func (r *restoring) end(t *testing.T) error {
	t.Helper()
	s, err := r.kind.Open(t.Context(), r.o)
	if err != nil {
		return err
	}
	t.Cleanup(func() { s.Close() })
	if err := r.story.play(t, s, 100); err != nil {
		return err
	}
	return s.(replay.Finisher).Finish(t.Context())
}

// there is how many of the streams exist, also for those who look for a pattern.
func (r *restoring) there(t *testing.T) (n int) {
	t.Helper()
	for _, stream := range r.story.streams {
		n += int(command(t, r.addr, "EXISTS", stream).(int64))
	}
	found := 0
	for _, err := range r.client.Discover(t.Context(), []string{"*"}, nil) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != n {
		t.Errorf("a pattern selects %d streams, and %d are there", found, n)
	}
	return n
}

// restored fails unless all streams are what they are to be, and nothing else is left.
func (r *restoring) restored(t *testing.T) {
	t.Helper()
	r.story.want(t, r.client, func(stream string) string { return stream }, false, true)
	for _, stream := range r.story.streams {
		info, err := r.client.Info(t.Context(), stream)
		if err != nil || info.LastGeneratedID != (event.ID{Ms: 5000}) || info.EntriesAdded != 700 {
			t.Errorf("%q: %+v, %v", stream, info, err)
		}
	}
	if err := r.kind.Clean(t.Context(), r.o); err != nil {
		t.Fatal(err)
	}
	if n := lasting(t, r.addr); n != len(r.story.streams) {
		t.Errorf("%d keys are left", n)
	}
}

// TestRedisRestoresBeside: nobody sees a stream before it is whole, and whatever
// attempt ends, it is there once and as it was.
func TestRedisRestoresBeside(t *testing.T) {
	r := newRestoring(t, "a", "b{tag}")
	r.begin(t)
	if n := r.there(t); n != 0 {
		t.Fatalf("%d streams are there already", n)
	}
	stale := openRedis(t, r.kind, r.o)
	r.o.Epoch++
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	if err := stale.(replay.Finisher).Finish(t.Context()); err == nil {
		t.Fatal("a stale sink finishes")
	}
	// An attempt that does not know that the last one came to its end.
	command(t, r.addr, "XADD", "a", "5001-1", "a", "b")
	command(t, r.addr, "XDEL", "a", "5001-1")
	command(t, r.addr, "XSETID", "a", "5000-0", "ENTRIESADDED", 700, "MAXDELETEDID", "0-0")
	r.o.Epoch++
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	r.restored(t)
}

// TestRedisRestoreKeepsGroups: groups that were made for a stream before it is there
// are its groups then.
func TestRedisRestoreKeepsGroups(t *testing.T) {
	r := newRestoring(t, "a")
	r.begin(t)
	command(t, r.addr, "XGROUP", "CREATE", "a", "from the start", "0", "MKSTREAM")
	command(t, r.addr, "XGROUP", "CREATE", "a", "later", "7-0")
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	groups, err := r.client.Groups(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]event.ID{}
	for _, g := range groups {
		at[g.Name] = g.LastDeliveredID
	}
	if len(at) != 2 || at["from the start"] != (event.ID{}) || at["later"] != (event.ID{Ms: 7}) {
		t.Errorf("%+v", groups)
	}
	r.restored(t)
}

// TestRedisRestoreMeetsAnother: what came in the stream's place meanwhile stays, and
// the replay goes on when it is away.
func TestRedisRestoreMeetsAnother(t *testing.T) {
	r := newRestoring(t, "a", "b")
	r.begin(t)
	command(t, r.addr, "XADD", "b", "9-9", "a", "b")
	for range 2 {
		err := r.end(t)
		if err == nil || errors.Is(err, replay.ErrUnavailable) || !strings.Contains(err.Error(), `"b"`) || !strings.Contains(remedy.Of(err), "retry") {
			t.Fatalf("%v: %s", err, remedy.Of(err))
		}
		r.o.Epoch++
	}
	if n := command(t, r.addr, "XLEN", "b"); n != int64(1) {
		t.Fatalf("b has %d entries", n)
	}
	command(t, r.addr, "DEL", "b")

	// It may also come in the last moment, when others are in their places.
	s := openRedis(t, r.kind, r.o)
	if err := r.story.play(t, s, 100); err != nil {
		t.Fatal(err)
	}
	command(t, r.addr, "XADD", "b", "9-9", "a", "b")
	if err := s.(replay.Finisher).Finish(t.Context()); err == nil || !strings.Contains(err.Error(), `"b"`) {
		t.Fatal(err)
	}
	if n := command(t, r.addr, "XLEN", "a"); n != int64(300) {
		t.Fatalf("a has %d entries", n)
	}
	command(t, r.addr, "DEL", "b")
	r.o.Epoch++
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	r.restored(t)
}

// TestRedisRestoreIsCancelled: nothing is left of it.
func TestRedisRestoreIsCancelled(t *testing.T) {
	r := newRestoring(t, "a", "b")
	r.begin(t)
	if n := lasting(t, r.addr); n != 3 {
		t.Fatalf("%d keys, want two streams and a checkpoint", n)
	}
	if err := r.kind.Clean(t.Context(), r.o); err != nil {
		t.Fatal(err)
	}
	if n := lasting(t, r.addr); n != 0 || r.there(t) != 0 {
		t.Errorf("%d keys are left: %v", n, command(t, r.addr, "KEYS", "*"))
	}
}

// TestRedisRestoreLosesItsCheckpoint: what nobody has seen yet is restored anew.
func TestRedisRestoreLosesItsCheckpoint(t *testing.T) {
	r := newRestoring(t, "a", "b")
	r.begin(t)
	command(t, r.addr, "DEL", "reservoir:replay:job")
	s := openRedis(t, r.kind, r.o)
	if p, err := s.Position(t.Context()); err != nil || !p.IsZero() {
		t.Fatal(p, err)
	}
	r.o.Epoch++
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	// In its place it is not written again.
	command(t, r.addr, "DEL", "reservoir:replay:job")
	if _, err := r.kind.Open(t.Context(), r.o); !errors.Is(err, replay.ErrRecordLost) {
		t.Fatal(err)
	}
	r.story.want(t, r.client, func(stream string) string { return stream }, false, true)
}

// TestRedisRestoreInPlaceIsWhole: what has to put in one entry after the other may
// not do so where the archiver looks.
func TestRedisRestoreInPlaceIsWhole(t *testing.T) {
	r := newRestoring(t, "a")
	group, follow := r.o, r.o
	group.BackPressure = replay.BackPressure{Group: "g", MaxLag: 10}
	follow.Follow = true
	for _, o := range []replay.Opening{group, follow} {
		if _, err := r.kind.Check(t.Context(), o); err == nil || !strings.Contains(err.Error(), "in its own place") || remedy.Of(err) == "" {
			t.Error(err)
		}
		o.Options = jsonOf(t, map[string]any{"ids": "keep", "stream": "{stream}:copy"})
		o.BackPressure = replay.BackPressure{}
		if _, err := r.kind.Check(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
	length := r.o
	length.BackPressure = replay.BackPressure{MaxLength: 10}
	target, err := r.kind.Check(t.Context(), length)
	if err != nil || !slices.ContainsFunc(target.Warnings, func(w string) bool { return strings.Contains(w, "max_length") }) {
		t.Errorf("%+v, %v", target, err)
	}
	s := openRedis(t, r.kind, length)
	if err := s.Write(t.Context(), r.story.batch(replay.Position{}, 11)); err != nil {
		t.Fatal(err)
	}
	if why, err := s.(replay.Presser).Pressure(t.Context()); err != nil || !strings.HasPrefix(why, "stream a has 11 entries") {
		t.Errorf("%q, %v", why, err)
	}
}
