package parquet_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	pq "github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
)

func write(tb testing.TB, events []event.Event, opts parquet.Options) []byte {
	tb.Helper()
	return writeWith(tb, parquet.NewWriter(nil, opts), events, opts)
}

// writeWith writes a file with a Writer that may have been used before.
func writeWith(tb testing.TB, w *parquet.Writer, events []event.Event, opts parquet.Options) []byte {
	tb.Helper()
	var out bytes.Buffer
	w.Reset(&out, opts)
	b := new(event.Batch)
	for i := range events {
		b.Append(&events[i])
		if b.Len() == 300 || i == len(events)-1 {
			if err := w.Write(b, 0, b.Len()); err != nil {
				tb.Fatal(err)
			}
			b.Reset()
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	if size := w.Bytes(); size != int64(out.Len()) {
		tb.Errorf("Bytes() = %d after Close, the file has %d", size, out.Len())
	}
	return out.Bytes()
}

func open(tb testing.TB, file []byte) *parquet.File {
	tb.Helper()
	f, err := parquet.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// used is the memory of whatever files the tests have read before.
var used parquet.Memory //nolint:gochecknoglobals // the more they share, the more it shows

func read(tb testing.TB, f *parquet.File, spec parquet.ReadSpec) []event.Event {
	tb.Helper()
	if spec.Memory == nil {
		spec.Memory = &used
	}
	r := f.Reader(spec)
	var events []event.Event
	b := new(event.Batch)
	for {
		err := r.Read(b)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			tb.Fatal(err)
		}
		if b.Len() == 0 {
			tb.Fatal("Read gave no event and no error")
		}
		var e event.Event
		for i := range b.Len() {
			b.Event(i, &e)
			events = append(events, e.Clone())
		}
	}
	if err := r.Close(); err != nil {
		tb.Fatal(err)
	}
	return events
}

func diff(tb testing.TB, got, want []event.Event) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for i := range want {
		if !got[i].Equal(&want[i]) {
			tb.Fatalf("event %d is\n%s\nwant\n%s", i, show(&got[i]), show(&want[i]))
		}
	}
}

func show(e *event.Event) string {
	var s strings.Builder
	s.WriteString(e.ID.String())
	for _, f := range e.Fields {
		s.WriteString(" " + quote(f.Name) + "=" + quote(f.Value))
	}
	return s.String()
}

func quote(b []byte) string {
	if len(b) > 100 {
		b = b[:100]
	}
	return strings.ToValidUTF8(string(b), "?")
}

func fields(pairs ...string) []event.Field {
	var out []event.Field
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, event.Field{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	return out
}

// oddEvents are events that once were, or might be, mistaken for others.
func oddEvents() []event.Event {
	huge := strings.Repeat("0123456789abcdef", 10<<20/16)
	long := strings.Repeat("é", 3000)
	many := make([]string, 0, 20_000)
	for i := range 10_000 {
		many = append(many, "field-"+string(rune('a'+i%26))+strings.Repeat("x", i%7), "value")
	}
	list := [][]string{
		{"a", "b"},
		{"", ""},
		{"", "", "", ""},
		{"type", "", "tenant", "", "payload", ""},
		{"type", "A", "type", "B", "type", "A"},
		{"type", "\x00", "tenant", "\xff\xfe", "payload", "\xc3"},
		{"\xff", "name is not text", "\xc3\x28", "\x00"},
		{"\u2028<>&\"\\", "name needs escapes"},
		{"event_id", "e-1", "event_type", "OrderPaid", "occurred_at", "2026-11-21T07:08:09.123Z", "aggregate_version", "7", "payload", `{"a":1}`},
		{"version", "007", "ts", "2026-11-21T09:08:09.123+02:00"},
		{"version", "-0", "ts", "1700000000000"},
		{"version", "-9223372036854775808", "ts", "1700000000"},
		{"version", "9223372036854775808", "ts", "1700000000000000"},
		{"version", "+1", "ts", "1700000000000000000"},
		{"version", "1e3", "ts", "2026-11-21T09:08:09.123456789Z"},
		{"version", "", "ts", "2026-11-21T09:08:09.123456000Z"},
		{"ts", "2026-11-21T09:08:09.10+00:00"},
		{"ts", "2026-02-30T00:00:00Z"},
		{"ts", "2024-02-29T23:59:59Z"},
		{"ts", "0000-01-01T00:00:00Z"},
		{"ts", "9999-12-31T23:59:59.999999Z"},
		{"ts", "1969-12-31T23:59:59.999Z"},
		{"ts", "2026-11-21t09:08:09z"},
		{"ts", "2026-11-21 09:08:09"},
		{"ts", "soon"},
		{"event_id", long, "tenant", long, "payload", long},
		{"event_id", "i", "payload", huge},
		{"rest", huge, "payload", "small"},
		{"layout", "1", "rest", "2", "id_ms", "3", "payload", "4", "data", "5"},
		{"event", `{"id":"1","type":"OrderPaid","time":"2026-11-21T07:08:09Z","data":{"a":[1,2,{"b":"c"}]}}`},
		{"event", `{"id":"\u0031","type":"Order\u0050aid","tenant":"t\"1","data":{"a":1}, "x":null } `},
		{"event", `{"type":"OrderPaid"}`},
		{"event", `{"type":"OrderPaid","data":"text"}`},
		{"event", `{"type":"OrderPaid","data":` + "\"\xff\"" + `}`},
		{"event", `{"type":`},
		{"content_type", "application/cloudevents+json", "data", `{"specversion":"1.0","id":"x","type":"T","source":"/s","subject":"4711","data":{"n":1}}`},
		{"content_type", "application/cloudevents+json", "data", `not json`},
		{"ce_id", "1", "ce_type", "T", "ce_time", "2026-11-21T07:08:09Z", "data", "{}"},
	}
	ids := []event.ID{{Ms: 0, Seq: 1}, {Ms: 0, Seq: 2}, {Ms: 1, Seq: 0}}
	var events []event.Event
	for i, pairs := range list {
		id := event.ID{Ms: 1_700_000_000_000 + uint64(i), Seq: uint64(i)}
		if i < len(ids) {
			id = ids[i]
		}
		events = append(events, event.Event{ID: id, Fields: fields(pairs...)})
	}
	return append(events,
		event.Event{ID: event.ID{Ms: 1_800_000_000_000}, Fields: fields(many...)},
		event.Event{ID: event.ID{Ms: 253402300800000}, Fields: fields("ts", "never", "type", "beyond the year 9999")},
		event.Event{ID: event.ID{Ms: math.MaxInt64, Seq: math.MaxInt64}, Fields: fields("a", "b")},
		event.Event{ID: event.ID{Ms: math.MaxInt64 + 1}, Fields: fields("a", "c")},
		event.Event{ID: event.ID{Ms: math.MaxUint64 - 1, Seq: math.MaxUint64}},
		event.Event{ID: event.MaxID, Fields: fields("type", "last")},
	)
}

func TestOddEvents(t *testing.T) {
	events := oddEvents()
	for _, rows := range []int{0, 1, 7} {
		f := open(t, write(t, events, parquet.Options{Stream: "s", Incarnation: 3, RowGroupRows: rows}))
		diff(t, read(t, f, parquet.ReadSpec{}), events)
		if f.NumRows() != int64(len(events)) {
			t.Errorf("NumRows() = %d, want %d", f.NumRows(), len(events))
		}
	}
}

func TestEmptyFile(t *testing.T) {
	f := open(t, write(t, nil, parquet.Options{}))
	diff(t, read(t, f, parquet.ReadSpec{}), nil)
}

// anyEvents draws events whose names are mostly those of an envelope, in a few
// shapes that change from row to row.
func anyEvents(t *rapid.T) []event.Event {
	name := rapid.OneOf(
		rapid.SampledFrom([]string{"event_id", "type", "tenant", "aggregate_type", "aggregate_id", "version", "ts",
			"correlation_id", "causation_id", "schema_version", "payload", "data", "content_type", "", "x"}),
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 5), func(b []byte) string { return string(b) }),
	)
	value := rapid.OneOf(
		rapid.SampledFrom([]string{"", "A", "B", "0", "-1", "42", "1700000000123", "2026-11-21T07:08:09.123Z",
			"2026-11-21T07:08:09+00:00", "\xff", "\x00", `{"id":"1","type":"T","data":{"a":1}}`,
			`{"type":"T\n","data":"x"}`, "application/cloudevents+json"}),
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }),
	)
	shapes := rapid.SliceOfN(rapid.SliceOfN(name, 0, 6), 1, 4).Draw(t, "shapes")
	count := rapid.IntRange(0, 60).Draw(t, "count")
	id := event.ID{Ms: rapid.Uint64().Draw(t, "ms"), Seq: rapid.Uint64().Draw(t, "seq")}
	var events []event.Event
	for range count {
		if id == event.MaxID {
			break
		}
		id = id.Next()
		if step := rapid.Uint64Range(0, 3).Draw(t, "step"); step > 0 && id.Ms < math.MaxUint64-3 {
			id = event.ID{Ms: id.Ms + step}
		}
		e := event.Event{ID: id}
		for _, n := range rapid.SampledFrom(shapes).Draw(t, "shape") {
			e.Fields = append(e.Fields, event.Field{Name: []byte(n), Value: []byte(value.Draw(t, "value"))})
		}
		events = append(events, e)
	}
	return events
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := anyEvents(t)
		opts := parquet.Options{
			RowGroupRows:  rapid.SampledFrom([]int{0, 1, 5, 20}).Draw(t, "rows"),
			RowGroupBytes: rapid.SampledFrom([]int{0, 100}).Draw(t, "bytes"),
		}
		var out bytes.Buffer
		w := parquet.NewWriter(&out, opts)
		b := new(event.Batch)
		for i := range events {
			b.Append(&events[i])
		}
		for at := 0; at < b.Len(); {
			to := rapid.IntRange(at+1, b.Len()).Draw(t, "to")
			if err := w.Write(b, at, to); err != nil {
				t.Fatal(err)
			}
			at = to
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := parquet.Open(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(t, f, parquet.ReadSpec{})
		if !slices.EqualFunc(got, events, func(a, b event.Event) bool { return a.Equal(&b) }) {
			t.Fatalf("got %d events %q, want %d events %q", len(got), got, len(events), events)
		}
	})
}

