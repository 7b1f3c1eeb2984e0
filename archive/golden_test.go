package archive

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the sample archive of the current version anew")

const goldenDir = "testdata/v1"

// TestGoldenArchive reads the committed sample of version 1: every version that
// was ever released has to stay readable.
func TestGoldenArchive(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	h := newHarness(t)
	err := filepath.WalkDir(goldenDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key, err := filepath.Rel(goldenDir, path)
		h.store.objects[filepath.ToSlash(key)] = memObject{body: body, time: h.now}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.a, err = Open(t.Context(), h.store, Options{}); err != nil {
		t.Fatal(err)
	}
	r := h.mustVerify("Shop:orders")
	if want := (VerifyTotals{Commits: 11, Segments: 6, Events: 33, Bytes: r.Verified.Bytes}); r.Verified != want || r.Incarnations != 2 {
		t.Errorf("verified %+v, want %+v", r.Verified, want)
	}
	p := h.plan(PlanSpec{Stream: "Shop:orders"})
	if ids := h.ids(p); len(ids) != 33 || p.Totals.Lost != 4 {
		t.Errorf("%d events, %+v", len(ids), p.Totals)
	}
	l := loadLog(t, h.a, "Shop:orders")
	if l.Incarnation() != 2 || l.Head() != hourID(7, 6) || l.EntriesAdded() != 7 {
		t.Errorf("log at incarnation %d, head %s, %d entries added", l.Incarnation(), l.Head(), l.EntriesAdded())
	}
	if _, ok := h.store.objects[incarnationDir("Shop:orders", 1)+snapshotKey(8)]; !ok {
		t.Error("the sample has no snapshot")
	}
}

func writeGolden(t *testing.T) {
	t.Helper()
	const stream = "Shop:orders"
	h := newHarness(t)
	h.a.snapshotEvery = 4
	for i := range 4 {
		h.add(stream, hourID(7, i*10), 5)
	}
	l := loadLog(t, h.a, stream)
	mustAppend(t, l, Commit{
		Kind: KindGap, Head: hourID(7, 99), EntriesAdded: 24,
		Gap: &Gap{After: l.Head(), UpTo: hourID(7, 99), Lost: 4, Exact: true, Cause: CauseTrimmed},
	})
	if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: stream}); err != nil {
		t.Fatal(err)
	}
	h.add(stream, hourID(8, 0), 6)
	l = loadLog(t, h.a, stream)
	mustAppend(t, l, Commit{Kind: KindSeal, Seal: &Seal{Next: 2, Reason: CauseRemoved}})
	h.add(stream, hourID(7, 0), 4)
	h.add(stream, hourID(7, 4), 3)
	h.now = h.now.Add(time.Hour)
	if _, err := h.a.GC(t.Context(), GCSpec{Stream: stream, Grace: time.Minute, Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: stream}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.a.GC(t.Context(), GCSpec{Stream: stream, Grace: time.Nanosecond, Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(goldenDir); err != nil {
		t.Fatal(err)
	}
	for key, o := range h.store.objects {
		path := filepath.Join(goldenDir, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, o.body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
