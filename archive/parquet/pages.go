package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// viewer gives a look at n bytes of the file, valid until the next look. What
// lies before ahead will be wanted soon.
type viewer interface {
	view(off int64, n int, ahead int64) ([]byte, error)
}

// pageReader reads the pages of a column chunk one after the other, into memory
// that it uses again. (The library's pages cost a copy of what is compressed,
// another one of every value, and levels that say nothing.)
type pageReader struct {
	column int
	file   viewer
	off    int64 // where the next page begins
	end    int64 // of the column chunk
	ahead  int64 // end of what is wanted of it, as far as is known

	dictionary values // once its page was read
	fresh      bool   // the dictionary is new, to whoever remembers its entries
	page       page   // the last one

	raw     []byte // the page's values, decompressed
	lengths []int32
}

// page is a data page of version 2, decoded.
type page struct {
	rows, values, nulls int

	definition []byte  // levels; empty where no value is null
	repetition []byte  // levels; empty where the column is not repeated
	numbers    []int64 // of an integer column
	plain      values  // of a byte array column, if there is no dictionary
	indexes    []int32 // in the dictionary
	indexed    bool
}

// values are byte arrays in a row, each one gap bytes after the one before:
// value i begins at offsets[i].
type values struct {
	data    []byte
	offsets []uint32
	gap     uint32
}

func (v *values) len() int { return len(v.offsets) - 1 }

func (v *values) value(i int) []byte { return v.data[v.offsets[i] : v.offsets[i+1]-v.gap] }

// open begins with the pages at from.
func (r *pageReader) open(file viewer, column int, from, end int64) {
	r.column, r.file, r.off, r.end, r.ahead = column, file, from, end, end
	r.fresh = false
}

// jump goes on to the data page at to, not without the dictionary, which lies
// before the first one.
func (r *pageReader) jump(to, first int64) error {
	if r.off < first {
		ahead := r.ahead
		r.ahead = first
		header, body, err := r.load()
		if err == nil {
			err = r.decodeDictionary(&header, body)
		}
		if err != nil {
			return err
		}
		r.ahead = ahead
	}
	r.off = to
	return nil
}

// read reads the next data page, and the dictionary before it; io.EOF after the
// last one.
func (r *pageReader) read() error {
	for r.off < r.end {
		header, body, err := r.load()
		if err != nil {
			return err
		}
		if header.DataPageHeaderV2.Valid {
			return r.decode(&header, body)
		}
		if err := r.decodeDictionary(&header, body); err != nil {
			return err
		}
	}
	return io.EOF
}

// headerBytes is more than most page headers have.
const headerBytes = 128

// load reads the next page as it is stored, and checks its sum.
func (r *pageReader) load() (header format.PageHeader, body []byte, err error) {
	var length int
	for n := int64(headerBytes); ; n *= 16 {
		n = min(n, r.end-r.off)
		head, err := r.file.view(r.off, int(n), r.ahead)
		if err != nil {
			return header, nil, err
		}
		in := new(thrift.CompactProtocol).NewReaderFromBytes(head)
		header = format.PageHeader{}
		if err = thrift.NewDecoder(in).Decode(&header); err == nil {
			length = in.BytesRead()
			break
		}
		if n == r.end-r.off || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return header, nil, fmt.Errorf("%w: page header at %d: %w", ErrInvalid, r.off, err)
		}
	}
	size := int64(header.CompressedPageSize)
	if size < 0 || header.UncompressedPageSize < 0 || r.off+int64(length)+size > r.end {
		return header, nil, fmt.Errorf("%w: page of %d bytes at %d", ErrInvalid, size, r.off)
	}
	if body, err = r.file.view(r.off+int64(length), int(size), r.ahead); err != nil {
		return header, nil, err
	}
	if sum := crc32.ChecksumIEEE(body); header.CRC != 0 && sum != uint32(header.CRC) {
		return header, nil, fmt.Errorf("%w: page at %d has checksum %08x, want %08x", ErrInvalid, r.off, sum, uint32(header.CRC))
	}
	r.off += int64(length) + size
	return header, body, nil
}

// levels have one bit in all columns.
func levels(dst, src []byte, n int) ([]byte, error) {
	dst, err := (&rle.Encoding{BitWidth: 1}).DecodeLevels(dst, src)
	if err == nil && len(dst) < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %d levels of %d: %w", ErrInvalid, len(dst), n, err)
	}
	return dst[:n], nil
}

func (r *pageReader) decode(header *format.PageHeader, body []byte) (err error) {
	h := &header.DataPageHeaderV2.V
	p := &r.page
	p.rows, p.values, p.nulls = int(h.NumRows), int(h.NumValues), int(h.NumNulls)
	repetition, definition := int(h.RepetitionLevelsByteLength), int(h.DefinitionLevelsByteLength)
	p.repetition, p.definition = p.repetition[:0], p.definition[:0]
	if repetition > 0 {
		if p.repetition, err = levels(p.repetition, body[:repetition], p.values); err != nil {
			return err
		}
	}
	if p.nulls > 0 || repetition > 0 {
		if p.definition, err = levels(p.definition, body[repetition:repetition+definition], p.values); err != nil {
			return err
		}
	}
	if err := p.check(); err != nil {
		return err
	}
	if body = body[repetition+definition:]; !h.IsCompressed.Valid || h.IsCompressed.V {
		if body, err = r.decompress(body, int(header.UncompressedPageSize)-repetition-definition); err != nil {
			return err
		}
	}
	return r.decodeValues(h.Encoding, body)
}

