package archiver

import (
	"log/slog"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
)

func testArchive(t *testing.T) *archive.Archive {
	t.Helper()
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	arch, err := archive.Open(t.Context(), store, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return arch
}

// Two archivers have seen the same entries, and see that they are gone: the
// count is a lower bound, which counting twice would break.
func TestTwoArchiversRecordOneFailover(t *testing.T) {
	arch := testArchive(t)
	for range 2 {
		a := &Archiver{archive: arch, log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil)}
		st := &stream{
			name: "s", present: true,
			seen: redisstream.Info{EntriesAdded: 27, LastGeneratedID: event.ID{Ms: 27}},
			info: redisstream.Info{EntriesAdded: 20, LastGeneratedID: event.ID{Ms: 20}},
		}
		if err := a.loadLog(t.Context(), st); err != nil {
			t.Fatal(err)
		}
		if err := a.wentBack(t.Context(), st); err != nil {
			t.Fatal(err)
		}
		if got := st.log.Totals(); got.Gaps != 1 || got.Lost != 7 {
			t.Errorf("%d entries lost in %d gaps, want 7 in one", got.Lost, got.Gaps)
		}
		if st.seen != st.info {
			t.Error("what is gone still counts as seen")
		}
	}
}

// Looks that failed now and then over days do not add up to a long pause.
func TestQuietStreamForgetsFailures(t *testing.T) {
	log, err := testArchive(t).Log(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	s := newScheduler(&Archiver{opts: Options{Include: []string{"s"}}.withDefaults(), log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil)})
	st := &stream{name: "s", log: log, compared: true, failures: 6, interval: time.Second}
	s.look(st, redisstream.StreamInfo{Stream: "s"}, event.ID{}, time.Now())
	if st.failures != 0 {
		t.Errorf("%d failures in a row, after a look that found all well", st.failures)
	}
}