type fataler interface{ Fatal(args ...any) }

func readAll(t fataler, f *parquet.File, spec parquet.ReadSpec) []event.Event {
	r := f.Reader(spec)
	var events []event.Event
	b := new(event.Batch)
	for {
		err := r.Read(b)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var e event.Event
		for i := range b.Len() {
			b.Event(i, &e)
			events = append(events, e.Clone())
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return events
}

// Events whose columns are full, but whose layouts use them in some rows only.
func TestColumnsUsedNowAndThen(t *testing.T) {
	var events []event.Event
	add := func(pairs ...string) {
		events = append(events, event.Event{ID: event.ID{Ms: uint64(1000 + len(events))}, Fields: fields(pairs...)})
	}
	for i := range 2000 {
		n := strconv.Itoa(i)
		switch {
		case i%1000 < 700 && i%7 != 6:
			add("event", `{"id":"`+n+`","type":"T`+n+`","version":`+n+`,"data":{"n":`+n+`}}`)
		case i%3 == 0:
			add("id", n, "type", "T"+n, "version", n, "data", "d"+n, "x", "x"+n, "y", "y"+n)
		default:
			add("x", "x"+n, "id", n, "type", "T"+n, "version", "0"+n, "data", "d"+n)
		}
	}
	f := open(t, write(t, events, parquet.Options{}))
	diff(t, read(t, f, parquet.ReadSpec{}), events)
}

// The example of docs/format-parquet.md.
func TestDocumentedExample(t *testing.T) {
	e := event.Event{ID: event.ID{Ms: 1}, Fields: fields("id", "1", "type", "OrderPaid", "version", "007",
		"ts", "2026-11-21T07:08:09.123Z", "data", `{"a":1}`, "x", "")}
	file := write(t, []event.Event{e}, parquet.Options{})
	rows, err := pq.Read[row](bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	r := rows[0]
	const layout = `[["id","event_id"],["type","event_type"],"version",["ts","occurred_at","rfc3339.3"],["data","payload"],"x"]`
	if r.Layout != layout || len(r.Rest) != 2 || string(r.Rest[0]) != "007" || string(r.Rest[1]) != "" ||
		*r.EventID != "1" || *r.AggregateVersion != 7 || *r.Payload != `{"a":1}` {
		t.Errorf("got layout %s, rest %q", r.Layout, r.Rest)
	}
}
