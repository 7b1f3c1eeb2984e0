package archiver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
)

// TestAnyEntrySurvives archives arbitrary entries and restores them from each
// format alone.
func TestAnyEntrySurvives(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	rapid.Check(t, func(r *rapid.T) {
		if err := h.thereAndBack(t, entries(r)); err != nil {
			r.Fatal(err)
		}
	})
}

func TestExtremeEntriesSurvive(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	many := event.Event{ID: event.ID{Ms: 5}}
	for i := range 10_000 {
		many.Fields = append(many.Fields, event.Field{Name: fmt.Appendf(nil, "f%d", i%9_000), Value: fmt.Append(nil, i)})
	}
	noise := make([]byte, 10<<20)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	big := func(ms uint64, value []byte) event.Event {
		return event.Event{ID: event.ID{Ms: ms}, Fields: []event.Field{{Name: []byte("payload"), Value: value}}}
	}
	err := h.thereAndBack(t, []event.Event{
		{ID: event.ID{Seq: 1}, Fields: []event.Field{{}}},
		many,
		big(6, noise),
		big(7, bytes.Repeat([]byte{0}, 10<<20)),
		big(8, []byte(`{"a":"`+strings.Repeat("x", 10<<20)+`"}`)),
		{ID: event.MaxID, Fields: []event.Field{{Name: []byte("\x00"), Value: []byte("\xff")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// entries gives up to a dozen entries in the order of their IDs.
func entries(r *rapid.T) []event.Event {
	edge := rapid.SampledFrom([]uint64{0, 1, 3_599_999, 3_600_000, 1_790_000_000_000, 253_402_300_800_000, 1 << 63, event.MaxID.Ms})
	number := rapid.OneOf(edge, edge, rapid.Uint64())
	ids := rapid.SliceOfNDistinct(rapid.Custom(func(r *rapid.T) event.ID {
		return event.ID{Ms: number.Draw(r, "ms"), Seq: number.Draw(r, "seq")}
	}).Filter(func(id event.ID) bool { return !id.IsZero() }), 1, 12, rapid.ID[event.ID]).Draw(r, "ids")
	slices.SortFunc(ids, event.ID.Compare)

	some := rapid.SampledFrom([]string{
		"", "\x00", "\xff\xfe", "a", "id", "event_id", "event_type", "tenant", "payload", "data", "occurred_at", "aggregate_version",
		"$base64", `{"$base64":"AA=="}`, `{"a": 1, "a": 2}`, "[1,\n2]", `{"specversion":"1.0","type":"t","id":"1","source":"s","data":{"x":1}}`,
		"007", "-1", "2026-11-21T07:08:09.123Z", "1790000000000", "null", "\u2028", `"`, `\ud800`,
	})
	piece := rapid.OneOf(
		some, some, rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }),
	)
	field := rapid.Custom(func(r *rapid.T) event.Field {
		return event.Field{Name: []byte(piece.Draw(r, "name")), Value: []byte(piece.Draw(r, "value"))}
	})
	events := make([]event.Event, len(ids))
	for i, id := range ids {
		events[i] = event.Event{ID: id, Fields: rapid.SliceOfN(field, 1, 8).Draw(r, "fields")}
	}
	return events
}

// original is the stream that is archived; the restored ones have other names.
const original = "original"

// thereAndBack takes entries from a stream to an archive and, by every way of
// reading it, back into a stream. It is an error when that is not the same.
func (h *harness) thereAndBack(t *testing.T, events []event.Event) error {
	t.Helper()
	if err := h.admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for i := range events {
		args := &redis.XAddArgs{Stream: original, ID: events[i].ID.String(), Values: values(&events[i])}
		if err := h.admin.XAdd(t.Context(), args).Err(); err != nil {
			t.Fatal(err)
		}
	}
	want := h.xrange(t, original)
	dir := t.TempDir()
	store, err := objectstore.NewLocal(dir, objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	h.store = store
	h.once(t, archiver.Options{Include: []string{original}})
	for way, read := range map[string]func(b *event.Batch) error{
		"planned-jsonl":   func(b *event.Batch) error { return h.planned(t, archive.JSONL, b) },
		"planned-parquet": func(b *event.Batch) error { return h.planned(t, archive.Parquet, b) },
		"jsonl":           func(b *event.Batch) error { return eachFile(dir, ".jsonl.zst", b, appendJSONL) },
		"parquet":         func(b *event.Batch) error { return eachFile(dir, ".parquet", b, appendParquet) },
	} {
		restored := new(event.Batch)
		if err := read(restored); err != nil {
			return fmt.Errorf("read by way of %s: %w", way, err)
		}
		w, err := h.client.Writer(t.Context(), way)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Add(t.Context(), restored, 0, restored.Len(), true)
		w.Close()
		if err != nil {
			return fmt.Errorf("restore by way of %s: %w", way, err)
		}
		if got := h.xrange(t, way); !slices.Equal(got, want) {
			return fmt.Errorf("restored by way of %s:\n%.2000q\nwant\n%.2000q", way, got, want)
		}
	}
	return nil
}

// xrange gives all entries of a stream, flat: ID, number of fields and values, names
// and values.
func (h *harness) xrange(t *testing.T, stream string) []string {
	t.Helper()
	reply, err := h.admin.Do(t.Context(), "XRANGE", stream, "-", "+").Slice()
	if err != nil {
		t.Fatal(err)
	}
	var flat []string
	for _, entry := range reply {
		parts := entry.([]any)
		fields := parts[1].([]any)
		flat = append(flat, parts[0].(string), fmt.Sprint(len(fields)))
		for _, f := range fields {
			flat = append(flat, f.(string))
		}
	}
	return flat
}

func (h *harness) planned(t *testing.T, format archive.Format, b *event.Batch) error {
	t.Helper()
	plan, err := h.archive(t).Plan(t.Context(), archive.PlanSpec{Stream: original, Format: format})
	if err != nil {
		return err
	}
	for e, err := range plan.Events(t.Context()) {
		if err != nil {
			return err
		}
		b.Append(e)
	}
	return nil
}

// eachFile reads the segments in a directory, in the order of their first IDs.
func eachFile(dir, ext string, b *event.Batch, read func(io.ReaderAt, int64, *event.Batch) error) error {
	var paths []string
	err := filepath.WalkDir(filepath.Join(dir, "streams"), func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ext) && !strings.Contains(path, "/log/") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err == nil {
			err = read(bytes.NewReader(content), int64(len(content)), b)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func appendJSONL(file io.ReaderAt, size int64, b *event.Batch) error {
	r, err := jsonl.NewReader(io.NewSectionReader(file, 0, size))
	if err != nil {
		return err
	}
	return appendAll(r, b)
}

func appendParquet(file io.ReaderAt, size int64, b *event.Batch) error {
	f, err := parquet.Open(file, size)
	if err != nil {
		return err
	}
	r := f.Reader(parquet.ReadSpec{})
	return errors.Join(appendAll(r, b), r.Close())
}

func appendAll(r interface{ Read(*event.Batch) error }, b *event.Batch) error {
	var run event.Batch
	var e event.Event
	for {
		if err := r.Read(&run); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for i := range run.Len() {
			run.Event(i, &e)
			b.Append(&e)
		}
	}
}

func TestEntryOverTheLimitIsNamedAndNothingIsCut(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.addAt(t, "s", event.ID{Ms: 1}, 10)
	h.addAt(t, "s", event.ID{Ms: 2}, 1000) // and "data", its name
	h.addAt(t, "s", event.ID{Ms: 3}, 10)
	h.add(t, "other", 3)
	const size = 1004
	limited := archiver.Options{Include: []string{"*"}, MaxEntrySize: size - 1}
	a, err := archiver.New(h.client, h.archive(t), limited, slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var tooLarge *redisstream.TooLargeError
	if len(s.Left) != 1 || s.Left[0].Stream != "s" || !errors.As(s.Left[0].Err, &tooLarge) || tooLarge.ID != h.record["s"][1].ID {
		t.Fatalf("left %+v, want s at its entry %s", s.Left, h.record["s"][1].ID)
	}
	if !strings.Contains(s.Left[0].Reason, "2-0") {
		t.Errorf("the reason %q does not name the entry", s.Left[0].Reason)
	}
	h.checkEvents(t, "s", h.record["s"][:1])
	h.check(t, "other")
	h.once(t, archiver.Options{MaxEntrySize: size})
	h.check(t, "s")
}
