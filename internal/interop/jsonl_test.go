package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
)

// pairs gives one line [id, [[name, value], …]] for each event: a value that is
// JSON again as its text, one that is no text as {"$base64": "…"}.
const pairs = `[.id, (.fields
	| if type == "object" then to_entries | map([.key, .value]) else . end
	| map(map(if type == "string" or (type == "object" and has("$base64")) then . else tojson end)))]`

// checkJQ reads the JSONL of every stream by `zstd -dc … | jq`, hour by hour, and
// compares it with the record line by line.
func checkJQ(t *testing.T, p *published, at place) {
	for stream, want := range p.record {
		filter, expect := pairs, func(e *event.Event) string { return text(e) }
		if stream == busy { // many: their IDs will do
			filter, expect = "[.id, []]", func(e *event.Event) string { return e.ID.String() }
		}
		lines := strings.Split(strings.TrimSpace(string(jq(t, filter, files(t, at, stream)))), "\n")
		if len(lines) != len(want) {
			t.Errorf("%d lines of %s, want %d", len(lines), stream, len(want))
			continue
		}
		for i, line := range lines {
			got, err := eventOf([]byte(line))
			if err != nil {
				t.Fatalf("line %d of %s: %v", i+1, stream, err)
			}
			if text(got) != expect(&want[i]) {
				t.Fatalf("line %d of %s is\n%s, want\n%s", i+1, stream, text(got), expect(&want[i]))
			}
		}
	}
}

// files are the JSONL files of a stream in the order of their names.
func files(t *testing.T, at place, stream string) []string {
	t.Helper()
	var files []string
	for _, hour := range hours {
		inHour, err := filepath.Glob(at.glob(stream, "jsonl", hour))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(inHour)
		files = append(files, inHour...)
	}
	return files
}

// jq runs `zstd -dc FILES | jq -c FILTER`.
func jq(t *testing.T, filter string, files []string) []byte {
	t.Helper()
	var text, out, complaints bytes.Buffer
	for _, step := range []struct {
		program string
		args    []string
		in, out *bytes.Buffer
	}{
		{"zstd", append([]string{"-dcq", "--"}, files...), nil, &text},
		{"jq", []string{"-c", filter}, &text, &out},
	} {
		path, err := stack.Binary(step.program)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), path, step.args...)
		cmd.Stdout, cmd.Stderr = step.out, &complaints
		if step.in != nil {
			cmd.Stdin = step.in
		}
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v: %s", step.program, err, &complaints)
		}
	}
	return out.Bytes()
}

// eventOf gives the event of a line that pairs made.
func eventOf(line []byte) (*event.Event, error) {
	var both [2]json.RawMessage
	var id string
	var fields [][2]json.RawMessage
	err := json.Unmarshal(line, &both)
	if err == nil {
		err = json.Unmarshal(both[0], &id)
	}
	if err == nil {
		err = json.Unmarshal(both[1], &fields)
	}
	if err != nil {
		return nil, err
	}
	e := &event.Event{}
	if e.ID, err = event.ParseID(id); err != nil {
		return nil, err
	}
	for _, f := range fields {
		name, err := unquote(f[0])
		if err != nil {
			return nil, err
		}
		value, err := unquote(f[1])
		if err != nil {
			return nil, err
		}
		e.Fields = append(e.Fields, event.Field{Name: name, Value: value})
	}
	return e, nil
}

// checkClickHouseJSONL has ClickHouse read the JSONL as it is.
func checkClickHouseJSONL(t *testing.T, p *published, at place, engine *stack.ClickHouse) {
	want := 0
	for _, e := range p.record[shop.Orders] {
		payload, _ := e.Get("payload")
		if has(&e, "event_type", "OrderPaid") && utf8.Valid(payload) { // in the object form
			want++
		}
	}
	got, err := engine.Query(t.Context(), fmt.Sprintf(
		`SELECT count(), countIf(JSONExtractString(line, 'fields', 'event_type') = 'OrderPaid')
		FROM file('%s', LineAsString, 'line String')`, at.glob(shop.Orders, "jsonl", "**")))
	if err != nil || strings.TrimSpace(got) != fmt.Sprintf("%d\t%d", len(p.record[shop.Orders]), want) {
		t.Errorf("ClickHouse counts %s, %v; want %d and %d", got, err, len(p.record[shop.Orders]), want)
	}
}
