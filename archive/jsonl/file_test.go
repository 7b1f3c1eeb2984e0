package jsonl_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
)

// sample are the events of testdata/v1.jsonl.zst.
func sample() []event.Event {
	return []event.Event{
		{ID: event.ID{Seq: 1}, Fields: fields("event_id", "e-1", "event_type", "OrderPlaced", "payload", `{"order": 17, "total": 12.50, "lines": [{"sku": "A-1"}]}`)},
		{ID: event.ID{Ms: 1790000000000}, Fields: fields("name", "value", "name", `{"again":true}`, "", "")},
		{ID: event.ID{Ms: 1790000000000, Seq: 1}, Fields: fields("binary", "\x00\xff", "\xfe", "x", "text", "tab\tquote\" Kraków \u2028")},
		{ID: event.ID{Ms: 1790000000001}, Fields: fields("oid", `{"$oid":"5"}`, "lines", "{\n}", "deep", strings.Repeat("[", 129)+strings.Repeat("]", 129))},
		{ID: event.MaxID, Fields: fields("number", "1", "list", "[1,2]")},
	}
}

var update = flag.Bool("update", false, "write testdata anew")

// TestSample: files of version 1 stay readable for ever. The sample is not to be
// written anew for a change; a change of the format gets a version and a sample
// of its own.
func TestSample(t *testing.T) {
	const path = "testdata/v1.jsonl.zst"
	opts := jsonl.Options{Stream: "orders\xff", Incarnation: 3, FrameBytes: 256}
	if *update {
		if err := os.WriteFile(path, encode(t, opts, sample()...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameEvents(got, sample()); err != nil {
		t.Error(err)
	}
	r, err := jsonl.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if h, ok := r.Header(); !ok || h != (jsonl.Header{Version: 1, Stream: opts.Stream, Incarnation: 3}) {
		t.Errorf("header %+v, %t", h, ok)
	}
	if bytes.Count(file, []byte("\x28\xb5\x2f\xfd")) < 2 {
		t.Error("the sample has fewer than two frames")
	}
}

// unpack is what `zstd -dc` gives.
func unpack(t testing.TB, file []byte) []byte {
	t.Helper()
	dec, err := zstd.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	text, err := io.ReadAll(dec)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func pack(t testing.TB, text []byte) []byte {
	t.Helper()
	var file bytes.Buffer
	enc, err := zstd.NewWriter(&file, zstd.WithEncoderConcurrency(1)) // streaming: the frame does not tell its size
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enc.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func shop(n int) []event.Event {
	b := shopEvents(n)
	events := make([]event.Event, n)
	for i := range events {
		var e event.Event
		b.Event(i, &e)
		events[i] = e.Clone()
	}
	return events
}

// TestForms reads the same events from all that a file may be.
func TestForms(t *testing.T) {
	want := append(shop(1200), sample()...)
	file := encode(t, jsonl.Options{}, want...)
	text := unpack(t, file)
	half := len(want) / 2
	skippable := func(content string) []byte {
		return append(binary.LittleEndian.AppendUint32([]byte("\x50\x2a\x4d\x18"), uint32(len(content))), content...)
	}
	var lines [][]byte // each in a frame, cut in the middle
	for line := range bytes.Lines(text) {
		if len(lines) == 40 {
			lines = append(lines, pack(t, text[len(unpack(t, bytes.Join(lines, nil))):]))
			break
		}
		lines = append(lines, pack(t, line[:len(line)/2]), pack(t, line[len(line)/2:]))
	}
	for name, form := range map[string][]byte{
		"segment":              file,
		"small frames":         encode(t, jsonl.Options{FrameBytes: 1000}, want...),
		"large frames":         encode(t, jsonl.Options{FrameBytes: 1 << 30}, want...),
		"concatenated":         append(encode(t, jsonl.Options{Stream: "a"}, want[:half]...), encode(t, jsonl.Options{Stream: "b"}, want[half:]...)...),
		"compressed anew":      pack(t, text),
		"lines across frames":  bytes.Join(lines, nil),
		"plain":                text,
		"without last newline": bytes.TrimSuffix(text, []byte("\n")),
		"Windows":              append([]byte("\ufeff"), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))...),
		"blank lines":          append([]byte("\n \n"), bytes.ReplaceAll(text, []byte("\n"), []byte("\n\t\n"))...),
		"frames of others":     bytes.Join([][]byte{skippable("x"), pack(t, text), skippable(`{"format":"other","version":7}`)}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(form)
			if err != nil {
				t.Fatal(err)
			}
			if err := sameEvents(got, want); err != nil {
				t.Error(err)
			}
			r, err := jsonl.NewReader(iotest.HalfReader(bytes.NewReader(form)))
			if err != nil {
				t.Fatal(err)
			}
			var b event.Batch
			n := 0
			for err = r.Read(&b); err == nil; err = r.Read(&b) {
				n += b.Len()
			}
			if !errors.Is(err, io.EOF) || n != len(want) {
				t.Errorf("in small reads: %d events, %v", n, err)
			}
		})
	}
}

// TestReadErrors: the events before a wrong line come first, then the error with
// its line.
func TestReadErrors(t *testing.T) {
	text := "{\"a\":1}\n\n{\"a\":2}\n{\"a\":x}\n{\"a\":3}\n"
	for _, file := range [][]byte{[]byte(text), pack(t, []byte(text))} {
		events, err := decode(file)
		var syntax *jsonl.SyntaxError
		if !errors.As(err, &syntax) || syntax.Line != 4 || syntax.Column != 6 || len(events) != 2 {
			t.Errorf("%d events, %v", len(events), err)
		}
	}
	broken := errors.New("broken")
	for _, in := range []string{"", text[:3], text[:8]} {
		r, err := jsonl.NewReader(io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken)))
		var b event.Batch
		for err == nil {
			err = r.Read(&b)
		}
		if !errors.Is(err, broken) {
			t.Errorf("after %q: %v", in, err)
		}
	}
}

