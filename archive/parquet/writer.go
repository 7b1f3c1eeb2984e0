package parquet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/klauspost/compress/zstd"
	pq "github.com/parquet-go/parquet-go"

	"github.com/reservoirhq/reservoir/event"
)

// Options configure a Writer. The zero value is usable.
type Options struct {
	// Stream and Incarnation are written into the file.
	Stream      string
	Incarnation int
	// Mapping says where the envelope's attributes are found.
	Mapping event.Mapping
	// RowGroupRows and RowGroupBytes (of names and values) bound a row group,
	// whichever is reached first; 50,000 rows and 32 MiB when zero. It also
	// ends at 16 MiB compressed, which is what a Writer holds in memory.
	RowGroupRows  int
	RowGroupBytes int
	// Observe, when set, gets every event with its envelope, once and in order.
	// Neither is valid after it returns.
	Observe func(*event.Event, *event.Envelope)
}

const (
	defaultRowGroupRows  = 50_000
	defaultRowGroupBytes = 32 << 20

	maxGroupBytes = 16 << 20 // compressed
)

// Values are handed to the columns in chunks of so many rows or bytes: small
// enough to stay in the processor's caches and to cut pages near their size.
const (
	chunkRows  = 128
	chunkBytes = 256 << 10
)

// pageBytes is the size of a page before compression.
const pageBytes = 256 << 10

// Writer writes events as a Parquet file. It streams: a row group goes out when
// it is complete. A Writer that returned an error is dead, and so is what it
// wrote. It is not safe for concurrent use.
type Writer struct {
	opts    Options
	mapping string // of opts, as JSON
	schema  *pq.Schema
	codec   *codec
	out     *pq.GenericWriter[any]
	columns []*pq.ColumnWriter
	err     error // of the first failure; every later call returns it

	extractor *event.Extractor
	event     event.Event
	envelope  event.Envelope
	plans     []shapePlan // by Shape.Index

	chunk  [numColumns][]pq.Value
	rows   int    // in the chunk
	bytes  int    // in the chunk
	owned  []byte // values of the chunk that lie in no batch
	group  int    // number of the row group, from 1
	groupN int    // rows in it, without the chunk
	groupB int    // bytes in it, without the chunk

	written int64 // bytes of the file before the row group
}

// NewWriter begins a file on w. A Writer can be dropped at any time: it holds
// memory only, which Reset recycles.
func NewWriter(w io.Writer, opts Options) *Writer {
	writer := &Writer{}
	writer.Reset(w, opts)
	return writer
}

// Reset begins another file on out: the Writer is as good as new, and keeps its
// memory. (All but the library's writer: reset, that one clears names that it
// still needs.)
func (w *Writer) Reset(out io.Writer, opts Options) {
	if opts.RowGroupRows <= 0 {
		opts.RowGroupRows = defaultRowGroupRows
	}
	if opts.RowGroupBytes <= 0 {
		opts.RowGroupBytes = defaultRowGroupBytes
	}
	mapping, err := json.Marshal(opts.Mapping)
	if err != nil {
		*w = Writer{err: fmt.Errorf("write mapping: %w", err)}
		return
	}
	if w.codec == nil {
		if w.err = w.build(); w.err != nil {
			return
		}
	}
	if w.extractor == nil || w.mapping != string(mapping) {
		w.extractor, w.mapping, w.plans = opts.Mapping.Extractor(), string(mapping), nil
	}
	for i := range w.chunk {
		w.chunk[i] = w.chunk[i][:0]
	}
	w.opts, w.err, w.owned = opts, nil, w.owned[:0]
	w.group++ // of another file: its dictionaries are empty
	w.rows, w.bytes, w.groupN, w.groupB, w.written = 0, 0, 0, 0, 0
	w.out = pq.NewGenericWriter[any](out,
		w.schema,
		pq.CreatedBy("reservoir", strconv.Itoa(Version), ""),
		pq.Compression(w.codec),
		pq.PageBufferSize(pageBytes),
		pq.DataPageStatistics(false), // they are in the page index
		pq.ColumnIndexSizeLimit(func([]string) int { return 2 * maxBound }),
		pq.DictionaryMaxBytes(1<<20),
		pq.BloomFilters(
			pq.SplitBlockFilter(bloomBits, columnNames[colEventID]),
			pq.SplitBlockFilter(bloomBits, columnNames[colAggregateID]),
		),
		pq.KeyValueMetadata(keyFormat, formatName),
		pq.KeyValueMetadata(keyVersion, strconv.Itoa(Version)),
		pq.KeyValueMetadata(keyStream, url.PathEscape(opts.Stream)),
		pq.KeyValueMetadata(keyIncarnation, strconv.Itoa(opts.Incarnation)),
		pq.KeyValueMetadata(keyMapping, w.mapping),
	)
	w.columns = w.out.ColumnWriters()
}

