package replay_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/replay"
)

// A crash repeats no more than a batch, also of events so large that batches have
// few of them.
func TestRepeatsOneBatch(t *testing.T) {
	b := newBench(t)
	b.target.records = false
	var all []event.Event
	for i := range 40 {
		e := made(at(time.Hour-time.Duration(i)*time.Second), "T", "t", i)
		e.Fields = append(e.Fields, event.Field{Name: []byte("big"), Value: []byte(strings.Repeat("x", 300_000))})
		all = append(all, e)
	}
	b.put("a", all...)
	id := b.create(replay.Spec{}).ID
	var crash atomic.Bool
	dying := faulty.New(b.store, func(faulty.Step) faulty.Fault { return faulty.Fault{Crash: crash.Load()} })
	b.target.fault = func(n int, a bool) error {
		if n == 10 && a {
			crash.Store(true)
			return errCrash
		}
		return nil
	}
	if _, err := b.try(t.Context(), dying, id); err == nil {
		t.Fatal("it did not crash")
	}
	batch := 0
	for _, sent := range b.target.batches {
		batch = max(batch, sent.events)
	}
	b.target.fault = nil
	b.run(id)
	if repeated := len(b.target.got) - len(all); repeated > batch {
		t.Errorf("%d events were repeated, and batches have up to %d", repeated, batch)
	}
}
