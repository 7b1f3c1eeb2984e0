package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

// harness is an archive on a store in memory whose clock is moved by hand.
type harness struct {
	t     testing.TB
	a     *Archive
	store *memStore
	now   time.Time
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	h := &harness{t: t, store: newMemStore(), now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	h.store.clock = func() time.Time { return h.now }
	a, err := Open(t.Context(), h.store, Options{Writer: "test", Clock: h.store.clock})
	if err != nil {
		t.Fatal(err)
	}
	h.a = a
	return h
}

// hour is an ID so many milliseconds into that hour of the test's day.
func hourID(hour, ms int) event.ID {
	return event.ID{Ms: uint64(time.Date(2026, 11, 21, hour, 0, 0, 0, time.UTC).UnixMilli() + int64(ms))}
}

func testEvent(id event.ID) event.Event {
	field := func(name, value string) event.Field { return event.Field{Name: []byte(name), Value: []byte(value)} }
	return event.Event{ID: id, Fields: []event.Field{
		field("event_id", "e"+id.String()), field("type", []string{"OrderPaid", "OrderPlaced", "OrderShipped"}[id.Ms%3]),
		field("tenant", fmt.Sprintf("t%d", id.Ms%5)), field("payload", fmt.Sprintf(`{"order":%d}`, id.Ms)),
	}}
}

// add archives n events, one a millisecond from first on, in one span.
func (h *harness) add(stream string, first event.ID, n int, formats ...Format) *Commit {
	h.t.Helper()
	ctx := context.Background()
	if formats == nil {
		formats = []Format{JSONL, Parquet}
	}
	l := loadLog(h.t, h.a, stream)
	w := h.a.NewSegmentWriter(ctx, stream, l.Incarnation(), formats, first)
	var b event.Batch
	for i := range n {
		e := testEvent(event.ID{Ms: first.Ms + uint64(i), Seq: first.Seq})
		b.Append(&e)
	}
	if err := w.Write(&b, 0, n); err != nil {
		h.t.Fatal(err)
	}
	segments, err := w.Close()
	if err != nil {
		h.t.Fatal(err)
	}
	return mustAppend(h.t, l, Commit{Kind: KindAppend, Head: w.Last(), EntriesAdded: l.EntriesAdded() + uint64(n), Adds: segments})
}

func (h *harness) plan(spec PlanSpec) *Plan {
	h.t.Helper()
	p, err := h.a.Plan(context.Background(), spec)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// ids reads a plan to its end.
func (h *harness) ids(p *Plan) []event.ID {
	h.t.Helper()
	var ids []event.ID
	for e, err := range p.Events(context.Background()) {
		if err != nil {
			h.t.Fatal(err)
		}
		want := testEvent(e.ID)
		if !e.Equal(&want) {
			h.t.Fatalf("event %s is %v", e.ID, e)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

func (h *harness) verify(stream string) *VerifyReport {
	h.t.Helper()
	r, err := h.a.Verify(context.Background(), VerifySpec{Stream: stream})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *harness) mustVerify(stream string) *VerifyReport {
	h.t.Helper()
	r := h.verify(stream)
	if r.Problems+r.Warnings > 0 {
		h.t.Fatalf("verify: %v", r.Findings)
	}
	return r
}

func TestOpenRefusesNewerVersion(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(7, 0), 1)
	h.store.objects[markerKey] = memObject{body: []byte(`{"format":"reservoir.archive","version":2}`)}
	_, err := Open(t.Context(), h.store, Options{})
	var newer *NewerVersionError
	if !errors.Is(err, ErrNewerVersion) || !errors.As(err, &newer) || newer.Remedy() == "" {
		t.Fatalf("opening an archive of version 2: %v", err)
	}
	h.store.objects[markerKey] = memObject{body: []byte(`<html>`)}
	if _, err := Open(t.Context(), h.store, Options{}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("opening nonsense: %v", err)
	}
}

func TestStreams(t *testing.T) {
	h := newHarness(t)
	want := map[string]bool{"": true, "orders": true, "Orders": true, "a/b": true, strings.Repeat("long:", 70): true, strings.Repeat("a", 400): true, strings.Repeat("a", 401): true}
	for name := range want {
		h.add(name, hourID(7, 0), 1)
	}
	for name, err := range h.a.Streams(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !want[name] {
			t.Errorf("unexpected stream %q", name)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestPlanReadsInOrder(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(7, 0), 10)
	h.add("s", hourID(7, 100), 10, JSONL)
	h.add("s", hourID(8, 0), 10)
	l := loadLog(t, h.a, "s")
	gap := &Gap{After: l.Head(), UpTo: hourID(8, 99), Lost: 7, Exact: true, Cause: CauseTrimmed}
	mustAppend(t, l, Commit{Kind: KindGap, Gap: gap, Head: gap.UpTo, EntriesAdded: 37})
	mustAppend(t, l, Commit{Kind: KindSeal, Seal: &Seal{Next: 2, Reason: CauseRemoved}})
	h.add("s", hourID(6, 0), 5)

	p := h.plan(PlanSpec{Stream: "s"})
	if want := (PlanTotals{Segments: 4, Events: 35, Exact: true, Gaps: 1, Lost: 7, Bytes: p.Totals.Bytes, Raw: p.Totals.Raw}); p.Totals != want {
		t.Errorf("totals %+v, want %+v", p.Totals, want)
	}
	if ids := h.ids(p); len(ids) != 35 || ids[0] != hourID(7, 0) || ids[34] != hourID(6, 4) {
		t.Errorf("%d events: %v", len(ids), ids)
	}
	p = h.plan(PlanSpec{Stream: "s", Range: event.Range{From: hourID(7, 5), To: hourID(8, 4)}, Format: JSONL})
	ids := h.ids(p)
	if len(ids) < 19 || len(ids) > 20 || p.Totals.Exact || p.Totals.Events != 30 || ids[0] != hourID(7, 5) {
		t.Errorf("range: %d events, totals %+v", len(ids), p.Totals)
	}
	if n := len(h.ids(h.plan(PlanSpec{Stream: "s", Incarnation: 2}))); n != 5 {
		t.Errorf("second incarnation: %d events", n)
	}
	if p := h.plan(PlanSpec{Stream: "other"}); p.Totals.Segments != 0 || len(h.ids(p)) != 0 {
		t.Errorf("unknown stream: %+v", p.Totals)
	}
	report := h.mustVerify("s")
	if report.Verified.Events != 35 || report.Incarnations != 2 {
		t.Errorf("verified %+v", report)
	}
}

func TestPlanKeepsItsView(t *testing.T) {
	h := newHarness(t)
	for i := range 30 {
		h.add("s", hourID(7, i*10), 10)
	}
	p := h.plan(PlanSpec{Stream: "s"})
	if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	if ids := h.ids(p); len(ids) != 300 {
		t.Errorf("old view after compaction: %d events", len(ids))
	}
	h.now = h.now.Add(48 * time.Hour)
	if _, err := h.a.GC(t.Context(), GCSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	var last error
	for _, last = range p.Events(t.Context()) {
	}
	if !errors.Is(last, ErrSegmentGone) {
		t.Errorf("old view after collection: %v", last)
	}
	if ids := h.ids(h.plan(PlanSpec{Stream: "s"})); len(ids) != 300 {
		t.Errorf("new view: %d events", len(ids))
	}
}

func TestBreakingEarlyAndCancelling(t *testing.T) {
	h := newHarness(t)
	for i := range 50 {
		h.add("s", hourID(7, i*2000), 2000)
	}
	p := h.plan(PlanSpec{Stream: "s"})
	for _, err := range p.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range p.Events(ctx) {
		if n++; n == 3000 {
			cancel()
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("cancelled after %d events: %v", n, last)
	}
}

func TestCompactExpireCollect(t *testing.T) {
	h := newHarness(t)
	n := 0
	for hour := 3; hour < 6; hour++ {
		for i := range 45 {
			h.add("s", hourID(hour, i*10), 10)
			n += 10
		}
	}
	ctx := t.Context()
	before := h.mustVerify("s")
	report, err := h.a.Compact(ctx, CompactSpec{Stream: "s", TargetEvents: 200})
	if err != nil {
		t.Fatal(err)
	}
	after := h.mustVerify("s")
	if before.Verified.Segments != 270 || report.Before != 270 || report.After != after.Verified.Segments || report.After > 24 || after.Verified.Events != uint64(n) {
		t.Fatalf("compacted: %+v; verified %+v", report, after.Verified)
	}
	if ids := h.ids(h.plan(PlanSpec{Stream: "s"})); len(ids) != n {
		t.Fatalf("%d events after compaction", len(ids))
	}
	again, err := h.a.Compact(ctx, CompactSpec{Stream: "s", TargetEvents: 200})
	if err != nil || again.After != again.Before && again.Before > 2 {
		t.Errorf("compacted again: %+v, %v", again, err)
	}
	if _, err := h.a.GC(ctx, GCSpec{Stream: "s", Grace: time.Minute}); err == nil {
		t.Error("a grace period of a minute was accepted")
	}
	kept, err := h.a.GC(ctx, GCSpec{Stream: "s"})
	if err != nil || kept.Segments != 0 || kept.Kept < 270 {
		t.Errorf("collected within the grace period: %+v, %v", kept, err)
	}
	removed, err := h.a.Expire(ctx, "s", time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC))
	if err != nil || removed.Events != uint64(n/3) {
		t.Errorf("expired %+v, %v", removed, err)
	}
	h.now = h.now.Add(25 * time.Hour)
	h.add("s", hourID(23, 0), 1)
	objects := len(h.store.objects)
	dry, err := h.a.GC(ctx, GCSpec{Stream: "s", DryRun: true})
	if err != nil || len(h.store.objects) != objects {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	got, err := h.a.GC(ctx, GCSpec{Stream: "s"})
	if err != nil || got != dry || got.Segments < 270 || objects-len(h.store.objects) != int(got.Segments+got.Snapshots) {
		t.Fatalf("collected %+v, dry run said %+v, %v", got, dry, err)
	}
	final := h.mustVerify("s")
	if final.Verified.Events != uint64(n-n/3+1) || len(final.Findings) != 0 {
		t.Errorf("in the end: %+v, %v", final.Verified, final.Findings)
	}
}

func TestCompactSealedIncarnation(t *testing.T) {
	h := newHarness(t)
	for i := range 5 {
		h.add("s", hourID(3, i*10), 10)
	}
	l := loadLog(t, h.a, "s")
	mustAppend(t, l, Commit{Kind: KindSeal, Seal: &Seal{Next: 2, Reason: CauseFailover, Base: hourID(3, 20), BaseEntriesAdded: 21}})
	h.add("s", hourID(3, 30), 5)
	if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	if r := h.mustVerify("s"); r.Verified.Segments != 4 || r.Verified.Events != 55 {
		t.Errorf("%+v", r.Verified)
	}
	if l := loadLog(t, h.a, "s"); l.Incarnation() != 2 || l.Totals().Events != 5 {
		t.Errorf("log in incarnation %d with %+v", l.Incarnation(), l.Totals())
	}
}

func TestCompactionDoesNotDisturbWriters(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(3, 0), 10)
	h.add("s", hourID(3, 10), 10)
	writer := loadLog(t, h.a, "s")
	if _, err := h.a.Compact(t.Context(), CompactSpec{Stream: "s"}); err != nil {
		t.Fatal(err)
	}
	c := mustAppend(t, writer, appendOf(writer, 3))
	if c.Number != 4 || c.Totals.Events != 23 || c.Totals.Segments != 4 {
		t.Errorf("append beside a compaction: %+v", c)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	type tamper func(h *harness, dir string, jsonl, parquet Segment)
	edit := func(h *harness, key string, change func([]byte) []byte) {
		o := h.store.objects[key]
		o.body = change([]byte(string(o.body)))
		h.store.objects[key] = o
	}
	replace := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte { return []byte(strings.Replace(string(b), old, with, 1)) }
	}
	for name, tc := range map[string]struct {
		do   tamper
		want FindingKind
	}{
		"missing object": {func(h *harness, dir string, j, _ Segment) { delete(h.store.objects, dir+j.Key) }, FindingMissing},
		"flipped byte": {func(h *harness, dir string, _, p Segment) {
			edit(h, dir+p.Key, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, FindingChecksum},
		"truncated": {func(h *harness, dir string, _, p Segment) {
			edit(h, dir+p.Key, func(b []byte) []byte { return b[:len(b)-1] })
		}, FindingChecksum},
		"wrong count": {func(h *harness, dir string, j, _ Segment) {
			edit(h, dir+commitKey(5), func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), `"count":10`, `"count":11`)) })
		}, FindingContents},
		"wrong raw bytes": {func(h *harness, dir string, j, _ Segment) {
			edit(h, dir+commitKey(5), func(b []byte) []byte {
				return []byte(strings.ReplaceAll(string(b), fmt.Sprintf(`"raw_bytes":%d,`, j.Raw), `"raw_bytes":1,`))
			})
		}, FindingContents},
		"snapshot lacks lines": {func(h *harness, dir string, j, _ Segment) {
			edit(h, dir+snapshotKey(4), firstLines)
		}, FindingSnapshot},
		"segment swapped for another": {func(h *harness, dir string, j, _ Segment) {
			h.store.objects[dir+commitKey(5)] = h.store.objects[dir+commitKey(4)]
		}, FindingLog},
		"wrong summary": {func(h *harness, dir string, j, _ Segment) {
			edit(h, dir+commitKey(5), replace(`"OrderPaid"`, `"OrderLost"`))
		}, FindingSummary},
		"head moved": {func(h *harness, dir string, j, _ Segment) {
			edit(h, dir+commitKey(2), replace(`"prev":"`, `"prev":"1`))
		}, FindingLog},
		"wrong totals": {func(h *harness, dir string, j, _ Segment) {
			edit(h, dir+commitKey(2), replace(`"totals":{"events":20`, `"totals":{"events":21`))
		}, FindingLog},
		"commit is no JSON": {func(h *harness, dir string, j, _ Segment) {
			edit(h, dir+commitKey(2), func([]byte) []byte { return []byte("{") })
		}, FindingLog},
		"snapshot damaged": {func(h *harness, dir string, j, _ Segment) {
			edit(h, dir+snapshotKey(4), func(b []byte) []byte { return b[:len(b)/2] })
		}, FindingSnapshot},
		"snapshot of another log": {func(h *harness, dir string, j, _ Segment) {
			o := h.store.objects[dir+snapshotKey(4)]
			h.store.objects[dir+snapshotKey(2)] = o
		}, FindingSnapshot},
		"garbage": {func(h *harness, dir string, j, _ Segment) {
			h.store.objects[dir+j.Key+"x"] = memObject{body: []byte("x")}
		}, FindingUnreferenced},
		"formats differ": {func(h *harness, dir string, j, p Segment) {
			// The other span's bytes, with a commit that agrees with them but for the events.
			h.swapEvents(dir, p)
		}, FindingDiffers},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.a.snapshotEvery = 4
			for i := range 4 {
				h.add("s", hourID(7, i*10), 10)
			}
			last := h.add("s", hourID(7, 1000), 10)
			tc.do(h, incarnationDir("s", 1), last.Adds[0], last.Adds[1])
			kinds := map[FindingKind]int{}
			for _, f := range h.verify("s").Findings {
				kinds[f.Kind]++
				if f.Severity != Info && f.Remedy == "" {
					t.Errorf("%s has no remedy", f)
				}
			}
			if kinds[tc.want] == 0 {
				t.Errorf("found %v, want %s", kinds, tc.want)
			}
		})
	}
}

// TestVerifyWithoutAnyCommit: segments that are left of a log whose commits are all gone
// are told of, and so is that nothing else is.
func TestVerifyWithoutAnyCommit(t *testing.T) {
	h := newHarness(t)
	h.add("s", hourID(7, 0), 10)
	delete(h.store.objects, incarnationDir("s", 1)+commitKey(1))
	report := h.verify("s")
	if report.Warnings != 1 || len(report.Findings) != 1 {
		t.Fatalf("found %+v, want one warning", report.Findings)
	}
	if f := report.Findings[0]; f.Kind != FindingUncommitted || f.Severity != Warning || f.Remedy == "" || !strings.HasPrefix(f.Message, "2 segments of ") {
		t.Errorf("found %s", f)
	}
}

// firstLines shortens a snapshot by its last lines, cleanly.
func firstLines(b []byte) []byte {
	zr, err := zstd.NewReader(nil)
	if err != nil {
		return nil
	}
	defer zr.Close()
	plain, err := zr.DecodeAll(b, nil)
	if err != nil {
		return nil
	}
	lines := bytes.SplitAfter(plain, []byte("\n"))
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		return nil
	}
	return zw.EncodeAll(bytes.Join(lines[:len(lines)-3], nil), nil)
}

// swapEvents writes a segment anew with one value changed, and a commit to match.
func (h *harness) swapEvents(dir string, seg Segment) {
	h.t.Helper()
	ctx := context.Background()
	src, err := h.a.openSegment(ctx, h.a.store, dir, &seg, selection{})
	if err != nil {
		h.t.Fatal(err)
	}
	var b, changed event.Batch
	if err := src.Read(&b); err != nil {
		h.t.Fatal(err)
	}
	for i := range b.Len() {
		var e event.Event
		b.Event(i, &e)
		e = e.Clone()
		if i == 5 {
			e.Fields[0].Value[0] = 'x'
		}
		changed.Append(&e)
	}
	w := h.a.NewSegmentWriter(ctx, "s", 1, []Format{seg.Format}, seg.First)
	if err := w.Write(&changed, 0, changed.Len()); err != nil {
		h.t.Fatal(err)
	}
	fresh, err := w.Close()
	if err != nil {
		h.t.Fatal(err)
	}
	for key, o := range h.store.objects {
		if strings.HasSuffix(key, commitKey(5)) {
			body := strings.NewReplacer(seg.Key, fresh[0].Key, seg.SHA256, fresh[0].SHA256, fmt.Sprintf(`"bytes":%d`, seg.Bytes), fmt.Sprintf(`"bytes":%d`, fresh[0].Bytes)).Replace(string(o.body))
			h.store.objects[key] = memObject{body: []byte(body), time: o.time}
		}
	}
}

var _ objectstore.Store = (*memStore)(nil)