// build makes what does not depend on options.
func (w *Writer) build() (err error) {
	// The fastest level finds short matches in payloads, and many: the next one makes
	// them smaller, and faster to read.
	payload, err := newCodec(zstd.SpeedDefault)
	if err != nil {
		return err
	}
	w.schema = newSchema(payload)
	for i := range w.chunk {
		w.chunk[i] = make([]pq.Value, 0, chunkRows)
	}
	w.codec, err = newCodec(zstd.SpeedFastest)
	return err
}

// bloomBits is the bits per distinct value of the bloom filters: one false
// positive in a hundred.
const bloomBits = 10

// Bytes returns how many bytes the file has so far, with an estimate of the
// row group that is not written yet.
func (w *Writer) Bytes() int64 {
	if w.out == nil {
		return 0
	}
	return w.out.Size()
}

// Write adds events [from, to) of b. It keeps nothing of b.
func (w *Writer) Write(b *event.Batch, from, to int) error {
	if w.err != nil {
		return w.err
	}
	for i := from; i < to; i++ {
		b.Event(i, &w.event)
		if err := w.add(); err != nil {
			return w.fail(err)
		}
	}
	return w.fail(w.flushChunk())
}

// Close completes the file. It does not close the underlying writer. After an
// error of Write it only returns that error.
func (w *Writer) Close() error {
	if w.err == nil {
		w.err = w.out.Close()
		if w.err != nil {
			w.err = fmt.Errorf("finish parquet file: %w", w.err)
		}
	}
	err := w.err
	if err == nil {
		w.err = errors.New("parquet writer is closed")
	}
	return err
}

func (w *Writer) fail(err error) error {
	w.err = err
	return err
}

// add puts w.event into the chunk.
func (w *Writer) add() error {
	shape := w.extractor.Extract(&w.event, &w.envelope)
	if w.opts.Observe != nil {
		w.opts.Observe(&w.event, &w.envelope)
	}
	w.put(colIDMs, pq.Int64Value(int64(w.event.ID.Ms)))
	w.put(colIDSeq, pq.Int64Value(int64(w.event.ID.Seq)))
	o := w.addVersion(shape) | w.addTime(shape)
	for a, column := range columnOf {
		switch column {
		case colAggregateVersion, colOccurredAt:
			continue
		}
		o |= w.addText(shape, event.Attribute(a), column)
	}
	v, err := w.plan(shape).variant(o)
	if err != nil {
		return err
	}
	w.put(colLayout, v.layout)
	w.addRest(v)
	w.rows++
	w.bytes += w.event.Size()
	if v.group != w.group {
		v.group = w.group
		w.bytes += v.size
	}
	if w.rows >= min(chunkRows, w.opts.RowGroupRows) || w.bytes >= chunkBytes {
		return w.flushChunk()
	}
	return nil
}

func (w *Writer) put(column int, v pq.Value) {
	w.chunk[column] = append(w.chunk[column], v)
}

// putSome puts a value that is not null into an optional column.
func (w *Writer) putSome(column int, v pq.Value) {
	v.SetDefinitionLevel(1)
	w.chunk[column] = append(w.chunk[column], v)
}

// maxPlanned is the number of fields of the longest shape whose plan is kept.
const maxPlanned = 256

func (w *Writer) plan(shape *event.Shape) *shapePlan {
	if len(shape.Names) > maxPlanned {
		return &shapePlan{shape: shape}
	}
	for shape.Index >= len(w.plans) {
		w.plans = append(w.plans, shapePlan{})
	}
	p := &w.plans[shape.Index]
	if p.shape != shape {
		*p = shapePlan{shape: shape}
	}
	return p
}

