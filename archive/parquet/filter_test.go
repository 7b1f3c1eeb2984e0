package parquet_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
)

// wanted filters events without a file.
func wanted(t fataler, events []event.Event, spec parquet.ReadSpec) []event.Event {
	x := spec.Mapping.Extractor()
	var env event.Envelope
	var out []event.Event
	for i := range events {
		x.Extract(&events[i], &env)
		ok := spec.Range.Contains(events[i].ID)
		if ok && spec.Matcher != nil {
			var err error
			if ok, err = spec.Matcher.Match(&events[i], &env); err != nil {
				t.Fatal(err)
			}
		}
		if ok {
			out = append(out, events[i])
		}
	}
	return out
}

// A Reader must not lose an event that is wanted, nor give one twice, nor one
// outside of the range.
func TestFilterLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := anyEvents(t)
		written, asked := event.Mapping{}, event.Mapping{}
		if rapid.Bool().Draw(t, "mapped") {
			written.Tenant = []string{"x"}
		}
		if rapid.Bool().Draw(t, "asked by the same") {
			asked = written
		}
		value := rapid.SampledFrom([]string{"", "A", "B", "0", "1", "42", "T", "T\n", "x", "1700000000123"})
		list := func(name string) []string { return rapid.SliceOfN(value, 0, 2).Draw(t, name) }
		nonEmpty := func(name string) []string {
			return slices.DeleteFunc(list(name), func(s string) bool { return s == "" })
		}
		filter := event.Filter{
			Types: list("types"), Tenants: list("tenants"), AggregateTypes: list("aggregate types"),
			Aggregates: nonEmpty("aggregates"), EventIDs: nonEmpty("event ids"),
		}
		if rapid.Bool().Draw(t, "pattern") {
			filter.Types = append(filter.Types, rapid.SampledFrom([]string{"*", "?", "T*", "[AB]"}).Draw(t, "type pattern"))
		}
		matcher, err := filter.Compile()
		if err != nil {
			t.Fatal(err)
		}
		spec := parquet.ReadSpec{Matcher: matcher, Mapping: asked}
		if len(events) > 0 && rapid.Bool().Draw(t, "bounded") {
			i := rapid.IntRange(0, len(events)-1).Draw(t, "first")
			j := rapid.IntRange(0, len(events)-1).Draw(t, "last")
			spec.Range = event.Range{From: events[i].ID, To: events[j].ID}
			if rapid.Bool().Draw(t, "open") {
				spec.Range.To = event.ID{}
			}
		}
		var out bytes.Buffer
		w := parquet.NewWriter(&out, parquet.Options{
			Mapping:      written,
			RowGroupRows: rapid.SampledFrom([]int{1, 5, 20, 0}).Draw(t, "rows"),
		})
		b := new(event.Batch)
		for i := range events {
			b.Append(&events[i])
		}
		if err := w.Write(b, 0, b.Len()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := parquet.Open(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(t, f, spec)
		for i := range got {
			if !spec.Range.Contains(got[i].ID) {
				t.Fatalf("got %s outside of %s", got[i].ID, spec.Range)
			}
		}
		got, want := wanted(t, got, spec), wanted(t, events, spec)
		if !slices.EqualFunc(got, want, func(a, b event.Event) bool { return a.Equal(&b) }) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

// readerAt counts reads.
type readerAt struct {
	io.ReaderAt
	reads, bytes int64
}

func (r *readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	r.reads++
	r.bytes += int64(n)
	return n, err
}

func TestPruning(t *testing.T) {
	const count = 40_000
	batches := shop(count)
	var events []event.Event
	for _, b := range batches {
		for i := range b.Len() {
			var e event.Event
			b.Event(i, &e)
			events = append(events, e)
		}
	}
	var out bytes.Buffer
	w := parquet.NewWriter(&out, parquet.Options{RowGroupRows: 10_000})
	for _, b := range batches {
		if err := w.Write(b, 0, b.Len()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	get := func(i int, name string) string {
		value, _ := events[i].Get(name)
		return string(value)
	}
	size := int64(out.Len())
	for _, test := range []struct {
		name             string
		filter           event.Filter
		span             event.Range
		maxReads         int64
		maxShare         float64 // of the file
		minRows, maxRows int
	}{
		{"all", event.Filter{}, event.Range{}, 5, 1.2, count, count},
		{"one event ID", event.Filter{EventIDs: []string{get(12_345, "event_id")}}, event.Range{}, 40, 0.6, 1, 1},
		{"no event ID", event.Filter{EventIDs: []string{"no such"}}, event.Range{}, 5, 0.2, 0, 0},
		{"one aggregate", event.Filter{Aggregates: []string{get(5, "aggregate_id")}}, event.Range{}, 150, 1, 1, 100},
		{"no tenant", event.Filter{Tenants: []string{"nobody"}}, event.Range{}, 20, 0.2, 0, 0},
		{"one tenant", event.Filter{Tenants: []string{"tenant-07"}}, event.Range{}, 30, 1.3, count / 25, count / 15},
		{"one type", event.Filter{Types: []string{"Order*"}}, event.Range{}, 30, 1.3, count / 3, count * 2 / 3},
		{"a range of row 2", event.Filter{}, event.Range{From: events[11_000].ID, To: events[11_099].ID}, 40, 0.4, 100, 100},
		{"before", event.Filter{}, event.Range{To: event.ID{Ms: 5}}, 1, 0.1, 0, 0},
		{"after", event.Filter{}, event.Range{From: event.ID{Ms: 1 << 60}}, 1, 0.1, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := &readerAt{ReaderAt: bytes.NewReader(out.Bytes())}
			f, err := parquet.Open(source, size)
			if err != nil {
				t.Fatal(err)
			}
			matcher, err := test.filter.Compile()
			if err != nil {
				t.Fatal(err)
			}
			spec := parquet.ReadSpec{Range: test.span, Matcher: matcher}
			got := read(t, f, spec)
			diff(t, wanted(t, got, spec), wanted(t, events, spec))
			share := float64(source.bytes) / float64(size)
			t.Logf("%d rows, %d reads, %.2f of the file", len(got), source.reads, share)
			if len(got) < test.minRows || len(got) > test.maxRows {
				t.Errorf("got %d rows, want %d to %d", len(got), test.minRows, test.maxRows)
			}
			if source.reads > test.maxReads || share > test.maxShare {
				t.Errorf("%d reads of %.2f of the file, want at most %d of %.2f", source.reads, share, test.maxReads, test.maxShare)
			}
			if traffic := f.Traffic(); traffic != (parquet.Traffic{Reads: source.reads, Bytes: source.bytes}) {
				t.Errorf("Traffic() = %+v, want %d reads of %d bytes", traffic, source.reads, source.bytes)
			}
		})
	}
}

// What no column holds must be found all the same.
func TestFilterByLongValue(t *testing.T) {
	long := strings.Repeat("é", 1000)
	events := []event.Event{
		{ID: event.ID{Ms: 1}, Fields: fields("event_id", "short", "tenant", "t")},
		{ID: event.ID{Ms: 2}, Fields: fields("event_id", long, "aggregate_id", long, "tenant", long, "type", long)},
		{ID: event.ID{Ms: 3}, Fields: fields("event_id", "other", "type", "T"+long)},
	}
	f := open(t, write(t, events, parquet.Options{}))
	for want, filter := range map[int]event.Filter{
		0: {Tenants: []string{"t"}},
		1: {EventIDs: []string{long, "none"}, Aggregates: []string{long}, Tenants: []string{long}, Types: []string{long}},
		2: {Types: []string{"T*"}},
	} {
		matcher, err := filter.Compile()
		if err != nil {
			t.Fatal(err)
		}
		spec := parquet.ReadSpec{Matcher: matcher}
		diff(t, wanted(t, events, spec), events[want:want+1])
		diff(t, wanted(t, read(t, f, spec), spec), events[want:want+1])
	}
}

// Several Readers may read one File at a time.
func TestReadersAtOnce(t *testing.T) {
	events := sampleEvents()
	f := open(t, write(t, events, parquet.Options{RowGroupRows: 10}))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			spec := parquet.ReadSpec{Range: event.Range{From: events[i].ID}}
			r := f.Reader(spec)
			b, n := new(event.Batch), 0
			for {
				err := r.Read(b)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
				n += b.Len()
			}
			if err := r.Close(); err != nil || n != len(wanted(t, events, spec)) {
				t.Errorf("%d events, %v", n, err)
			}
		})
	}
	wg.Wait()
}
