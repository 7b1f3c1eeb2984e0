package app

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
)

// eventWriter prints events in the form that was asked for.
type eventWriter struct {
	out       *bufio.Writer
	form      string // jsonl, table or raw
	several   bool   // streams: a table names them
	extractor *event.Extractor
	json      *json.Encoder
	line      []byte
	begun     bool
}

func newEventWriter(out *bufio.Writer, form string, mapping event.Mapping, several bool) *eventWriter {
	w := &eventWriter{out: out, form: form, several: several, extractor: mapping.Extractor(), json: json.NewEncoder(out)}
	w.json.SetEscapeHTML(false)
	return w
}

func (w *eventWriter) write(stream string, e *event.Event) error {
	var err error
	switch w.form {
	case "raw":
		w.line = jsonl.AppendLine(w.line[:0], e)
		_, err = w.out.Write(w.line)
	case "table":
		err = w.row(stream, e)
	default:
		err = w.json.Encode(w.extractor.View(stream, e))
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func (w *eventWriter) flush() error {
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// Widths of a table's columns; longer cells push the rest of their line.
const (
	streamWidth    = 16
	idWidth        = 18
	timeWidth      = 24
	typeWidth      = 20
	tenantWidth    = 10
	aggregateWidth = 20
	detailWidth    = 120 // where a cell of the last column is cut
)

func (w *eventWriter) row(stream string, e *event.Event) error {
	if !w.begun {
		w.begun = true
		if err := w.cells("STREAM", "ID", "OCCURRED AT", "TYPE", "TENANT", "AGGREGATE", "PAYLOAD"); err != nil {
			return err
		}
	}
	v := w.extractor.View(stream, e)
	at := "-"
	if v.Time != nil {
		at = v.Time.Format("2006-01-02T15:04:05.000Z")
	}
	aggregate := v.AggregateID
	if v.AggregateType != "" {
		aggregate = v.AggregateType + "/" + aggregate
	}
	detail := string(v.Payload)
	if detail == "" && len(v.Fields) > 0 {
		fields, err := json.Marshal(v.Fields)
		if err != nil {
			return err
		}
		detail = string(fields)
	}
	return w.cells(v.Stream, e.ID.String(), at, v.Type, v.Tenant, aggregate, shorten(detail))
}

// shorten cuts a text that is too long for a line.
func shorten(s string) string {
	n := 0
	for i := range s {
		if n++; n == detailWidth {
			return s[:i] + "…"
		}
	}
	return s
}

func (w *eventWriter) cells(stream, id, at, typ, tenant, aggregate, detail string) error {
	var line strings.Builder
	pad := func(s string, width int) {
		s = cellText.Replace(s)
		if s == "" {
			s = "-"
		}
		line.WriteString(s)
		line.WriteString(strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s))+2))
	}
	if w.several {
		pad(stream, streamWidth)
	}
	pad(id, idWidth)
	pad(at, timeWidth)
	pad(typ, typeWidth)
	pad(tenant, tenantWidth)
	pad(aggregate, aggregateWidth)
	pad(detail, 0)
	_, err := w.out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	return err
}
