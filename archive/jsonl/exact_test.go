package jsonl_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
)

// nasty are names and values that a careless writer or reader would change.
var nasty = []string{
	"", " ", "\x00", "\n", "\r\n", "a\nb", "\x7f", "\xff", "\xed\xa0\x80", "ok\xc3", "\u2028\u2029", "\ufeff", "𝄞", "\u0085",
	`"`, `\`, `\u0041`, `"quoted"`, "null", "true", "17", "-0", "1e5", "Ünïcödé with a ä \\ and a \" and more than eight bytes",
	`{}`, `[]`, `{"a":1}`, ` {"a":1}`, `{"a":1} `, "{\"a\":\n1}", "{\"a\":\r1}", "{\"a\":\t1}", `{"a": [1, 2.50, {"b": null}]}`,
	`{"a":1}{"a":1}`, `{"a":1`, `{"a":1}}`, `[1,]`, `{"a":1,}`, `{,}`, `{"a"}`, `[01]`, `[1.]`, `[-]`, `[1e400]`, `[.5]`, `[nul]`, `[tru]`, `{a:1}`,
	`["\ud800"]`, `["\udc00\ud800"]`, `["\ud834\udd1e"]`, `["\ud834\u0041"]`, `["\x"]`, `["\u12g4"]`, "[\"\x01\"]", "[\"\xff\"]", "[\"ä\u2028\"]", "[\"\n\"]",
	`{"$base64":"AAAA"}`, `{ "$base64":"AAAA"}`, `{"\u0024base64":"AAAA"}`, `{"$oid":"1"}`, `{"$base64":1}`, `{"$base64":"!"}`, `{"a":{"$base64":"AAAA"}}`, `[{"$base64":"AAAA"}]`,
	`["$base64","AAAA"]`, `{"":{}}`, `{"a":1,"a":2}`, `[` + strings.Repeat("9", 400) + `]`, `{"big":18446744073709551615}`,
	strings.Repeat("[", 127) + strings.Repeat("]", 127), strings.Repeat("[", 128) + strings.Repeat("]", 128),
	strings.Repeat("[", 129) + strings.Repeat("]", 129), strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
	strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), strings.Repeat("[", 20_000), "id", "fields", "$base64",
}

func TestNastyFields(t *testing.T) {
	for _, x := range nasty {
		for _, y := range nasty {
			for _, f := range [][]event.Field{fields(x, y), fields(x, y, x, "again"), fields("\xfe", x, y, x)} {
				e := event.Event{ID: event.ID{Ms: 1, Seq: 2}, Fields: f}
				if err := checkLine(&e); err != nil {
					t.Fatalf("name %.40q, value %.40q: %v", x, y, err)
				}
			}
		}
	}
}

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields []event.Field
		want   string
	}{
		{"text", fields("type", "Paid", "n", "1"), `{"type":"Paid","n":"1"}`},
		{"no fields", nil, `{}`},
		{"JSON payload as it was", fields("payload", `{"b": 1, "a":[2.50]}`), `{"payload":{"b": 1, "a":[2.50]}}`},
		{"JSON scalars stay text", fields("a", "1", "b", "null", "c", `"x"`), `{"a":"1","b":"null","c":"\"x\""}`},
		{"JSON over two lines", fields("payload", "{\n}"), `{"payload":"{\n}"}`},
		{"looks like a tag", fields("payload", `{"$oid":"5"}`), `{"payload":"{\"$oid\":\"5\"}"}`},
		{"half a surrogate pair", fields("payload", `["\ud800"]`), `{"payload":"[\"\\ud800\"]"}`},
		{"out of every float's range", fields("payload", `[1e999]`), `{"payload":"[1e999]"}`},
		{"escapes", fields("a", "\x00\b\f\n\r\t\x1f\x7f\"\\/é\u2028"), `{"a":"\u0000\u0008\u000c\n\r\t\u001f` + "\x7f" + `\"\\/é` + "\u2028" + `"}`},
		{"repeated name", fields("a", "1", "a", `{"x":1}`), `[["a","1"],["a",{"x":1}]]`},
		{"bytes", fields("a", "\xff", "\xfe\x00", "b"), `[["a",{"$base64":"/w=="}],[{"$base64":"/gA="},"b"]]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := event.Event{ID: event.ID{Ms: 5, Seq: 6}, Fields: tt.fields}
			want := `{"id":"5-6","fields":` + tt.want + "}\n"
			if got := string(jsonl.AppendLine(nil, &e)); got != want {
				t.Errorf("got  %swant %s", got, want)
			}
			if err := checkLine(&e); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestExtremes(t *testing.T) {
	many := make([]event.Field, 10_000)
	for i := range many {
		many[i] = event.Field{Name: fmt.Appendf(nil, "n%d", i), Value: []byte("v")}
	}
	repeated := append(many[:len(many):len(many)], event.Field{Name: []byte("n17"), Value: []byte("w")})
	big := func(unit string) string { return strings.Repeat(unit, 10<<20/len(unit)) }
	events := []event.Event{
		{ID: event.ID{Seq: 1}, Fields: fields("a", "b")},
		{ID: event.ID{Ms: 1}, Fields: many},
		{ID: event.ID{Ms: 2}, Fields: repeated},
		{ID: event.ID{Ms: 3}, Fields: fields("text", big("abcdefgh"), "x", "y")},
		{ID: event.ID{Ms: 4}, Fields: fields("escaped", big("\x00\""))},
		{ID: event.ID{Ms: 5}, Fields: fields("json", `{"a":[`+big(`"0123456",`)+`1]}`)},
		{ID: event.ID{Ms: 6}, Fields: fields("bytes", big("\xff\x00"))},
		{ID: event.ID{Ms: 7}, Fields: fields(big("n"), "name")},
		{ID: event.ID{Ms: math.MaxUint64, Seq: math.MaxUint64 - 1}},
		{ID: event.MaxID, Fields: fields("", "")},
	}
	for i := range events {
		if events[i].Size() > 1<<20 {
			continue // encoding/json takes its time; the file below holds it
		}
		if err := checkLine(&events[i]); err != nil {
			t.Error(err)
		}
	}
	got, err := decode(encode(t, jsonl.Options{}, events...))
	if err != nil {
		t.Fatal(err)
	}
	if err := sameEvents(got, events); err != nil {
		t.Error(err)
	}
}

// bytesGen draws names and values: readable, nasty, JSON, arbitrary.
func bytesGen() *rapid.Generator[[]byte] {
	str := func(g *rapid.Generator[string]) *rapid.Generator[[]byte] {
		return rapid.Map(g, func(s string) []byte { return []byte(s) })
	}
	return rapid.OneOf(
		str(rapid.SampledFrom(nasty)),
		str(rapid.StringN(0, 40, -1)),
		str(rapid.StringMatching(`[a-z_]{0,12}`)),
		str(rapid.StringMatching(`[\[\]{}:," \\u0d8a$"b64n-]{0,20}`)),
		rapid.SliceOfN(rapid.Byte(), 0, 40),
		rapid.Custom(func(t *rapid.T) []byte {
			v, err := json.Marshal(jsonGen(3).Draw(t, "json"))
			if err != nil {
				t.Fatal(err)
			}
			return v
		}),
	)
}

func jsonGen(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.String().AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny(), rapid.Int().AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil),
	}
	if depth == 0 {
		return rapid.OneOf(leaves...)
	}
	return rapid.OneOf(append(leaves,
		rapid.SliceOfN(jsonGen(depth-1), 0, 4).AsAny(),
		rapid.MapOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"$base64", "$a"})), jsonGen(depth-1), 0, 4).AsAny())...)
}