func TestNewerVersion(t *testing.T) {
	file := encode(t, jsonl.Options{}, sample()...)
	newer := bytes.Replace(file, []byte(`"version":1`), []byte(`"version":2`), 1)
	if _, err := jsonl.NewReader(bytes.NewReader(newer)); !errors.Is(err, jsonl.ErrNewerVersion) {
		t.Errorf("got %v", err)
	}
	events, err := decode(append(bytes.Clone(file), newer...))
	if !errors.Is(err, jsonl.ErrNewerVersion) || len(events) != len(sample()) {
		t.Errorf("as a second file: %d events, %v", len(events), err)
	}
}

// TestCutOff: a segment that lacks anything at its end is never read as whole.
func TestCutOff(t *testing.T) {
	want := sample()
	for _, opts := range []jsonl.Options{{FrameBytes: 100}, {}} {
		file := encode(t, opts, want...)
		for n := 1; n < len(file); n++ {
			got, err := decode(file[:n])
			if err == nil {
				t.Fatalf("%d of %d bytes read as whole", n, len(file))
			}
			if len(got) > len(want) || sameEvents(got, want[:len(got)]) != nil {
				t.Fatalf("%d of %d bytes: wrong events before the error", n, len(file))
			}
		}
	}
	packed := pack(t, unpack(t, encode(t, jsonl.Options{}, want...)))
	for n := 1; n < len(packed); n++ {
		if _, err := decode(packed[:n]); err == nil {
			t.Fatalf("%d of %d bytes read as a whole file without a header", n, len(packed))
		}
	}
}

// TestMissingFrame: a segment without its beginning, or without a frame in the
// middle, is not read as whole.
func TestMissingFrame(t *testing.T) {
	file := encode(t, jsonl.Options{FrameBytes: 100}, sample()...)
	var starts []int
	for i := range file {
		if bytes.HasPrefix(file[i:], []byte("\x28\xb5\x2f\xfd")) || bytes.HasPrefix(file[i:], []byte("\x50\x2a\x4d\x18")) {
			starts = append(starts, i)
		}
	}
	starts = append(starts, len(file))
	if len(starts) < 5 {
		t.Fatalf("only %d frames", len(starts)-1)
	}
	for i := range starts[:len(starts)-1] {
		without := append(bytes.Clone(file[:starts[i]]), file[starts[i+1]:]...)
		if _, err := decode(without); err == nil {
			t.Errorf("without frame %d of %d: no error", i, len(starts)-1)
		}
	}
}

