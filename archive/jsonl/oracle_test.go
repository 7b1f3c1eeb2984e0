package jsonl_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
)

// oracle reads a line as docs/format-jsonl.md specifies it, with encoding/json
// and nothing of this package.
func oracle(line []byte) (event.Event, error) {
	var raw struct {
		ID     event.ID        `json:"id"`
		Fields json.RawMessage `json:"fields"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return event.Event{}, err
	}
	e := event.Event{ID: raw.ID}
	if raw.Fields[0] == '[' {
		var pairs [][2]json.RawMessage
		if err := json.Unmarshal(raw.Fields, &pairs); err != nil {
			return event.Event{}, err
		}
		for _, p := range pairs {
			e.Fields = append(e.Fields, event.Field{Name: oracleBytes(p[0]), Value: oracleBytes(p[1])})
		}
		return e, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw.Fields))
	if _, err := dec.Token(); err != nil {
		return event.Event{}, err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return event.Event{}, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return event.Event{}, err
		}
		e.Fields = append(e.Fields, event.Field{Name: []byte(name.(string)), Value: oracleBytes(value)})
	}
	return e, nil
}

func oracleBytes(raw json.RawMessage) []byte {
	var text string
	if json.Unmarshal(raw, &text) == nil && raw[0] == '"' {
		return []byte(text)
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil && len(object) == 1 && bytes.HasPrefix(raw, []byte(`{"$base64":`)) {
		if json.Unmarshal(object["$base64"], &text) == nil {
			if content, err := base64.StdEncoding.DecodeString(text); err == nil {
				return content
			}
		}
	}
	return raw
}

// checkLine holds the line of e to everything that a line must be.
func checkLine(e *event.Event) error {
	line := jsonl.AppendLine([]byte("before"), e)
	if !bytes.HasPrefix(line, []byte("before")) {
		return errors.New("what was there before is gone")
	}
	line = line[len("before"):]
	if bytes.IndexByte(line, '\n') != len(line)-1 || bytes.IndexByte(line, '\r') >= 0 {
		return fmt.Errorf("not one line: %.200q", line)
	}
	if !json.Valid(line) {
		return fmt.Errorf("not valid JSON: %.200q", line)
	}
	independent, err := oracle(line)
	if err != nil {
		return fmt.Errorf("encoding/json cannot read %.200q: %w", line, err)
	}
	if !e.Equal(&independent) {
		return fmt.Errorf("encoding/json reads %.200q as another event", line)
	}
	b := batchOf(event.Event{ID: event.ID{Ms: 7}})
	if err := jsonl.ParseLine(line, b); err != nil {
		return fmt.Errorf("ParseLine of %.200q: %w", line, err)
	}
	var got event.Event
	if b.Len() != 2 {
		return fmt.Errorf("ParseLine added %d events", b.Len()-1)
	}
	if b.Event(1, &got); !e.Equal(&got) {
		return fmt.Errorf("ParseLine reads %.200q as another event", line)
	}
	return nil
}

func batchOf(events ...event.Event) *event.Batch {
	b := &event.Batch{}
	for i := range events {
		b.Append(&events[i])
	}
	return b
}

func fields(namesAndValues ...string) []event.Field {
	var out []event.Field
	for i := 0; i < len(namesAndValues); i += 2 {
		out = append(out, event.Field{Name: []byte(namesAndValues[i]), Value: []byte(namesAndValues[i+1])})
	}
	return out
}

// encode returns the file of those events.
func encode(t testing.TB, opts jsonl.Options, events ...event.Event) []byte {
	t.Helper()
	var file bytes.Buffer
	w := jsonl.NewWriter(&file, opts)
	for i := range events { // one at a time: the file must not depend on it
		if err := w.Write(batchOf(events[i]), 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Bytes() != int64(file.Len()) {
		t.Fatalf("Bytes() = %d, want %d", w.Bytes(), file.Len())
	}
	return file.Bytes()
}

// decode reads all events of a file, and those before the error if there is one.
func decode(file []byte) ([]event.Event, error) {
	r, err := jsonl.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var events []event.Event
	var b event.Batch
	for {
		if err := r.Read(&b); err != nil {
			if again := r.Read(&b); again == nil || again.Error() != err.Error() || b.Len() > 0 {
				return events, fmt.Errorf("after %w came %w", err, again)
			}
			if err == io.EOF { //nolint:errorlint // the clean end is the bare one
				return events, nil
			}
			return events, err
		}
		if b.Len() == 0 {
			return events, errors.New("an empty batch without an error")
		}
		for i := range b.Len() {
			var e event.Event
			b.Event(i, &e)
			events = append(events, e.Clone())
		}
	}
}

func sameEvents(got, want []event.Event) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if !got[i].Equal(&want[i]) {
			return fmt.Errorf("event %d is %.200q, want %.200q", i, got[i], want[i])
		}
	}
	return nil
}
