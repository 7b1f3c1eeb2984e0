package replay_test

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

// Two hundred streams that were busy at the same time are merged in little
// memory.
func TestManyStreamsInBoundedMemory(t *testing.T) {
	const streams, each = 200, 1500
	b := newBench(t)
	filler := event.Field{Name: []byte("filler"), Value: bytes.Repeat([]byte("0123456789abcdef"), 20)}
	for s := range streams {
		var events []event.Event
		for i := range each {
			e := made(at(30*time.Minute-time.Duration(i)*time.Second-time.Duration(s)*time.Millisecond), "Paid", "t", i)
			e.Fields = append(e.Fields, filler)
			events = append(events, e)
		}
		b.put(fmt.Sprintf("s%03d", s), events...)
	}
	b.target.discard = true
	runtime.GC()
	debug.FreeOSMemory()
	var peak atomic.Uint64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		var m runtime.MemStats
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapInuse+m.StackInuse))
			}
		}
	}()
	began := time.Now()
	job := b.replay(replay.Spec{})
	took := time.Since(began)
	close(stop)
	<-done
	t.Logf("%d events in %v, peak %d MiB, read %d of %d bytes", job.Progress.Done, took, peak.Load()>>20, job.Progress.BytesRead, job.Progress.BytesTotal)
	if job.Progress.Done != streams*each || !b.target.sorted {
		t.Errorf("%d events, sorted: %t", job.Progress.Done, b.target.sorted)
	}
	if peak.Load() > 128<<20 {
		t.Errorf("it took %d MiB", peak.Load()>>20)
	}
}
