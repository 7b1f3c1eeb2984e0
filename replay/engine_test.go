package replay_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/replay"
)

// fill archives n events of a stream, step apart, ending before noon, in
// segments of 700.
func (b *bench) fill(stream string, n int, start, step time.Duration) []event.Event {
	b.t.Helper()
	var all, segment []event.Event
	for i := range n {
		id := at(start - time.Duration(i)*step)
		if k := len(all); k > 0 && all[k-1].ID.Ms == id.Ms {
			id.Seq = all[k-1].ID.Seq + 1
		}
		e := made(id, []string{"Paid", "Sent", "Lost"}[i%3], "t"+fmt.Sprint(i%5), i)
		all = append(all, e)
		if k := len(segment); k == 700 || k > 0 && segment[0].ID.Ms/3_600_000 != id.Ms/3_600_000 {
			b.put(stream, segment...)
			segment = nil
		}
		segment = append(segment, e)
	}
	if len(segment) > 0 {
		b.put(stream, segment...)
	}
	return all
}

// want fails unless the target has exactly these events in this order.
func (b *bench) want(events []event.Event) {
	b.t.Helper()
	if len(b.target.got) != len(events) {
		b.t.Errorf("the target has %d events, want %d", len(b.target.got), len(events))
		return
	}
	for i := range events {
		if !b.target.got[i].event.Equal(&events[i]) {
			b.t.Fatalf("event %d is %s, want %s", i, b.target.got[i].event.ID, events[i].ID)
		}
	}
	for i := 1; i < len(b.target.got); i++ {
		if b.target.got[i-1].Position.Compare(b.target.got[i].Position) >= 0 {
			b.t.Fatalf("position %d is %s, after %s", i, b.target.got[i].Position, b.target.got[i-1].Position)
		}
	}
}

func TestOneStream(t *testing.T) {
	b := newBench(t)
	events := b.fill("a", 2500, time.Hour, time.Second)
	job := b.replay(replay.Spec{})
	b.want(events)
	p := job.Progress
	if p.Done != 2500 || p.Selected != 2500 || p.Total != 2500 || !p.Exact || p.BytesRead == 0 || p.Phase != "finishing" {
		t.Errorf("progress is %+v", p)
	}
	if len(p.Streams) != 1 || p.Streams[0].Done != 2500 || p.Streams[0].Stream != "a" {
		t.Errorf("streams are %+v", p.Streams)
	}
	// What is left of a chunk is announced however slow reading is; a whole chunk
	// only if it is there by then.
	if b.target.kept == 0 {
		t.Error("no batch was announced")
	}
	if b.target.finished != 1 || b.target.cleaned != 1 {
		t.Errorf("finished %d times, cleaned %d times", b.target.finished, b.target.cleaned)
	}
}

// TestNameThatIsNotText replays a stream whose name JSON cannot hold.
func TestNameThatIsNotText(t *testing.T) {
	b := newBench(t)
	events := b.fill("odd \xff\xfe", 1500, time.Hour, time.Second)
	b.replay(replay.Spec{})
	b.want(events)
	if got := b.target.got[0].Stream; got != "odd \xff\xfe" {
		t.Errorf("the stream is %q", got)
	}
}

func TestMergedByTime(t *testing.T) {
	for _, streams := range []int{2, 3, 9} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) {
			b := newBench(t)
			var all []event.Event
			for i := range streams {
				all = append(all, b.fill(fmt.Sprintf("s%d", i), 900, time.Hour, time.Duration(i+1)*time.Second)...)
			}
			slices.SortStableFunc(all, func(x, y event.Event) int { // by stream where the milliseconds are equal
				return int(int64(x.ID.Ms) - int64(y.ID.Ms))
			})
			b.replay(replay.Spec{})
			b.want(all)
		})
	}
}

func TestStreamAfterStream(t *testing.T) {
	b := newBench(t)
	all := slices.Concat(b.fill("a", 900, time.Hour, time.Second), b.fill("b", 900, time.Hour, time.Second), b.fill("c", 10, 2*time.Hour, time.Second))
	b.replay(replay.Spec{Order: replay.OrderStream})
	b.want(all)
}

