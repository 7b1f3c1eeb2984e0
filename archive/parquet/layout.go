package parquet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/event"
)

// A layout says how an event's fields are put together again. Its text is a
// JSON array with an entry for every field, in order:
//
//	"name"                       the value is the next one of rest
//	["name","column"]            the value is the text in that column
//	["name","column","codec"]    the value is made from the column by that codec
//
// A name that is not valid UTF-8 is written {"$base64":"…"}.
type layout []slot

// slot is one field of a layout.
type slot struct {
	name   []byte
	source source
	column int            // for sources other than fromRest
	form   event.TimeForm // for fromTime
}

// source says where a field's value comes from.
type source uint8

const (
	fromRest    source = iota
	fromText           // a text column, verbatim
	fromNumber         // aggregate_version, in decimal
	fromTime           // occurred_at, by a TimeForm
	fromPayload        // payload between two values of rest
)

// The codecs that are no TimeForm, by their names in a layout.
const (
	codecNumber = "int64"
	codecSplice = "splice"
)

// base64Name is a name that is not valid UTF-8; JSON has []byte in base64.
type base64Name struct {
	Bytes []byte `json:"$base64"`
}

// text returns the layout's text.
func (l layout) text() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	value := func(v any) error {
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("encode layout: %w", err)
		}
		out.Truncate(out.Len() - 1) // the newline
		return nil
	}
	out.WriteByte('[')
	for i, s := range l {
		if i > 0 {
			out.WriteByte(',')
		}
		var name any = string(s.name)
		if !utf8.Valid(s.name) {
			name = base64Name{s.name}
		}
		entry := []any{name}
		switch s.source {
		case fromRest:
			if err := value(name); err != nil {
				return nil, err
			}
			continue
		case fromText:
			entry = append(entry, columnNames[s.column])
		case fromNumber:
			entry = append(entry, columnNames[s.column], codecNumber)
		case fromTime:
			entry = append(entry, columnNames[s.column], s.form.String())
		case fromPayload:
			entry = append(entry, columnNames[s.column], codecSplice)
		}
		if err := value(entry); err != nil {
			return nil, err
		}
	}
	out.WriteByte(']')
	return out.Bytes(), nil
}

// errLayout is wrapped for a text that is not a layout of this version.
var errLayout = errors.New("invalid layout")

// parseLayout reads a layout's text.
func parseLayout(text []byte) (layout, error) {
	var entries []json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("%w: %w", errLayout, err)
	}
	l := make(layout, len(entries))
	for i, entry := range entries {
		s, err := parseSlot(entry)
		if err != nil {
			return nil, fmt.Errorf("%w: field %d: %w", errLayout, i, err)
		}
		l[i] = s
	}
	return l, nil
}

func parseSlot(entry json.RawMessage) (slot, error) {
	if entry[0] != '[' {
		name, err := parseName(entry)
		return slot{name: name}, err
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(entry, &parts); err != nil {
		return slot{}, err
	}
	if len(parts) < 2 || len(parts) > 3 {
		return slot{}, fmt.Errorf("%d parts, want a name, a column and at most a codec", len(parts))
	}
	name, err := parseName(parts[0])
	if err != nil {
		return slot{}, err
	}
	var column, codec string
	if err := json.Unmarshal(parts[1], &column); err != nil {
		return slot{}, err
	}
	if len(parts) == 3 {
		if err := json.Unmarshal(parts[2], &codec); err != nil {
			return slot{}, err
		}
	}
	s := slot{name: name, column: attributeColumn(column)}
	switch {
	case s.column < 0:
		return slot{}, fmt.Errorf("unknown column %q", column)
	case s.column == colAggregateVersion:
		s.source = fromNumber
		if codec != codecNumber {
			return slot{}, fmt.Errorf("unknown codec %q of column %q", codec, column)
		}
	case s.column == colOccurredAt:
		s.source, s.form = fromTime, event.ParseTimeForm(codec)
		if s.form == event.NoTimeForm {
			return slot{}, fmt.Errorf("unknown codec %q of column %q", codec, column)
		}
	case s.column == colPayload && codec == codecSplice:
		s.source = fromPayload
	case codec == "":
		s.source = fromText
	default:
		return slot{}, fmt.Errorf("unknown codec %q of column %q", codec, column)
	}
	return s, nil
}

// attributeColumn returns the envelope column of that name, or -1.
func attributeColumn(name string) int {
	for _, column := range columnOf {
		if columnNames[column] == name {
			return column
		}
	}
	return -1
}

func parseName(text json.RawMessage) ([]byte, error) {
	if text[0] == '{' {
		var name base64Name
		err := json.Unmarshal(text, &name)
		return name.Bytes, err
	}
	var name string
	err := json.Unmarshal(text, &name)
	return []byte(name), err
}
