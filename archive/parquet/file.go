package parquet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/reservoirhq/reservoir/event"
)

// ErrInvalid is wrapped by errors that say that a file is damaged, or is no
// segment at all.
var ErrInvalid = errors.New("invalid parquet segment")

// NewerVersionError says that a file was written by a newer version of the
// program, in a format that this one does not know.
type NewerVersionError struct{ Version int }

// Error implements error.
func (e *NewerVersionError) Error() string {
	return fmt.Sprintf("parquet segment has format version %d, this program knows versions up to %d: upgrade it", e.Version, Version)
}

// Metadata is what a file says about itself.
type Metadata struct {
	Version     int
	Stream      string
	Incarnation int
	Mapping     event.Mapping // by which the envelope columns were filled
	mapping     string
}

// RowGroup describes a part of a file that is read as a whole.
type RowGroup struct {
	Rows         int64
	Bytes        int64 // compressed
	MinMs, MaxMs uint64
}

// File is a segment opened for reading. It is safe for concurrent use if the
// io.ReaderAt is; each Reader belongs to one goroutine.
type File struct {
	source   *countingReaderAt
	file     *pq.File
	metadata Metadata
	groups   []RowGroup
	tail     window // the end of the file: footer, indexes, maybe more
}

// tailBytes is read of a file's end at once: mostly more than the footer.
const tailBytes = 128 << 10

// Open reads the footer of a file of that size. An error wraps ErrInvalid, is
// a *NewerVersionError, or is that of r.
func Open(r io.ReaderAt, size int64) (f *File, err error) {
	defer recoverInvalid(&err)
	f = &File{source: &countingReaderAt{r: r}}
	if f.tail.file = f.source; size < 12 {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrInvalid, size)
	}
	if err := f.readTail(size); err != nil {
		return nil, err
	}
	f.file, err = pq.OpenFile(&f.tail, size, pq.SkipMagicBytes(true), pq.SkipPageIndex(true),
		pq.SkipBloomFilters(true), pq.ReadBufferSize(readBuffer))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if f.metadata, err = readMetadata(f.file); err != nil {
		return nil, err
	}
	if err := checkSchema(f.file.Schema()); err != nil {
		return nil, err
	}
	if err := f.describeGroups(); err != nil {
		return nil, err
	}
	return f, nil
}

// describeGroups fills f.groups. The footer has no checksum: what contradicts
// itself is refused here.
func (f *File) describeGroups() error {
	var rows int64
	for i := range f.file.Metadata().RowGroups {
		g := &f.file.Metadata().RowGroups[i]
		group := RowGroup{Rows: g.NumRows}
		for column := range numColumns {
			meta := &f.columnChunk(i, column).MetaData
			group.Bytes += meta.TotalCompressedSize
			from, to := f.extent(i, column)
			if meta.Codec != format.Zstd || from < 0 || to < from || to > f.file.Size() {
				return fmt.Errorf("%w: row group %d has column %s at %d to %d, compressed by %s",
					ErrInvalid, i, columnNames[column], from, to, meta.Codec)
			}
			if column != colRest && meta.NumValues != g.NumRows {
				return fmt.Errorf("%w: row group %d of %d rows has %d in column %s",
					ErrInvalid, i, g.NumRows, meta.NumValues, columnNames[column])
			}
		}
		lower, upper, ok := f.bounds(i, colIDMs)
		if group.MinMs, group.MaxMs = lower.Uint64(), upper.Uint64(); !ok || group.MaxMs < group.MinMs ||
			i > 0 && group.MinMs < f.groups[i-1].MaxMs {
			return fmt.Errorf("%w: row group %d has IDs from %d to %d", ErrInvalid, i, group.MinMs, group.MaxMs)
		}
		f.groups = append(f.groups, group)
		rows += g.NumRows
	}
	if rows != f.NumRows() {
		return fmt.Errorf("%w: %d rows in row groups, %d in all", ErrInvalid, rows, f.NumRows())
	}
	return nil
}

// readBuffer is the size in bytes of the buffer before each column. The data
// is in memory already.
const readBuffer = 4 << 10

