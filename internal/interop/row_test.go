package interop_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/event"
)

// row is what another program's reader gives of one row: numbers and times as
// text, the values of rest in base64.
type row struct {
	Ms               string   `json:"id_ms"`
	Seq              string   `json:"id_seq"`
	EventID          *string  `json:"event_id"`
	EventType        *string  `json:"event_type"`
	Tenant           *string  `json:"tenant"`
	AggregateType    *string  `json:"aggregate_type"`
	AggregateID      *string  `json:"aggregate_id"`
	AggregateVersion *string  `json:"aggregate_version"`
	OccurredAt       *string  `json:"occurred_at"` // microseconds
	CorrelationID    *string  `json:"correlation_id"`
	CausationID      *string  `json:"causation_id"`
	SchemaVersion    *string  `json:"schema_version"`
	Payload          *string  `json:"payload"`
	Layout           string   `json:"layout"`
	Rest             []string `json:"rest"`
	Date             string   `json:"date"`
	Hour             string   `json:"hour"`
}

// checkRows compares rows with the record: the columns with what the fields
// say, and the event that a row gives back with the one that was published.
func checkRows(t *testing.T, got []row, want []event.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range got {
		back, err := got[i].event()
		if err != nil {
			t.Fatalf("row %d: %v", i, err)
		}
		if !back.Equal(&want[i]) {
			t.Fatalf("row %d gives back\n%s, want\n%s", i, text(back), text(&want[i]))
		}
		if err := got[i].checkColumns(&want[i]); err != nil {
			t.Fatalf("row %d of %s: %v", i, text(&want[i]), err)
		}
	}
}

// digest is a checksum of all events: the MD5 of the MD5s, in hex, of each one's ID
// and the texts that the columns of its type, ID and payload hold, joined by bars.
func digest(events []event.Event) string {
	all := md5.New()
	for _, e := range events {
		line := []byte(e.ID.String())
		for _, column := range []string{"event_type", "event_id", "payload"} {
			value, _ := e.Get(column)
			if line = append(line, '|'); utf8.Valid(value) {
				line = append(line, value...)
			}
		}
		fmt.Fprintf(all, "%x", md5.Sum(line))
	}
	return hex.EncodeToString(all.Sum(nil))
}

func text(e *event.Event) string {
	var b strings.Builder
	b.WriteString(e.ID.String())
	for _, f := range e.Fields {
		fmt.Fprintf(&b, " %q=%q", f.Name, f.Value)
	}
	return b.String()
}

// checkColumns wants the columns to hold what the shop's fields say.
func (r *row) checkColumns(e *event.Event) error {
	at := time.UnixMilli(int64(e.ID.Ms)).UTC()
	date, hour := at.Format("2006-01-02"), at.Format("15")
	if r.Date != date || r.Hour != hour {
		return fmt.Errorf("partition date=%s hour=%s, want %s and %s", r.Date, r.Hour, date, hour)
	}
	for _, c := range []struct {
		name string
		got  *string
	}{
		{"event_id", r.EventID}, {"event_type", r.EventType}, {"tenant", r.Tenant}, {"aggregate_type", r.AggregateType},
		{"aggregate_id", r.AggregateID}, {"correlation_id", r.CorrelationID}, {"causation_id", r.CausationID},
		{"schema_version", r.SchemaVersion}, {"payload", r.Payload},
	} {
		value, ok := e.Get(c.name)
		if err := same(c.name, c.got, string(value), ok && utf8.Valid(value)); err != nil {
			return err
		}
	}
	version, _ := e.Get("aggregate_version")
	_, err := strconv.ParseInt(string(version), 10, 64)
	if err := same("aggregate_version", r.AggregateVersion, string(version), err == nil); err != nil {
		return err
	}
	occurred, _ := e.Get("occurred_at")
	if said, err := time.Parse(time.RFC3339, string(occurred)); err == nil {
		at = said
	}
	return same("occurred_at", r.OccurredAt, strconv.FormatInt(at.UnixMicro(), 10), true)
}

func same(column string, got *string, want string, present bool) error {
	switch {
	case got == nil && present:
		return fmt.Errorf("%s is null, want %q", column, want)
	case got != nil && !present:
		return fmt.Errorf("%s is %q, want null", column, *got)
	case got != nil && *got != want:
		return fmt.Errorf("%s is %q, want %q", column, *got, want)
	}
	return nil
}

// event gives the event back, as docs/format-parquet.md says it is done.
func (r *row) event() (*event.Event, error) {
	id, err := event.ParseID(r.Ms + "-" + r.Seq)
	if err != nil {
		return nil, err
	}
	var layout []json.RawMessage
	if err := json.Unmarshal([]byte(r.Layout), &layout); err != nil {
		return nil, fmt.Errorf("layout %s: %w", r.Layout, err)
	}
	e, rest := &event.Event{ID: id}, slices.Clone(r.Rest)
	for _, element := range layout {
		parts := []json.RawMessage{element}
		if element[0] == '[' {
			if err := json.Unmarshal(element, &parts); err != nil {
				return nil, fmt.Errorf("layout element %s: %w", element, err)
			}
		}
		var f event.Field
		if f.Name, err = unquote(parts[0]); err == nil {
			f.Value, err = r.value(parts[1:], &rest)
		}
		if err != nil {
			return nil, fmt.Errorf("layout element %s: %w", element, err)
		}
		e.Fields = append(e.Fields, f)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d values of rest are left", len(rest))
	}
	return e, nil
}

// value gives the value of a field whose element of the layout goes on like this
// after the name.
func (r *row) value(how []json.RawMessage, rest *[]string) ([]byte, error) {
	next := func() ([]byte, error) {
		if len(*rest) == 0 {
			return nil, errors.New("rest has no more values")
		}
		value, err := base64.StdEncoding.DecodeString((*rest)[0])
		*rest = (*rest)[1:]
		return value, err
	}
	if len(how) == 0 {
		return next()
	}
	var words []string
	for _, w := range how {
		word, err := unquote(w)
		if err != nil {
			return nil, err
		}
		words = append(words, string(word))
	}
	column := map[string]*string{
		"event_id": r.EventID, "event_type": r.EventType, "tenant": r.Tenant, "aggregate_type": r.AggregateType,
		"aggregate_id": r.AggregateID, "aggregate_version": r.AggregateVersion, "occurred_at": r.OccurredAt,
		"correlation_id": r.CorrelationID, "causation_id": r.CausationID, "schema_version": r.SchemaVersion, "payload": r.Payload,
	}[words[0]]
	switch {
	case column == nil:
		return nil, errors.New("the column is null")
	case len(words) == 1 || words[1] == "int64":
		return []byte(*column), nil
	case words[1] == "rfc3339.3":
		micros, err := strconv.ParseInt(*column, 10, 64)
		return []byte(time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000Z")), err
	}
	return nil, errors.New("a codec that the shop gives no cause for")
}

// unquote gives the bytes of a JSON string, or of {"$base64": "…"}.
func unquote(quoted json.RawMessage) ([]byte, error) {
	if quoted[0] == '{' {
		var binary struct {
			Bytes []byte `json:"$base64"`
		}
		err := json.Unmarshal(quoted, &binary)
		return binary.Bytes, err
	}
	var text string
	err := json.Unmarshal(quoted, &text)
	return []byte(text), err
}
