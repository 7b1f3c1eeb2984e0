package archive

import (
	"errors"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// TestLostCommit: a store that has lost a commit makes the log look shorter
// than it is. Verify says so, and GC deletes nothing by such a log.
func TestLostCommit(t *testing.T) {
	for lost := uint64(1); lost <= 3; lost++ {
		h := newHarness(t)
		for n := range uint64(4) {
			h.add("s", event.ID{Ms: n + 1}, 1)
		}
		h.mustVerify("s")
		if err := h.store.Delete(t.Context(), incarnationDir("s", 1)+commitKey(lost)); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range h.verify("s").Findings {
			found = found || f.Severity == Problem && f.Kind == FindingLog && f.Key == incarnationDir("s", 1)+commitKey(lost)
		}
		if !found {
			t.Errorf("commit %d is lost and not found missing", lost)
		}
		h.now = h.now.Add(100 * time.Hour)
		a, err := Open(t.Context(), h.store, Options{Clock: h.store.clock})
		if err != nil {
			t.Fatal(err)
		}
		report, err := a.GC(t.Context(), GCSpec{Stream: "s"})
		if !errors.Is(err, ErrDamaged) || report.Segments > 0 {
			t.Errorf("commit %d is lost, and GC deletes %d segments (%v)", lost, report.Segments, err)
		}
	}
}
