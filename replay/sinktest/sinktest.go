// Package sinktest holds what every kind of sink has to keep: Run it over a new
// kind before a replay does.
package sinktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

// Harness is a kind of sink under test, with targets to write to.
type Harness struct {
	Kind replay.SinkKind
	// Target makes a new, empty target.
	Target func(t testing.TB) Target
	// Rejects says that the target never takes events whose payload is Poison.
	Rejects bool

	exact bool // the sink is exactly once
}

// Target is one target.
type Target struct {
	Options json.RawMessage
	// Read returns the event IDs (the field "event_id") of what the target holds,
	// in the order in which it got them, repeats and all.
	Read func(t testing.TB) []string
}

// Poison is the payload of events that a target which Rejects never takes.
const Poison = `{"poison":true}`

const (
	streams    = 2   // of a test's replay, one after the other
	events     = 120 // of each stream
	aggregates = 7
)

// Run runs the tests.
func Run(t *testing.T, h Harness) {
	t.Run("check", func(t *testing.T) { check(t, h) })
	got, err := h.Kind.Check(t.Context(), Opening(h.Target(t).Options, "", 0))
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	h.exact = got.Guarantee == replay.ExactlyOnce
	t.Run("order", func(t *testing.T) { order(t, h) })
	t.Run("resume", func(t *testing.T) { resume(t, h) })
	t.Run("take over", func(t *testing.T) { takeOver(t, h) })
	t.Run("unknown option", func(t *testing.T) { unknownOption(t, h) })
	if h.Rejects {
		t.Run("rejected", func(t *testing.T) { rejected(t, h) })
	}
}

// Event is one event of a test's replay.
type Event struct {
	Origin  replay.Origin
	Payload string
}

// Events returns the events of a replay in order.
func Events() []Event {
	var all []Event
	for s := range streams {
		for i := range events {
			id := event.ID{Ms: 1_700_000_000_000 + uint64(i/3), Seq: uint64(i % 3)}
			all = append(all, Event{
				Origin: replay.Origin{
					Position: replay.Position{Stream: s, Incarnation: 1, ID: id},
					Stream:   streamName(s), EventID: fmt.Sprintf("e%d-%d", s, i), Key: fmt.Sprintf("a%d-%d", s, i%aggregates),
				},
				Payload: fmt.Sprintf(`{"n":%d}`, i),
			})
		}
	}
	return all
}

// streamName shares a slot with the others', in a cluster too.
func streamName(i int) string { return fmt.Sprintf("{sinktest}:%d", i) }

// BatchOf returns a batch of events.
func BatchOf(from []Event) *replay.Batch {
	b := &replay.Batch{}
	for _, e := range from {
		b.Begin(e.Origin.ID)
		for _, f := range [][2]string{{"event_id", e.Origin.EventID}, {"event_type", "Tested"}, {"aggregate_id", e.Origin.Key}, {"payload", e.Payload}} {
			b.AddField([]byte(f[0]), []byte(f[1]))
		}
		b.Origins = append(b.Origins, e.Origin)
	}
	return b
}

// Opening returns the Opening of an attempt at a replay of Events.
func Opening(options json.RawMessage, job string, epoch uint64) replay.Opening {
	o := replay.Opening{
		Replay: job, Epoch: epoch, Options: options,
		Retry: replay.RetryPolicy{Attempts: 3, Initial: time.Millisecond, Max: 10 * time.Millisecond},
	}
	all := Events()
	for s := range streams {
		o.Streams = append(o.Streams, replay.StreamRange{Stream: streamName(s), Incarnation: 1, Head: all[len(all)-1].Origin.ID})
	}
	return o
}

// open opens a sink that is closed with the test.
func open(t *testing.T, h Harness, o replay.Opening) replay.Sink {
	t.Helper()
	s, err := h.Kind.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open with epoch %d: %v", o.Epoch, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
	})
	return s
}

