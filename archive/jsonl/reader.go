package jsonl

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/reservoirhq/reservoir/event"
)

// Reader reads the events of a segment, or of any JSON lines, compressed with
// zstd or not. It holds one frame in memory, or for files without small frames
// the longest line.
type Reader struct {
	src    source
	parser parser
	carry  []byte // the beginning of a line that the last piece of text cut
	inLine bool   // the text so far ends within a line
	begun  bool   // the first line was seen
	done   bool   // the text has ended
	line   int64
	at     []int64 // the lines of the events of the last Read
	events uint64
	err    error // for the next Read, when events came before it

	header    Header
	hasHeader bool
	section   struct { // from a header to its trailer
		open   bool
		before uint64 // events before it
	}
}

// NewReader returns a Reader of r. It finds out by itself what r is, and reads
// the header if there is one: of a newer version it returns ErrNewerVersion.
// A Reader holds memory only and needs no closing.
func NewReader(r io.Reader) (*Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read JSONL: %w", err)
	}
	reader := &Reader{src: &textSource{in}}
	if !isZstd(head) {
		return reader, nil
	}
	src, err := newZstdSource(in, reader.meta)
	if err != nil {
		return nil, err
	}
	reader.src = src
	if err := src.seek(); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read JSONL: %w", err)
	}
	return reader, nil
}

func isZstd(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	magic := binary.LittleEndian.Uint32(head)
	return magic == zstdMagic || magic&^15 == skippableMagic
}

// Header returns the header of the file, of the first one if several were
// concatenated; false if it has none, and then nothing proves that it is whole.
func (r *Reader) Header() (Header, bool) { return r.header, r.hasHeader }

// meta takes a header or trailer, when all text before it was read.
func (r *Reader) meta(m meta) error {
	if m.Format == "" {
		return nil
	}
	if r.inLine {
		return errors.New("a line goes beyond the end of its file")
	}
	if m.Format == formatTrailer {
		return r.endSection(m.Events)
	}
	if r.section.open {
		return r.cutOff()
	}
	r.section.open, r.section.before = true, r.events
	if r.hasHeader {
		return nil
	}
	r.hasHeader = true
	var err error
	r.header, err = m.header()
	return err
}

func (r *Reader) endSection(events uint64) error {
	if !r.section.open {
		return errors.New("the file has an end but no beginning: something was cut off")
	}
	r.section.open = false
	if have := r.events - r.section.before; have != events {
		return fmt.Errorf("the file has %d events, by its own account there should be %d", have, events)
	}
	return nil
}

func (r *Reader) cutOff() error {
	return fmt.Errorf("the file was cut off after %d events: %w", r.events-r.section.before, io.ErrUnexpectedEOF)
}

// Read resets b and fills it with the next events: those of one frame, or of
// some 256 KiB of text. It returns io.EOF at the clean end only: a file with a
// header must have its trailer. What is wrong with a line comes as a
// *SyntaxError, after the events before it. After an error every call returns
// the same error.
func (r *Reader) Read(b *event.Batch) error {
	b.Reset()
	r.at = r.at[:0]
	for r.err == nil && b.Len() == 0 {
		r.err = r.read(b)
	}
	if b.Len() > 0 {
		return nil
	}
	return r.err
}

// read adds the events of the next piece of text.
func (r *Reader) read(b *event.Batch) error {
	if r.done {
		return io.EOF
	}
	end, err := r.text(b)
	if err == io.EOF { //nolint:errorlint // wrapped, it would not be the clean end
		if r.section.open {
			return fmt.Errorf("read JSONL: %w", r.cutOff())
		}
		r.done, end = true, len(b.Buf) // the last line may lack its line feed
	} else if err != nil {
		return fmt.Errorf("read JSONL: %w", err)
	}
	r.carry = append(r.carry[:0], b.Buf[end:]...)
	b.Buf = b.Buf[:end]
	return r.lines(b)
}

// text puts the next piece of text into b.Buf, and returns where its last whole
// line ends. An error leaves what is there of a line.
func (r *Reader) text(b *event.Batch) (end int, err error) {
	b.Buf = append(b.Buf[:0], r.carry...)
	if cap(r.carry) > 4*chunkBytes {
		r.carry = nil
	}
	for {
		before := len(b.Buf)
		r.inLine = before > 0
		if b.Buf, err = r.src.next(b.Buf); err != nil {
			return 0, err //nolint:wrapcheck // read says what was read
		}
		if at := bytes.LastIndexByte(b.Buf[before:], '\n'); at >= 0 {
			return before + at + 1, nil
		}
		if len(b.Buf) > MaxLineBytes {
			return 0, fmt.Errorf("line %d is longer than %d bytes", r.line+1, MaxLineBytes)
		}
	}
}

// lines adds the events of the lines in b.Buf.
func (r *Reader) lines(b *event.Batch) error {
	for from, next := 0, 0; from < len(b.Buf); from = next {
		to := len(b.Buf)
		next = to
		if n := bytes.IndexByte(b.Buf[from:], '\n'); n >= 0 {
			to, next = from+n, from+n+1
		}
		r.line++
		if !r.begun && bytes.HasPrefix(b.Buf[from:to], []byte("\ufeff")) {
			from += len("\ufeff")
		}
		r.begun = true
		if blank(b.Buf[from:to]) {
			continue
		}
		if err := r.parser.parse(b, from, to); err != nil {
			var syntax *SyntaxError
			if errors.As(err, &syntax) {
				syntax.Line = r.line
			}
			return err
		}
		r.events++
		r.at = append(r.at, r.line)
	}
	return nil
}

// Line returns the number of the line, from 1, of event i of the last Read.
func (r *Reader) Line(i int) int64 { return r.at[i] }

func blank(line []byte) bool {
	i, _ := scanSpace(line, 0, 0)
	return i == len(line)
}