// addText puts a text attribute into its column, and says whether the field it
// comes from is thereby stored.
func (w *Writer) addText(shape *event.Shape, a event.Attribute, column int) outcome {
	value, ok := w.envelope.Get(a)
	if !ok || !storable(value, column) {
		w.put(column, pq.Value{})
		return 0
	}
	var o outcome
	source := shape.Source[a]
	switch {
	case source >= 0 && same(value, w.event.Fields[source].Value):
		o, value = holds(a), w.event.Fields[source].Value
	case shape.Embedded >= 0 && a == event.Payload:
		o = outcomeSplice
	case shape.Embedded >= 0:
		value = w.own(value)
	}
	w.putSome(column, pq.ByteArrayValue(value))
	return o
}

// storable reports whether a text column may hold the value. It depends on
// nothing else: a reader relies on that when it skips rows.
func storable(value []byte, column int) bool {
	return (column == colPayload || len(value) <= event.MaxText) && utf8.Valid(value)
}

// own copies a value that the extractor may overwrite before the chunk is
// written.
func (w *Writer) own(value []byte) []byte {
	at := len(w.owned)
	w.owned = append(w.owned, value...)
	return w.owned[at:]
}

func (w *Writer) addVersion(shape *event.Shape) outcome {
	version, ok := w.envelope.AggregateVersion()
	if !ok {
		w.put(colAggregateVersion, pq.Value{})
		return 0
	}
	w.putSome(colAggregateVersion, pq.Int64Value(version))
	if source := shape.Source[event.Version]; source >= 0 {
		if _, canonical := event.ParseCanonicalInt(w.event.Fields[source].Value); canonical {
			return holds(event.Version)
		}
	}
	return 0
}

func (w *Writer) addTime(shape *event.Shape) outcome {
	text, has := w.envelope.Get(event.OccurredAt)
	var (
		micros int64
		form   event.TimeForm
		ok     bool
	)
	if has {
		micros, form, ok = event.ParseTime(text)
	}
	if !ok {
		micros, ok = w.envelope.Time(w.event.ID)
	}
	if !ok {
		w.put(colOccurredAt, pq.Value{})
		return 0
	}
	w.putSome(colOccurredAt, pq.Int64Value(micros))
	if form == event.NoTimeForm || shape.Source[event.OccurredAt] < 0 {
		return 0
	}
	return holds(event.OccurredAt) | outcome(form)<<outcomeTimeShift
}

// addRest puts the values that no column holds into rest.
func (w *Writer) addRest(v *variant) {
	if len(v.rest) == 0 {
		w.put(colRest, pq.Value{})
		return
	}
	repetition := 0
	add := func(value []byte) {
		w.put(colRest, pq.ByteArrayValue(value).Level(repetition, 1, colRest))
		repetition = 1
	}
	for _, field := range v.rest {
		value := w.event.Fields[field].Value
		if field != v.spliced {
			add(value)
			continue
		}
		prefix, suffix, _ := w.envelope.Splice()
		add(prefix)
		add(suffix)
	}
}

// flushChunk hands the chunk to the columns, and ends the row group when it is
// full.
func (w *Writer) flushChunk() error {
	if w.rows == 0 {
		return nil
	}
	for i, column := range w.columns {
		if _, err := column.WriteRowValues(w.chunk[i]); err != nil {
			return fmt.Errorf("write parquet column %s: %w", columnNames[i], err)
		}
		w.chunk[i] = w.chunk[i][:0]
	}
	w.groupN += w.rows
	w.groupB += w.bytes
	w.rows, w.bytes, w.owned = 0, 0, w.owned[:0]
	if w.groupN < w.opts.RowGroupRows && w.groupB < w.opts.RowGroupBytes && w.out.Size()-w.written < maxGroupBytes {
		return nil
	}
	w.group, w.groupN, w.groupB = w.group+1, 0, 0
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("write parquet row group: %w", err)
	}
	w.written = w.out.Size()
	return nil
}

// same reports whether two slices hold the same bytes; mostly they are one.
func same(a, b []byte) bool {
	return len(a) == len(b) && (unsafe.SliceData(a) == unsafe.SliceData(b) || bytes.Equal(a, b))
}