// check makes sure that what the header counts is what the levels say.
func (p *page) check() error {
	rows, nulls := p.values, bytes.Count(p.definition, []byte{0})
	if len(p.repetition) > 0 {
		rows = bytes.Count(p.repetition, []byte{0})
		if p.repetition[0] != 0 {
			return fmt.Errorf("%w: page begins within a row", ErrInvalid)
		}
	}
	if rows != p.rows || nulls != p.nulls || rows <= 0 || nulls > p.values {
		return fmt.Errorf("%w: page of %d rows with %d nulls has %d with %d", ErrInvalid, p.rows, p.nulls, rows, nulls)
	}
	return nil
}

func (r *pageReader) decompress(body []byte, size int) ([]byte, error) {
	const slack = 64 // with some room behind, the codec copies faster
	if cap(r.raw) < size+slack && size <= maxGroupRead {
		r.raw = make([]byte, size+size/8+slack)
	}
	raw, err := pq.LookupCompressionCodec(format.Zstd).Decode(r.raw[:0], body)
	if err == nil && len(raw) != size {
		err = fmt.Errorf("%d bytes, want %d", len(raw), size)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: decompress page: %w", ErrInvalid, err)
	}
	r.raw = raw
	return raw, nil
}

// decodeValues decodes the values of a page.
func (r *pageReader) decodeValues(encoding format.Encoding, body []byte) (err error) {
	p, want, have := &r.page, r.page.values-r.page.nulls, 0
	p.indexed = false
	switch {
	case want == 0:
		p.numbers, p.plain.offsets = p.numbers[:0], append(p.plain.offsets[:0], 0)
		return nil
	case encoding == format.DeltaBinaryPacked && isNumber(r.column):
		p.numbers, err = pq.DeltaBinaryPacked.DecodeInt64(p.numbers[:0], body)
		have = len(p.numbers)
	case encoding == format.RLEDictionary && !isNumber(r.column):
		p.indexed = true
		p.indexes, err = pq.RLEDictionary.DecodeInt32(p.indexes[:0], body)
		if have = min(len(p.indexes), want); have == want {
			p.indexes = p.indexes[:want] // without the padding
		}
	case encoding == format.DeltaLengthByteArray && !isNumber(r.column):
		err = r.decodeDeltaLength(&p.plain, body)
		have = p.plain.len()
	case encoding == format.Plain && !isNumber(r.column):
		err = p.plain.decodePlain(body, want)
		have = p.plain.len()
	default:
		return fmt.Errorf("%w: page encoded by %s", ErrInvalid, encoding)
	}
	if err == nil && have != want {
		err = fmt.Errorf("%d values, want %d", have, want)
	}
	if err != nil {
		return fmt.Errorf("%w: decode page: %w", ErrInvalid, err)
	}
	return nil
}

func isNumber(column int) bool {
	switch column {
	case colIDMs, colIDSeq, colAggregateVersion, colOccurredAt:
		return true
	}
	return false
}

func (r *pageReader) decodeDictionary(header *format.PageHeader, body []byte) error {
	if !header.DictionaryPageHeader.Valid {
		return fmt.Errorf("%w: page of type %s", ErrInvalid, header.Type)
	}
	raw, err := r.decompress(body, int(header.UncompressedPageSize))
	if err != nil {
		return err
	}
	r.fresh = true
	r.dictionary.data = append(r.dictionary.data[:0], raw...)
	if err := r.dictionary.decodePlain(r.dictionary.data, int(header.DictionaryPageHeader.V.NumValues)); err != nil {
		return fmt.Errorf("%w: decode dictionary: %w", ErrInvalid, err)
	}
	return nil
}

var errTooShort = errors.New("it ends within a value")

// decodePlain finds n values, each after its length. It copies nothing.
func (v *values) decodePlain(data []byte, n int) error {
	const prefix = 4
	v.data, v.gap, v.offsets = data, prefix, v.offsets[:0]
	at := 0
	for range n {
		if len(data)-at < prefix {
			return errTooShort
		}
		length := int(binary.LittleEndian.Uint32(data[at:]))
		at += prefix
		v.offsets = append(v.offsets, uint32(at))
		if length > len(data)-at {
			return errTooShort
		}
		at += length
	}
	v.offsets = append(v.offsets, uint32(at+prefix))
	return nil
}

// decodeDeltaLength finds values that lie one after the other behind all of
// their lengths. It copies nothing.
func (r *pageReader) decodeDeltaLength(v *values, body []byte) (err error) {
	if r.lengths, err = pq.DeltaBinaryPacked.DecodeInt32(r.lengths[:0], body); err != nil {
		return err //nolint:wrapcheck // the caller says what was decoded
	}
	v.offsets, v.gap = append(v.offsets[:0], 0), 0
	end := 0
	for _, length := range r.lengths {
		if length < 0 || end > len(body) {
			return errTooShort
		}
		end += int(length)
		v.offsets = append(v.offsets, uint32(end))
	}
	if end > len(body) {
		return errTooShort
	}
	v.data = body[len(body)-end:]
	return nil
}