func write(t *testing.T, s replay.Sink, all []Event, size int) {
	t.Helper()
	for part := range slices.Chunk(all, size) {
		if err := s.Write(t.Context(), BatchOf(part)); err != nil {
			t.Fatalf("write %d events from %s: %v", len(part), part[0].Origin.EventID, err)
		}
	}
}

func closeSink(t *testing.T, s replay.Sink) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// check: Check describes the target, and writes nothing.
func check(t *testing.T, h Harness) {
	target := h.Target(t)
	o := Opening(target.Options, "", 0)
	first, err := h.Kind.Check(t.Context(), o)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	if first.Key == "" || first.Description == "" || first.Guarantee != replay.ExactlyOnce && first.Guarantee != replay.AtLeastOnce {
		t.Errorf("target %+v: it needs a key, a description and a guarantee", first)
	}
	if again, err := h.Kind.Check(t.Context(), o); err != nil || again.Key != first.Key {
		t.Errorf("checked again: %+v, %v; before: %+v", again, err, first)
	}
	if got := target.Read(t); len(got) > 0 {
		t.Errorf("check wrote %d events", len(got))
	}
}

// order: everything arrives, in order, and the sink remembers it where it is
// exactly once. What it keeps is removed by Clean, which may be called again.
func order(t *testing.T, h Harness) {
	target, all := h.Target(t), Events()
	o := Opening(target.Options, "order", 1)
	s := open(t, h, o)
	if p, err := s.Position(t.Context()); err != nil || !p.IsZero() {
		t.Errorf("a new replay begins at %s, %v", p, err)
	}
	write(t, s, all, 17)
	if f, ok := s.(replay.Finisher); ok {
		for range 2 {
			if err := f.Finish(t.Context()); err != nil {
				t.Errorf("finish: %v", err)
			}
		}
	}
	closeSink(t, s)
	for range 2 {
		if err := h.Kind.Clean(t.Context(), o); err != nil {
			t.Errorf("clean: %v", err)
		}
	}
	same(t, h, target, all)
}

// resume: an attempt goes on where the one before it ended, wherever that was,
// with other cuts between batches.
func resume(t *testing.T, h Harness) {
	all := Events()
	for _, cut := range []int{0, 1, 50, events - 1, events, events + 1, len(all) - 1, len(all)} {
		target := h.Target(t)
		first := open(t, h, Opening(target.Options, "resume", 1))
		write(t, first, all[:cut], 13)
		closeSink(t, first)
		second := open(t, h, Opening(target.Options, "resume", 2))
		position, err := second.Position(t.Context())
		if err != nil {
			t.Fatalf("position: %v", err)
		}
		switch {
		case !h.exact:
			if !position.IsZero() {
				t.Errorf("a sink that is at least once knows the position %s", position)
			}
		case cut == 0 && !position.IsZero(), cut > 0 && position != all[cut-1].Origin.Position:
			t.Errorf("after %d events the position is %s", cut, position)
		}
		write(t, second, all[max(0, cut-13):], 19)
		closeSink(t, second)
		same(t, h, target, all)
	}
}

// takeOver: once an attempt with a higher epoch is open, the one before it
// writes nothing.
func takeOver(t *testing.T, h Harness) {
	target, all := h.Target(t), Events()
	stale := open(t, h, Opening(target.Options, "takeover", 1))
	write(t, stale, all[:30], 10)
	next := open(t, h, Opening(target.Options, "takeover", 2))
	if h.exact {
		if err := stale.Write(t.Context(), BatchOf(all[30:40])); !errors.Is(err, replay.ErrFenced) {
			t.Errorf("a stale attempt's write: %v, want ErrFenced", err)
		}
	}
	write(t, next, all[30:60], 10)
	if h.exact {
		s, err := h.Kind.Open(t.Context(), Opening(target.Options, "takeover", 1))
		if err == nil { // it may find out with the first write
			err = errors.Join(s.Write(t.Context(), BatchOf(all[60:70])), s.Close())
		}
		if !errors.Is(err, replay.ErrFenced) {
			t.Errorf("opened again with a stale epoch: %v, want ErrFenced", err)
		}
	}
	write(t, next, all[60:], 10)
	same(t, h, target, all)
}