// readTail makes sure that the whole footer is in memory, with one read or two.
func (f *File) readTail(size int64) error {
	if err := f.tail.load(max(0, size-tailBytes), size); err != nil {
		return fmt.Errorf("read footer: %w", err)
	}
	end := f.tail.data[len(f.tail.data)-8:]
	if string(end[4:]) != "PAR1" {
		return fmt.Errorf("%w: it does not end as a parquet file does", ErrInvalid)
	}
	footer := int64(end[0]) | int64(end[1])<<8 | int64(end[2])<<16 | int64(end[3])<<24
	if footer+8 > size {
		return fmt.Errorf("%w: footer of %d bytes in a file of %d", ErrInvalid, footer, size)
	}
	if footer+8 <= int64(len(f.tail.data)) {
		return nil
	}
	if err := f.tail.load(size-footer-8, size); err != nil {
		return fmt.Errorf("read footer: %w", err)
	}
	return nil
}

func readMetadata(file *pq.File) (Metadata, error) {
	lookup := func(key string) string {
		value, _ := file.Lookup(key)
		return value
	}
	if name := lookup(keyFormat); name != formatName {
		return Metadata{}, fmt.Errorf("%w: %s is %q, want %q", ErrInvalid, keyFormat, name, formatName)
	}
	version, err := strconv.Atoi(lookup(keyVersion))
	if err != nil || version < 1 {
		return Metadata{}, fmt.Errorf("%w: %s is %q, want a number from 1", ErrInvalid, keyVersion, lookup(keyVersion))
	}
	if version > Version {
		return Metadata{}, &NewerVersionError{version}
	}
	m := Metadata{Version: version, mapping: lookup(keyMapping)}
	if m.Incarnation, err = strconv.Atoi(lookup(keyIncarnation)); err != nil {
		return Metadata{}, fmt.Errorf("%w: %s: %w", ErrInvalid, keyIncarnation, err)
	}
	if m.Stream, err = url.PathUnescape(lookup(keyStream)); err != nil {
		return Metadata{}, fmt.Errorf("%w: %s: %w", ErrInvalid, keyStream, err)
	}
	if err := json.Unmarshal([]byte(m.mapping), &m.Mapping); err != nil {
		return Metadata{}, fmt.Errorf("%w: %s: %w", ErrInvalid, keyMapping, err)
	}
	return m, nil
}

// checkSchema refuses a file whose columns are not those of its version.
func checkSchema(schema *pq.Schema) error {
	want := newSchema(nil).Columns()
	have := schema.Columns()
	if len(have) != len(want) {
		return fmt.Errorf("%w: %d columns, want %d", ErrInvalid, len(have), len(want))
	}
	wantSchema := newSchema(nil)
	for i, path := range want {
		w, _ := wantSchema.Lookup(path...)
		h, ok := schema.Lookup(path...)
		if !ok || h.ColumnIndex != i || h.Node.Type().Kind() != w.Node.Type().Kind() ||
			h.MaxDefinitionLevel != w.MaxDefinitionLevel || h.MaxRepetitionLevel != w.MaxRepetitionLevel {
			return fmt.Errorf("%w: column %d is not %q as it should be", ErrInvalid, i, path)
		}
	}
	return nil
}

// recoverInvalid turns a panic into an error: damaged files make the library
// and the code that follows its offsets index out of range.
func recoverInvalid(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", ErrInvalid, r)
	}
}

// Metadata returns what the file says about itself.
func (f *File) Metadata() Metadata { return f.metadata }

// NumRows returns the number of events.
func (f *File) NumRows() int64 { return f.file.NumRows() }

// RowGroups describes the row groups, in ID order. The slice is the File's.
func (f *File) RowGroups() []RowGroup { return f.groups }

// Traffic returns what was read of the file so far, by all its Readers.
func (f *File) Traffic() Traffic { return f.source.traffic() }

func (f *File) columnChunk(group, column int) *format.ColumnChunk {
	return &f.file.Metadata().RowGroups[group].Columns[column]
}

func (f *File) chunk(group, column int) *pq.FileColumnChunk {
	return f.file.RowGroups()[group].ColumnChunks()[column].(*pq.FileColumnChunk)
}

// bounds returns the statistics of a column chunk; !ok without any.
func (f *File) bounds(group, column int) (lower, upper pq.Value, ok bool) {
	return f.chunk(group, column).Bounds()
}