func eventGen() *rapid.Generator[event.Event] {
	return rapid.Custom(func(t *rapid.T) event.Event {
		e := event.Event{ID: event.ID{Ms: rapid.Uint64().Draw(t, "ms"), Seq: rapid.Uint64().Draw(t, "seq")}}
		for range rapid.IntRange(0, 6).Draw(t, "fields") {
			e.Fields = append(e.Fields, event.Field{Name: bytesGen().Draw(t, "name"), Value: bytesGen().Draw(t, "value")})
		}
		return e
	})
}

func TestExactProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		events := rapid.SliceOfN(eventGen(), 0, 12).Draw(rt, "events")
		for i := range events {
			if err := checkLine(&events[i]); err != nil {
				rt.Fatal(err)
			}
		}
		opts := jsonl.Options{FrameBytes: rapid.IntRange(1, 600).Draw(rt, "frame"), Stream: string(bytesGen().Draw(rt, "stream"))}
		file := encode(t, opts, events...)
		got, err := decode(file)
		if err != nil {
			rt.Fatal(err)
		}
		if err := sameEvents(got, events); err != nil {
			rt.Fatal(err)
		}
		r, err := jsonl.NewReader(bytes.NewReader(file))
		if err != nil {
			rt.Fatal(err)
		}
		if h, ok := r.Header(); !ok || h.Stream != opts.Stream || h.Version != jsonl.Version {
			rt.Fatalf("header %+v, want stream %q", h, opts.Stream)
		}
	})
}

func FuzzExact(f *testing.F) {
	for i, s := range nasty {
		if len(s) < 1000 {
			f.Add(uint64(i), uint64(1), "name", s, s, nasty[(i+1)%len(nasty)])
		}
	}
	f.Fuzz(func(t *testing.T, ms, seq uint64, n1, v1, n2, v2 string) {
		e := event.Event{ID: event.ID{Ms: ms, Seq: seq}, Fields: fields(n1, v1, n2, v2)}
		if err := checkLine(&e); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzParseLine holds ParseLine to encoding/json: it takes no line that is not
// valid, leaves the batch alone when it fails, and what it makes of a line is
// written and read again as the same event.
func FuzzParseLine(f *testing.F) {
	for _, s := range append(lenientLines(), nasty...) {
		if len(s) < 1000 {
			f.Add([]byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		given := bytes.Clone(line)
		b := batchOf(event.Event{ID: event.ID{Ms: 3}, Fields: fields("a", "b")})
		before := bytes.Clone(b.Buf)
		err := jsonl.ParseLine(line, b)
		if !bytes.Equal(line, given) {
			t.Fatal("the line was changed")
		}
		if err != nil {
			if b.Len() != 1 || !bytes.Equal(b.Buf, before) {
				t.Fatalf("the batch was changed by a failure: %v", err)
			}
			return
		}
		if !json.Valid(line) || !utf8.Valid(line) {
			t.Fatalf("took a line that is not valid: %q", line)
		}
		var e event.Event
		b.Event(1, &e)
		if err := checkLine(&e); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzReader feeds arbitrary files.
func FuzzReader(f *testing.F) {
	f.Add(encode(f, jsonl.Options{Stream: "s", FrameBytes: 64}, event.Event{Fields: fields("a", "b")}, event.Event{Fields: fields("a", "b")}))
	f.Add([]byte("\ufeff{\"a\":1}\r\n\r\n{\"b\":2}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		events, err := decode(file)
		if err == nil {
			for i := range events {
				if err := checkLine(&events[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