// unknownOption: Parse, Check and Open refuse what they do not know, and Parse
// and Check name what they do.
func unknownOption(t *testing.T, h Harness) {
	target := h.Target(t)
	var options map[string]json.RawMessage
	if err := json.Unmarshal(target.Options, &options); err != nil {
		t.Fatal(err)
	}
	if options == nil {
		options = map[string]json.RawMessage{}
	}
	options["no_such_option"] = json.RawMessage("1")
	raw, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Kind.Check(t.Context(), Opening(raw, "", 0)); err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("check with an unknown option: %v", err)
	}
	if s, err := h.Kind.Open(t.Context(), Opening(raw, "unknown", 1)); err == nil {
		t.Errorf("open takes an unknown option: %v", s.Close())
	}
	_, err = h.Kind.Parse("", map[string]string{"no_such_option": "1"})
	if err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("parse with an unknown option: %v", err)
	}
}

// rejected: the events that a target never takes are named, and nothing else is
// left out.
func rejected(t *testing.T, h Harness) {
	target, all := h.Target(t), Events()
	s := open(t, h, Opening(target.Options, "rejected", 1))
	write(t, s, all[:10], 10)
	part := slices.Clone(all[10:60])
	want := []int{0, 7, 8, 49}
	for _, i := range want {
		part[i].Payload = Poison
	}
	err := s.Write(t.Context(), BatchOf(part))
	r, ok := errors.AsType[*replay.RejectedError](err)
	if !ok {
		t.Fatalf("write with %d events that are not taken: %v", len(want), err)
	}
	var got []int
	for _, e := range r.Events {
		got = append(got, e.Index)
		if e.Err == nil || e.Attempts < 1 {
			t.Errorf("event %d is rejected after %d attempts for %v", e.Index, e.Attempts, e.Err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("rejected %v, want %v", got, want)
	}
	write(t, s, all[60:], 10)
	left := slices.Concat(all[:10], part, all[60:])
	same(t, h, target, slices.DeleteFunc(left, func(e Event) bool { return e.Payload == Poison }))
}

// same compares what a target holds with what it should: event by event where
// the sink is exactly once, else each at least once and in the order of its
// aggregate, not counting repeats.
func same(t *testing.T, h Harness, target Target, want []Event) {
	t.Helper()
	got := target.Read(t)
	if h.exact {
		ids := make([]string, len(want))
		for i, e := range want {
			ids[i] = e.Origin.EventID
		}
		if !slices.Equal(got, ids) {
			t.Errorf("the target holds %d events, want %d; %s", len(got), len(ids), difference(got, ids))
		}
		return
	}
	keys := map[string]string{}
	byKey := map[string][]string{}
	for _, e := range want {
		keys[e.Origin.EventID] = e.Origin.Key
		byKey[e.Origin.Key] = append(byKey[e.Origin.Key], e.Origin.EventID)
	}
	gotByKey, seen := map[string][]string{}, map[string]bool{}
	for _, id := range got {
		key, known := keys[id]
		if !known {
			t.Errorf("the target holds %s, which is not for it", id)
		}
		if !seen[id] {
			seen[id] = true
			gotByKey[key] = append(gotByKey[key], id)
		}
	}
	for key, ids := range byKey {
		if !slices.Equal(gotByKey[key], ids) {
			t.Errorf("aggregate %s: the target holds %d events, want %d; %s", key, len(gotByKey[key]), len(ids), difference(gotByKey[key], ids))
		}
	}
}

// difference tells the first one between two lists.
func difference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("the one at %d is %s, want %s", i, got[i], want[i])
		}
	}
	return "one is the beginning of the other"
}
