package sink

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

// The formats of an event.
const (
	formatCloudEvents = "cloudevents" // structured JSON of CloudEvents 1.0
	formatRaw         = "raw"         // the exact entry, a line of the archive's JSON lines
	formatView        = "view"        // an event.View
	formatPayload     = "payload"     // the payload as it is; an object of the fields where there is none
)

// entryType is the type of a CloudEvent whose event has none: it must have one.
const entryType = "reservoir.entry"

// encoder writes events in a format. It is not safe for concurrent use.
type encoder struct {
	format    string
	replay    string // the job's ID
	extractor *event.Extractor
	env       event.Envelope
	buf       bytes.Buffer
}

func newEncoder(format, replayID string, mapping event.Mapping) *encoder {
	return &encoder{format: format, replay: replayID, extractor: mapping.Extractor()}
}

// append appends an event to dst, without a line feed. The error is about this
// event alone.
func (x *encoder) append(dst []byte, e *event.Event, o *replay.Origin) ([]byte, error) {
	switch x.format {
	case formatRaw:
		dst = jsonl.AppendLine(dst, e)
		return dst[:len(dst)-1], nil
	case formatPayload:
		x.extractor.Extract(e, &x.env)
		if payload, ok := x.env.Get(event.Payload); ok {
			return append(dst, payload...), nil
		}
		return x.appendJSON(dst, x.others(e, o))
	case formatView:
		return x.appendJSON(dst, x.extractor.View(o.Stream, e))
	default:
		return x.appendJSON(dst, x.cloudEvent(e, o))
	}
}

func (x *encoder) appendJSON(dst []byte, v any) ([]byte, error) {
	x.buf.Reset()
	enc := json.NewEncoder(&x.buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return dst, fmt.Errorf("write the event as JSON: %w", err)
	}
	return append(dst, bytes.TrimSuffix(x.buf.Bytes(), []byte("\n"))...), nil
}

// others gives the fields of an event that has no payload.
func (x *encoder) others(e *event.Event, o *replay.Origin) map[string]string {
	if fields := x.extractor.View(o.Stream, e).Fields; fields != nil {
		return fields
	}
	return map[string]string{}
}

// cloudEvent is an event in the structured JSON of CloudEvents 1.0. The
// attributes from PartitionKey on are extensions.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            *time.Time      `json:"time,omitempty"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	PartitionKey    string          `json:"partitionkey,omitempty"`
	Tenant          string          `json:"tenant,omitempty"`
	AggregateType   string          `json:"aggregatetype,omitempty"`
	AggregateID     string          `json:"aggregateid,omitempty"`
	Version         string          `json:"aggregateversion,omitempty"`
	CorrelationID   string          `json:"correlationid,omitempty"`
	CausationID     string          `json:"causationid,omitempty"`
	SchemaVersion   string          `json:"schemaversion,omitempty"`
	EntryID         event.ID        `json:"entryid"` // the stream entry's
	Incarnation     int             `json:"incarnation"`
	Replay          string          `json:"replay,omitempty"`
	Data            json.RawMessage `json:"data,omitempty"`
	DataBase64      []byte          `json:"data_base64,omitempty"`
}

func (x *encoder) cloudEvent(e *event.Event, o *replay.Origin) *cloudEvent {
	x.extractor.Extract(e, &x.env)
	text := func(a event.Attribute) string {
		b, _ := x.env.Get(a)
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	c := &cloudEvent{
		SpecVersion: "1.0", ID: eventKey(o), Source: "/streams/" + url.PathEscape(o.Stream), Type: text(event.Type),
		Tenant: text(event.Tenant), AggregateType: text(event.AggregateType), AggregateID: text(event.AggregateID),
		Version: text(event.Version), CorrelationID: text(event.CorrelationID), CausationID: text(event.CausationID),
		SchemaVersion: text(event.SchemaVersion), EntryID: o.ID, Incarnation: o.Incarnation, Replay: x.replay,
	}
	if id := text(event.EventID); id != "" {
		c.ID = id
	}
	if c.Type == "" {
		c.Type = entryType
	}
	c.PartitionKey, c.Subject = c.AggregateID, c.AggregateID
	if c.AggregateType != "" && c.AggregateID != "" {
		c.Subject = c.AggregateType + "/" + c.AggregateID
	}
	if micros, ok := x.env.Time(e.ID); ok {
		t := time.UnixMicro(micros).UTC()
		c.Time = &t
	}
	x.setData(c, e, o)
	return c
}

// setData gives a CloudEvent the event's payload, or its fields if it has none.
func (x *encoder) setData(c *cloudEvent, e *event.Event, o *replay.Origin) {
	payload, ok := x.env.Get(event.Payload)
	switch {
	case !ok:
		c.DataContentType = "application/json"
		c.Data = rawJSON(x.others(e, o))
	case json.Valid(payload) && utf8.Valid(payload):
		c.DataContentType = "application/json"
		c.Data = bytes.Clone(payload)
	case utf8.Valid(payload):
		c.DataContentType = "text/plain"
		c.Data = rawJSON(string(payload))
	default:
		c.DataContentType = "application/octet-stream"
		c.DataBase64 = bytes.Clone(payload)
	}
}

// rawJSON is the JSON of what always has one.
func rawJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

// eventKey is the idempotency key of an event: its own ID where it has one, and
// else the place in its stream. It is the same in every attempt and every
// replay.
func eventKey(o *replay.Origin) string {
	if o.EventID != "" {
		return safeKey(o.EventID)
	}
	return safeKey(fmt.Sprintf("%s/%d/%s", url.PathEscape(o.Stream), o.Incarnation, o.ID))
}

// batchKey is that of consecutive events of a lane, which the first and the last
// tell.
func batchKey(first, last *replay.Origin) string {
	return hashed(fmt.Sprintf("%q %d %s %q %d %s", first.Stream, first.Incarnation, first.ID, last.Stream, last.Incarnation, last.ID))
}

// maxKey is how long keys are at most.
const maxKey = 128

// safeKey returns a key that a header and a signed content can carry: visible
// ASCII without full stops, which separate the parts of what is signed. Another
// text is hashed.
func safeKey(text string) string {
	if len(text) > maxKey {
		return hashed(text)
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' || c == '.' || c == ',' || c == '"' {
			return hashed(text)
		}
	}
	return text
}

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + hex.EncodeToString(sum[:])
}
