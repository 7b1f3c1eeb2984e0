package sink_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
	"github.com/reservoirhq/reservoir/replay/sinktest"
)

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// options makes the options of a target.
func options(t testing.TB, kind replay.SinkKind, target string, pairs ...string) json.RawMessage {
	t.Helper()
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	raw, err := kind.Parse(target, m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// lineIDs returns the event IDs of JSON lines in a format.
func lineIDs(t testing.TB, format, text string) (ids []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			t.Fatalf("the last line is not whole: %q", line)
		}
		if format == "raw" {
			var b event.Batch
			var e event.Event
			if err := jsonl.ParseLine([]byte(line), &b); err != nil {
				t.Fatal(err)
			}
			b.Event(0, &e)
			id, _ := e.Get("event_id")
			ids = append(ids, string(id))
			continue
		}
		var v struct {
			ID      string `json:"id"`
			EventID string `json:"event_id"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if format == "cloudevents" {
			v.EventID = v.ID
		}
		ids = append(ids, v.EventID)
	}
	return ids
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func TestFileConformance(t *testing.T) {
	for _, format := range []string{"raw", "view", "cloudevents"} {
		t.Run(format, func(t *testing.T) {
			kind := sink.NewFile(sink.FileConfig{Anywhere: true})
			sinktest.Run(t, sinktest.Harness{Kind: kind, Target: func(t testing.TB) sinktest.Target {
				path := filepath.Join(t.TempDir(), "out.jsonl")
				return sinktest.Target{
					Options: options(t, kind, path, "format", format),
					Read:    func(t testing.TB) []string { return lineIDs(t, format, read(t, path)) },
				}
			}})
		})
	}
}

// A crash may leave anything behind what the mark counts.
func TestFileCutsWhatDoesNotCount(t *testing.T) {
	kind, path, all := sink.NewFile(sink.FileConfig{Anywhere: true}), filepath.Join(t.TempDir(), "out.jsonl"), sinktest.Events()
	raw := options(t, kind, path)
	for epoch := range uint64(5) {
		s := must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(raw, "job", epoch+1)))
		if err := s.Write(t.Context(), sinktest.BatchOf(all[epoch*10:epoch*10+10])); err != nil {
			t.Fatal(err)
		}
		s.Close()
		f := must[*os.File](t)(os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0))
		must[int](t)(f.WriteString(`{"id":"1-1","fields":{"half`))
		f.Close()
	}
	s := must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(raw, "job", 9)))
	defer s.Close()
	if ids := lineIDs(t, "raw", read(t, path)); len(ids) != 50 || ids[49] != all[49].Origin.EventID {
		t.Errorf("after five crashes: %v", ids)
	}
}

func TestFileRefusals(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	full, torn := file("full", "{}\n"), file("torn", "{}\n{")
	if err := os.Symlink(outside, filepath.Join(dir, "way-out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "x"), filepath.Join(dir, "link-out")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inDir, anywhere, nowhere := sink.NewFile(sink.FileConfig{Dir: dir}), sink.NewFile(sink.FileConfig{Anywhere: true}), sink.NewFile(sink.FileConfig{})
	for _, c := range []struct {
		name  string
		kind  replay.SinkKind
		path  string
		pairs []string
		want  string // in the error; "" is none
	}{
		{"in the directory", inDir, "new", nil, ""},
		{"absolute in the directory", inDir, filepath.Join(dir, "new2"), nil, ""},
		{"outside", inDir, filepath.Join(outside, "new"), nil, "outside of"},
		{"dots", inDir, "../new", nil, "outside of"},
		{"a link to a directory outside", inDir, "way-out/new", nil, "outside of"},
		{"a link to a file outside", inDir, "link-out", nil, "escapes"},
		{"nowhere", nowhere, filepath.Join(dir, "new"), nil, "may not write files"},
		{"no directory", anywhere, filepath.Join(dir, "no", "new"), nil, "no such file"},
		{"not empty", anywhere, full, nil, "not empty"},
		{"overwrite", anywhere, full, []string{"overwrite", "true"}, ""},
		{"both", anywhere, full, []string{"overwrite", "true", "append", "true"}, "exclude each other"},
		{"no whole line", anywhere, torn, []string{"append", "true"}, "not whole"},
		{"not a file", anywhere, dir, nil, "directory"},
		{"a mark", anywhere, filepath.Join(dir, "x.reservoir-replay.json"), nil, "the replay's own"},
		{"no path", anywhere, "", nil, "no path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := sinktest.Opening(options(t, c.kind, c.path, c.pairs...), "job", 1)
			s, err := c.kind.Open(t.Context(), o)
			if err == nil {
				defer s.Close()
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("open: %v, want %q", err, c.want)
			}
		})
	}
	o := sinktest.Opening(options(t, anywhere, torn), "", 0)
	if _, err := anywhere.Check(t.Context(), o); err == nil || !strings.Contains(remedy.Of(err), "append=true") {
		t.Errorf("check of a file that is not empty: %v, remedy %q", err, remedy.Of(err))
	}
}

func TestFileAppendsAndOverwrites(t *testing.T) {
	kind, all := sink.NewFile(sink.FileConfig{Anywhere: true}), sinktest.Events()
	path := filepath.Join(t.TempDir(), "out.jsonl")
	write := func(job, option string, part []sinktest.Event) {
		var pairs []string
		if option != "" {
			pairs = []string{option, "true"}
		}
		o := sinktest.Opening(options(t, kind, path, pairs...), job, 1)
		for range 2 { // the second opening is that after a crash
			s := must[replay.Sink](t)(kind.Open(t.Context(), o))
			if err := s.Write(t.Context(), sinktest.BatchOf(part)); err != nil {
				t.Fatal(err)
			}
			s.Close()
			o.Epoch++
		}
		if err := kind.Clean(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	write("one", "", all[:5])
	write("two", "append", all[5:8])
	if ids := lineIDs(t, "raw", read(t, path)); len(ids) != 8 {
		t.Errorf("appended: %v", ids)
	}
	write("three", "overwrite", all[8:9])
	if ids := lineIDs(t, "raw", read(t, path)); len(ids) != 1 || ids[0] != all[8].Origin.EventID {
		t.Errorf("overwritten: %v", ids)
	}
	entries := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(path)))
	if len(entries) != 1 {
		t.Errorf("clean leaves %v", entries)
	}
}

// Two replays do not share a file, and one whose file was changed says so.
func TestFileBelongsToOneReplay(t *testing.T) {
	kind, path, all := sink.NewFile(sink.FileConfig{Anywhere: true}), filepath.Join(t.TempDir(), "out.jsonl"), sinktest.Events()
	raw := options(t, kind, path, "append", "true")
	s := must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(raw, "one", 1)))
	defer s.Close()
	if err := s.Write(t.Context(), sinktest.BatchOf(all[:5])); err != nil {
		t.Fatal(err)
	}
	if _, err := kind.Open(t.Context(), sinktest.Opening(raw, "two", 9)); err == nil || !strings.Contains(err.Error(), "belongs to replay one") {
		t.Errorf("another replay opens it: %v", err)
	}
	if _, err := kind.Check(t.Context(), sinktest.Opening(raw, "", 0)); err == nil || !strings.Contains(err.Error(), "belongs to replay one") {
		t.Errorf("another replay is checked: %v", err)
	}
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := kind.Open(t.Context(), sinktest.Opening(raw, "one", 2)); err == nil || !strings.Contains(err.Error(), "changed or removed") {
		t.Errorf("opened after it was cut: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), sinktest.BatchOf(all[5:9])); err == nil {
		t.Error("written although the file is gone")
	}
}
