package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

// DeadLetterVersion is the version of DeadLetter that this program writes.
const DeadLetterVersion = 1

// DeadLetter is an event that a replay set aside, and why: one JSON object among
// the job's files. An event has one, however often it is set aside.
type DeadLetter struct {
	Version int    `json:"version"` // DeadLetterVersion
	Key     string `json:"key"`     // identifies it within its replay; sorts as the replay's order
	Job     string `json:"job"`

	Position    Position `json:"position"`
	Stream      string   `json:"stream"`
	Incarnation int      `json:"incarnation"`
	ID          event.ID `json:"id"`

	Error    string    `json:"error"`
	Attempts int       `json:"attempts"` // how often it was sent; 0: it never was
	Time     time.Time `json:"time"`

	// Event is the line of a JSONL segment: it gives the event back exactly. An
	// event that the target rejected is as it was sent, upcast where it was.
	Event json.RawMessage `json:"event"`
	View  event.View      `json:"view"` // the same, to look at
}

// appendTo appends the event of the letter to a batch, under its ID.
func (d *DeadLetter) appendTo(b *event.Batch) error {
	if err := jsonl.ParseLine(d.Event, b); err != nil {
		return fmt.Errorf("read dead letter %s: %w", d.Key, err)
	}
	if got := b.ID(b.Len() - 1); got != d.ID {
		return fmt.Errorf("read dead letter %s: its event has the ID %s, not %s", d.Key, got, d.ID)
	}
	return nil
}

// Where dead letters lie among the files of a job.
const (
	deadLetterDir    = "dead-letters/"
	deadLetterSuffix = ".json"
)

// deadLetterKey is that of the event at p: fixed-width, so that it sorts as
// positions do.
func deadLetterKey(p Position) string {
	return fmt.Sprintf("%020d-%010d-%010d-%s", p.Ms, p.Stream, p.Incarnation, p.ID.Sortable())
}

// checkDeadLetterKey makes sure that deadLetterKey made the key.
func checkDeadLetterKey(key string) error {
	parts := strings.SplitN(key, "-", 4)
	if len(parts) == 4 {
		p, err := ParsePosition(strings.Join(parts, "/"))
		if err == nil && deadLetterKey(p) == key {
			return nil
		}
	}
	return remedy.Wrap(fmt.Errorf("%w: %q is not the key of one", ErrNoDeadLetter, key), listLetters)
}

// writeDeadLetter writes a letter; writing it again replaces it.
func writeDeadLetter(ctx context.Context, files objectstore.Store, d *DeadLetter) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write dead letter %s: %w", d.Key, err)
	}
	if _, err := files.Put(ctx, deadLetterDir+d.Key+deadLetterSuffix, bytes.NewReader(text), objectstore.Always); err != nil {
		return fmt.Errorf("write dead letter %s: %w", d.Key, err)
	}
	return nil
}

// readDeadLetter reads a letter. An error that wraps objectstore.ErrNotFound says
// that there is none of that key.
func readDeadLetter(ctx context.Context, files objectstore.Reader, key string) (d *DeadLetter, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read dead letter %s: %w", key, err)
		}
	}()
	body, _, err := files.Get(ctx, deadLetterDir+key+deadLetterSuffix, objectstore.ByteRange{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	d = &DeadLetter{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, err
	}
	if d.Version > DeadLetterVersion {
		return nil, remedy.Wrap(errors.New("it has version "+strconv.Itoa(d.Version)+", and this program reads up to "+strconv.Itoa(DeadLetterVersion)),
			"Use the version of reservoir that wrote it, or a newer one.")
	}
	return d, nil
}

// deleteDeadLetter removes a letter; one that is absent is no error.
func deleteDeadLetter(ctx context.Context, files objectstore.Store, key string) error {
	if err := files.Delete(ctx, deadLetterDir+key+deadLetterSuffix); err != nil {
		return fmt.Errorf("delete dead letter %s: %w", key, err)
	}
	return nil
}

// deadLetterKeys gives the keys of a job's letters after a key, in order, which
// is that of the replay. All of them are in memory, some hundred bytes each:
// stores may list in any order.
func deadLetterKeys(ctx context.Context, files objectstore.Reader, after string) ([]string, error) {
	var keys []string
	for info, err := range files.List(ctx, deadLetterDir, objectstore.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		key := strings.TrimSuffix(strings.TrimPrefix(info.Key, deadLetterDir), deadLetterSuffix)
		if err := checkDeadLetterKey(key); err != nil {
			continue // not ours
		}
		if key > after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// deadLetters gives a job's letters after a key, in order. Letters that are
// removed meanwhile are left out.
func deadLetters(ctx context.Context, files objectstore.Reader, after string) iter.Seq2[*DeadLetter, error] {
	return func(yield func(*DeadLetter, error) bool) {
		keys, err := deadLetterKeys(ctx, files, after)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, key := range keys {
			d, err := readDeadLetter(ctx, files, key)
			if errors.Is(err, objectstore.ErrNotFound) {
				continue
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// newDeadLetter makes the letter for an event.
func newDeadLetter(job string, o *Origin, e *event.Event, x *event.Extractor, cause error, attempts int, now time.Time) *DeadLetter {
	return &DeadLetter{
		Version: DeadLetterVersion, Key: deadLetterKey(o.Position), Job: job,
		Position: o.Position, Stream: o.Stream, Incarnation: o.Incarnation, ID: e.ID,
		Error: cause.Error(), Attempts: attempts, Time: now.UTC(),
		Event: bytes.TrimSuffix(jsonl.AppendLine(nil, e), []byte("\n")), View: x.View(o.Stream, e),
	}
}
