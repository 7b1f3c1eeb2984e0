package consumer

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/event"
)

// DeadLetter is an event that could not be handled, as it was, and why.
type DeadLetter struct {
	Stream   string
	ID       event.ID
	Type     string
	Key      string // see Record.Key
	Attempts int
	Error    string
	FailedAt time.Time // by the store's clock
	Fields   []event.Field
}

func deadLetterOf(r *Record, err error) *DeadLetter {
	return &DeadLetter{Stream: r.Stream, ID: r.ID, Type: r.Type, Key: r.Key(), Attempts: r.Attempt, Error: err.Error(), Fields: r.Fields}
}

// binary is how a name or value that is not UTF-8 is written in JSON.
type binary struct {
	Base64 []byte `json:"base64"`
}

// marshalFields writes fields as a JSON array of pairs. Whatever is not UTF-8 is
// {"base64": "…"} there.
func marshalFields(fields []event.Field) (string, error) {
	pairs := make([][2]any, len(fields))
	for i, f := range fields {
		pairs[i] = [2]any{textOrBinary(f.Name), textOrBinary(f.Value)}
	}
	text, err := json.Marshal(pairs)
	return string(text), err
}

func textOrBinary(b []byte) any {
	if utf8.Valid(b) {
		return string(b)
	}
	return binary{b}
}

// unmarshalFields reads what marshalFields wrote.
func unmarshalFields(text []byte) ([]event.Field, error) {
	var pairs [][2]json.RawMessage
	if err := json.Unmarshal(text, &pairs); err != nil {
		return nil, fmt.Errorf("read the fields of a dead letter: %w", err)
	}
	fields := make([]event.Field, len(pairs))
	for i, pair := range pairs {
		for k, to := range []*[]byte{&fields[i].Name, &fields[i].Value} {
			var s string
			var b binary
			if err := json.Unmarshal(pair[k], &s); err == nil {
				*to = []byte(s)
			} else if err := json.Unmarshal(pair[k], &b); err == nil {
				*to = b.Base64
			} else {
				return nil, fmt.Errorf("read the fields of a dead letter: %w", err)
			}
		}
	}
	return fields, nil
}
