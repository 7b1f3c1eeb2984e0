package chstore

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/reservoirhq/reservoir/event"
)

// blockTable is the name under which a block travels with its statement.
const blockTable = "_reservoir_block"

// occurredMicros is the column of a block that holds occurred_at as a number: the
// client's own times end in 2262.
const occurredMicros = "_occurred_us"

// Block is a run of events in columns, ready to be sent along with a statement as the
// relation events. It is built, used and Reset by one goroutine.
type Block struct {
	table   *ext.Table
	columns []column.Interface // by place in EventColumns; nil: left out
	list    []string           // of the relation that is made of the table
	rows    int
	bytes   int

	event event.Event
	env   event.Envelope
	// What AppendRow is given are pointers to these: that costs no allocation.
	stream, text, empty []byte
	number              uint64
	incarnation         uint32
	version, micros     int64
}

// NewBlock returns an empty Block for the given SELECTs (and conditions): columns that
// none of them can mean are left out, which saves their sending. Without any, the Block
// has all columns.
func NewBlock(selections ...string) (*Block, error) {
	table, err := ext.NewTable(blockTable)
	if err != nil {
		return nil, fmt.Errorf("make a block of events: %w", err)
	}
	b := &Block{table: table, empty: []byte{}}
	for _, c := range EventColumns() {
		if !mentioned(c.Name, selections) {
			b.columns = append(b.columns, nil)
			continue
		}
		name, expression := c.Name, c.Name
		if name == "occurred_at" {
			c.Type, name, expression = "Int64", occurredMicros, "fromUnixTimestamp64Micro("+occurredMicros+", 'UTC') AS occurred_at"
		}
		if err := table.Block().AddColumn(name, column.Type(c.Type)); err != nil {
			return nil, fmt.Errorf("make a block of events: %w", err)
		}
		added := table.Block().Columns
		b.columns, b.list = append(b.columns, added[len(added)-1]), append(b.list, expression)
	}
	return b, nil
}

// mentioned reports whether a text may mean a column: it has the column's name
// anywhere, or a * or COLUMNS. The stream is always there: a block needs a column.
func mentioned(name string, texts []string) bool {
	if len(texts) == 0 || name == "stream" {
		return true
	}
	return slices.ContainsFunc(texts, func(text string) bool {
		return strings.Contains(text, name) || strings.Contains(text, "*") || strings.Contains(strings.ToUpper(text), "COLUMNS")
	})
}

// Len returns the number of events.
func (b *Block) Len() int { return b.rows }

// Bytes returns about how much memory the events take.
func (b *Block) Bytes() int { return b.bytes }

// Reset empties the block and keeps its memory.
func (b *Block) Reset() {
	for _, c := range b.table.Block().Columns {
		c.Reset()
	}
	b.rows, b.bytes = 0, 0
}

// Append adds the events of a batch. x finds their envelopes, as it did for the
// archive. After an error the block must be Reset.
func (b *Block) Append(stream string, incarnation int, batch *event.Batch, x *event.Extractor) error {
	if incarnation < 0 || int64(incarnation) > math.MaxUint32 {
		return fmt.Errorf("add events to a block: incarnation %d is out of range", incarnation)
	}
	b.stream, b.incarnation = append(b.stream[:0], stream...), uint32(incarnation)
	for i := range batch.Len() {
		batch.Event(i, &b.event)
		x.Extract(&b.event, &b.env)
		if err := b.append(b.event.ID, &b.env); err != nil {
			return err
		}
	}
	return nil
}

// AppendEvent adds one event with the envelope that it is to have, such as one that an
// upcaster has changed.
func (b *Block) AppendEvent(stream string, incarnation int, id event.ID, env *event.Envelope) error {
	if incarnation < 0 || int64(incarnation) > math.MaxUint32 {
		return fmt.Errorf("add an event to a block: incarnation %d is out of range", incarnation)
	}
	b.stream, b.incarnation = append(b.stream[:0], stream...), uint32(incarnation)
	return b.append(id, env)
}

// rowOverhead is about what the fixed columns and the offsets of a row take.
const rowOverhead = 64 + 16*10

func (b *Block) append(id event.ID, env *event.Envelope) error {
	b.rows, b.bytes = b.rows+1, b.bytes+rowOverhead+len(b.stream)
	at := 0
	add := func(v any) error {
		c := b.columns[at]
		at++
		if c == nil {
			return nil
		}
		return c.AppendRow(v)
	}
	text := func(a event.Attribute) error {
		if b.columns[at] == nil {
			return add(nil)
		}
		b.text = b.value(env, a)
		b.bytes += len(b.text)
		return add(&b.text)
	}
	b.number = id.Ms
	if err := firstError(add(&b.stream), add(&b.incarnation), add(&b.number)); err != nil {
		return fmt.Errorf("add an event to a block: %w", err)
	}
	b.number = id.Seq
	if err := firstError(add(&b.number), text(event.EventID), text(event.Type), text(event.Tenant),
		text(event.AggregateType), text(event.AggregateID), b.appendVersion(env, add), b.appendTime(id, env, add), text(event.CorrelationID),
		text(event.CausationID), text(event.SchemaVersion), text(event.Payload)); err != nil {
		return fmt.Errorf("add an event to a block: %w", err)
	}
	return nil
}

func (b *Block) appendVersion(env *event.Envelope, add func(any) error) error {
	version, ok := env.AggregateVersion()
	if !ok {
		return add(nil)
	}
	b.version = version
	return add(&b.version)
}

// value returns a text attribute as a column of an archived segment holds it.
func (b *Block) value(env *event.Envelope, a event.Attribute) []byte {
	if value, ok := env.Text(a); ok {
		return value
	}
	return b.empty
}

func (b *Block) appendTime(id event.ID, env *event.Envelope, add func(any) error) error {
	micros, ok := env.Time(id)
	if !ok {
		micros = 0
	}
	b.micros = micros
	return add(&b.micros)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
