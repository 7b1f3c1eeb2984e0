package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/replay"
)

// noon is the present of these tests.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// shelf is a Service on an archive in a directory, with events that tests put
// there.
type shelf struct {
	t     testing.TB
	store objectstore.Store
	arch  *archive.Archive
	jobs  *jobs.Store
	sink  *paperSink
	svc   *replay.Service
}

func newShelf(t testing.TB, dir string) *shelf {
	t.Helper()
	store, err := objectstore.NewLocal(dir, objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	arch, err := archive.Open(t.Context(), store, archive.Options{Writer: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{t: t, store: store, arch: arch, jobs: jobs.NewStore(store, jobs.StoreOptions{}), sink: &paperSink{}}
	s.svc, err = replay.New(replay.Options{
		Archive: arch, Jobs: s.jobs, Sinks: []replay.SinkKind{s.sink}, Clock: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// at is an ID so long before noon.
func at(before time.Duration) event.ID {
	return event.ID{Ms: uint64(noon.Add(-before).UnixMilli())}
}

// made is an event of a type and tenant.
func made(id event.ID, kind, tenant string, total int) event.Event {
	field := func(name, value string) event.Field { return event.Field{Name: []byte(name), Value: []byte(value)} }
	return event.Event{ID: id, Fields: []event.Field{
		field("event_id", "e"+id.String()), field("type", kind), field("tenant", tenant), field("aggregate_id", fmt.Sprint(total%7)),
		field("payload", fmt.Sprintf(`{"total":%d}`, total)),
	}}
}

// put archives events as one segment; they lie in one hour.
func (s *shelf) put(stream string, events ...event.Event) {
	s.t.Helper()
	ctx := context.Background()
	l, err := s.arch.Log(ctx, stream)
	if err != nil {
		s.t.Fatal(err)
	}
	w := s.arch.NewSegmentWriter(ctx, stream, l.Incarnation(), []archive.Format{archive.Parquet}, events[0].ID)
	defer w.Abort()
	var b event.Batch
	for i := range events {
		b.Append(&events[i])
	}
	if err := w.Write(&b, 0, b.Len()); err != nil {
		s.t.Fatal(err)
	}
	segments, err := w.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	commit := archive.Commit{Kind: archive.KindAppend, Head: w.Last(), EntriesAdded: l.EntriesAdded() + uint64(len(events)), Adds: segments}
	if _, err := l.Append(ctx, commit); err != nil {
		s.t.Fatal(err)
	}
}

// seal ends the present incarnation of a stream: the next one has nothing in
// common with it.
func (s *shelf) seal(stream string) { s.sealAt(stream, event.Event{}, 0) }

// sealAt ends the present incarnation of a stream: the next one goes on after an
// event of it, with a count.
func (s *shelf) sealAt(stream string, base event.Event, added uint64) {
	s.t.Helper()
	ctx := context.Background()
	l, err := s.arch.Log(ctx, stream)
	if err != nil {
		s.t.Fatal(err)
	}
	seal := &archive.Seal{Reason: archive.CauseRemoved, Next: l.Incarnation() + 1}
	if added > 0 {
		seal.Reason, seal.Base, seal.BaseDigest, seal.BaseEntriesAdded = archive.CauseFailover, base.ID, event.Digest(&base), added
	}
	if _, err := l.Append(ctx, archive.Commit{Kind: archive.KindSeal, Seal: seal}); err != nil {
		s.t.Fatal(err)
	}
}

// paperSink is a kind of sink that nothing is written to.
type paperSink struct {
	checked []replay.Opening
	refuse  error
}

func (*paperSink) Type() string { return "paper" }

func (*paperSink) Parse(target string, _ map[string]string) (json.RawMessage, error) {
	return json.Marshal(target)
}

func (k *paperSink) Check(_ context.Context, o replay.Opening) (replay.Target, error) {
	k.checked = append(k.checked, o)
	return replay.Target{Key: "paper:a", Description: "a sheet of paper", Guarantee: replay.AtLeastOnce, Warnings: []string{"paper burns"}}, k.refuse
}

func (*paperSink) Open(context.Context, replay.Opening) (replay.Sink, error) {
	return nil, errors.New("paper is not written to")
}

func (*paperSink) Clean(context.Context, replay.Opening) error { return nil }

var _ replay.SinkKind = (*paperSink)(nil)

// paper is a valid spec of all there is.
func paper(streams ...string) replay.Spec {
	if len(streams) == 0 {
		streams = []string{"*"}
	}
	return replay.Spec{Streams: streams, Sink: replay.SinkSpec{Type: "paper"}}
}
