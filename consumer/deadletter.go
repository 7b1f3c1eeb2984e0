package consumer

import (
	"context"
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

	ref string // where a RedisStore has it
}

// DeadLetters returns the consumer's first dead letters, at most limit: by stream and
// ID from a SQLStore, in the order in which they failed from a RedisStore.
func (c *Consumer[Tx]) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	letters, err := c.cfg.Store.letters(ctx, c.cfg.Name, limit)
	if err != nil {
		return nil, fmt.Errorf("consumer %q: list dead letters: %w", c.cfg.Name, err)
	}
	return letters, nil
}

// Retry handles a dead letter now, out of order, and removes it, in one transaction.
// When the handler fails the dead letter stays as it is, and the handler's error is
// wrapped. A dead letter that is gone is an ErrNoDeadLetter.
func (c *Consumer[Tx]) Retry(ctx context.Context, d DeadLetter) error {
	var b event.Batch
	b.Append(&event.Event{ID: d.ID, Fields: d.Fields})
	m := records{stream: d.Stream, extractor: c.cfg.Mapping.Extractor()}
	handler := c.cfg.Mux.find(m.look(&b, 0))
	if handler == nil {
		return fmt.Errorf("consumer %q: retry dead letter %s: no handler for type %q", c.cfg.Name, d.ID, d.Type)
	}
	r := m.record()
	r.Attempt = d.Attempts + 1
	try := retrial{consumer: c.cfg.Name, letter: &d, dedup: c.cfg.Deduplicate}
	if c.cfg.Deduplicate > 0 {
		try.key = r.Key()
	}
	err := c.cfg.Store.resolve(ctx, try, func(tx Tx) error { return c.call(ctx, tx, item[Tx]{record: r, handler: handler}) })
	if err != nil {
		return fmt.Errorf("consumer %q: retry dead letter %s: %w", c.cfg.Name, d.ID, err)
	}
	return nil
}

// Discard removes a dead letter for good. One that is gone is an ErrNoDeadLetter.
func (c *Consumer[Tx]) Discard(ctx context.Context, d DeadLetter) error {
	if err := c.cfg.Store.resolve(ctx, retrial{consumer: c.cfg.Name, letter: &d}, nil); err != nil {
		return fmt.Errorf("consumer %q: discard dead letter %s: %w", c.cfg.Name, d.ID, err)
	}
	return nil
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