// An incarnation whose IDs begin below those of the one before comes after it.
func TestIncarnations(t *testing.T) {
	b := newBench(t)
	first := b.fill("a", 10, time.Hour, time.Second)
	b.seal("a")
	second := b.fill("a", 10, 2*time.Hour, time.Second)
	other := b.fill("b", 10, 90*time.Minute, 3*time.Minute)
	job := b.create(replay.Spec{})
	b.run(job.ID)
	// b has events before those of a, between and behind them.
	var all []event.Event
	split := 0
	for split < 10 && other[split].ID.Less(first[0].ID) {
		split++
	}
	all = append(all, other[:split]...)
	all = append(all, first...)
	all = append(all, second...)
	rest := other[split:]
	slices.SortFunc(all, func(x, y event.Event) int { return 0 })
	all = append(all, rest...)
	b.want(all)
}

var errCrash = errors.New("killed")

// A worker that is killed at any write, before or after its effect, leaves a
// target and counts that are as if nothing had happened.
func TestCrashes(t *testing.T) {
	specs := map[string]replay.Spec{
		"all":    {},
		"filter": {Filter: event.Filter{Types: []string{"Paid"}}},
		"where":  {Filter: event.Filter{Where: `payload.total % 7 == 1`}},
		"limit":  {Limit: 1700},
	}
	for name, spec := range specs {
		for _, records := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s,records=%t", name, records), func(t *testing.T) {
				quiet := newBench(t)
				quiet.target.records = records
				quiet.fill("a", 1500, 20*time.Minute, 100*time.Millisecond)
				quiet.fill("b", 1500, 20*time.Minute, 200*time.Millisecond)
				want := quiet.replay(spec)
				step := 1
				if name != "all" {
					step = 3
				}
				for write := 1; write <= quiet.target.writes; write += step {
					for _, after := range []bool{false, true} {
						crashed(t, quiet, spec, want, write, after)
					}
				}
			})
		}
	}
}

func crashed(t *testing.T, quiet *bench, spec replay.Spec, want *jobs.Job, write int, after bool) {
	t.Helper()
	b := *quiet
	b.target = &target{records: quiet.target.records}
	b.opts.Sinks = []replay.SinkKind{memoryKind{b.target}}
	var err error
	if b.svc, err = replay.New(b.opts); err != nil {
		t.Fatal(err)
	}
	id := b.create(spec).ID
	var crash atomic.Bool
	dying := faulty.New(b.store, func(faulty.Step) faulty.Fault { return faulty.Fault{Crash: crash.Load()} })
	b.target.fault = func(n int, a bool) error {
		if n == write && a == after {
			crash.Store(true)
			return errCrash
		}
		return nil
	}
	if _, err := b.try(t.Context(), dying, id); err == nil {
		t.Fatal("it did not crash")
	}
	b.target.fault = nil
	job := b.run(id)
	if job.State != jobs.Succeeded {
		t.Fatalf("crash at %d: %s %s %v", write, job.State, job.StateReason, job.LastError)
	}
	got, expected := b.target.got, quiet.target.got
	if !b.target.records { // at most a batch is repeated
		if extra := len(got) - len(expected); extra > 1000 || extra < 0 {
			t.Errorf("crash at %d, after=%t: %d events more", write, after, extra)
		}
		seen := map[replay.Position]bool{}
		got = slices.DeleteFunc(slices.Clone(got), func(w written) bool {
			again := seen[w.Position]
			seen[w.Position] = true
			return again
		})
	}
	if len(got) != len(expected) {
		t.Fatalf("crash at %d, after=%t: %d events, want %d", write, after, len(got), len(expected))
	}
	for i := range got {
		if got[i].Position != expected[i].Position || !got[i].event.Equal(&expected[i].event) {
			t.Fatalf("crash at %d, after=%t: event %d is %s, want %s", write, after, i, got[i].Position, expected[i].Position)
		}
	}
	p, q := job.Progress, want.Progress
	if p.Done != q.Done || p.Selected != q.Selected || p.DeadLetters != q.DeadLetters || p.Position != q.Position || !slices.Equal(p.Streams, q.Streams) {
		t.Errorf("crash at %d, after=%t: progress is %+v, want %+v", write, after, p, q)
	}
}