// TestForeignEvent: what was put into a segment afterwards is not taken for its
// own, with or without a line feed.
func TestForeignEvent(t *testing.T) {
	file := encode(t, jsonl.Options{}, sample()...)
	trailer := bytes.LastIndex(file, []byte("\x50\x2a\x4d\x18"))
	for _, text := range []string{`{"a":1}`, "{\"a\":1}\n"} {
		more := bytes.Join([][]byte{file[:trailer], pack(t, []byte(text)), file[trailer:]}, nil)
		if _, err := decode(more); err == nil {
			t.Errorf("%q read as part of the segment", text)
		}
	}
}

// TestFlippedBits: a bit of a data frame or of the trailer is wrong: the reader says so, or gives the right events.
func TestFlippedBits(t *testing.T) {
	want := sample()
	file := encode(t, jsonl.Options{FrameBytes: 100}, want...)
	header := bytes.Index(file, []byte("\x28\xb5\x2f\xfd"))
	for i := header; i < len(file); i++ {
		for _, bit := range []int{i % 8, (i + 3) % 8} {
			flipped := bytes.Clone(file)
			flipped[i] ^= 1 << bit
			if got, err := decode(flipped); err == nil && sameEvents(got, want) != nil {
				t.Errorf("byte %d, bit %d: other events and no error", i, bit)
			}
		}
	}
}

// TestTools reads a segment with what people have.
func TestTools(t *testing.T) {
	for tool, install := range map[string]string{"zstd": "apt-get install zstd", "jq": "apt-get install jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: %s", tool, install)
		}
	}
	events := append(shop(2000), sample()...)
	for _, v := range nasty {
		events = append(events, event.Event{ID: event.MaxID, Fields: fields("payload", v, v, v, "n", "1")}, event.Event{Fields: fields(v, v, v, "")})
	}
	file := encode(t, jsonl.Options{Stream: "orders"}, events...)
	run := func(in []byte, name string, args ...string) []byte {
		var out, problems bytes.Buffer
		cmd := exec.Command(name, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &problems
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v: %s", cmd, err, problems.Bytes())
		}
		return out.Bytes()
	}
	text := run(file, "zstd", "-dc")
	if !bytes.Equal(text, unpack(t, file)) {
		t.Error("zstd -dc gives something else")
	}
	ids := bytes.Split(bytes.TrimSuffix(run(text, "jq", "-r", ".id"), []byte("\n")), []byte("\n"))
	if len(ids) != len(events) {
		t.Fatalf("jq sees %d lines, want %d", len(ids), len(events))
	}
	for i := range events {
		if string(ids[i]) != events[i].ID.String() {
			t.Fatalf("jq sees ID %s, want %s", ids[i], events[i].ID)
		}
	}
	// What jq formats anew is the same but for the white space and numbers of
	// spliced JSON: no text turns into a tag or the other way round.
	again, err := decode(run(text, "jq", "-c", "."))
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		for j, f := range events[i].Fields {
			got := again[i].Fields[j]
			same := bytes.Equal(got.Value, f.Value)
			if json.Valid(f.Value) && (f.Value[0] == '{' || f.Value[0] == '[') {
				same = len(got.Value) > 0 && got.Value[0] == f.Value[0]
			}
			if !bytes.Equal(got.Name, f.Name) || !same {
				t.Fatalf("after jq, field %.60q is %.60q", f, got)
			}
		}
	}
	recompressed := run(text, "zstd", "-c", "-19", "--long=27")
	got, err := decode(recompressed)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameEvents(got, events); err != nil {
		t.Error(err)
	}
}
