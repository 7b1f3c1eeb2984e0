package jsonl

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

const (
	// chunkBytes is how much text is read at once where frames do not say.
	chunkBytes = 256 << 10
	// wholeFrame is up to what size a frame is decoded at once.
	wholeFrame = 4 << 20
	// maxWindow is the largest window of a frame that a Reader takes; it is
	// what the zstd tool takes as well.
	maxWindow = 128 << 20
)

// source is where text comes from: appends the next piece of it to dst, or
// returns io.EOF at its end.
type source interface {
	next(dst []byte) ([]byte, error)
}

// textSource reads text as it is.
type textSource struct{ in *bufio.Reader }

func (s *textSource) next(dst []byte) ([]byte, error) { return readChunk(s.in, dst) }

// readChunk appends up to chunkBytes from r.
func readChunk(r io.Reader, dst []byte) ([]byte, error) {
	dst = slices.Grow(dst, chunkBytes)
	for {
		n, err := r.Read(dst[len(dst) : len(dst)+chunkBytes])
		if n > 0 {
			return dst[:len(dst)+n], nil // an error comes again
		}
		if err != nil {
			return dst, err //nolint:wrapcheck // Reader says what was read
		}
	}
}

// zstdSource reads zstd frames.
type zstdSource struct {
	in      *bufio.Reader
	decoder *zstd.Decoder
	frame   frame
	size    int64 // of the content of the frame
	inside  bool  // a frame was begun and not read to its end
	stream  bool  // decoder streams it
	packed  []byte
	onMeta  func(meta) error
}

func newZstdSource(in *bufio.Reader, onMeta func(meta) error) (*zstdSource, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("create zstd decoder: %w", err)
	}
	return &zstdSource{in: in, decoder: decoder, onMeta: onMeta}, nil
}

// seek goes on to the next frame with content. It returns io.EOF where there is
// none.
func (s *zstdSource) seek() error {
	for !s.inside {
		if _, err := s.in.Peek(1); err != nil {
			return err //nolint:wrapcheck // io.EOF is the clean end
		}
		head, err := peek(s.in, 4)
		if err != nil {
			return err
		}
		switch magic := binary.LittleEndian.Uint32(head); {
		case magic == zstdMagic:
			if s.size, err = s.frame.open(s.in); err != nil {
				return err
			}
			s.inside, s.stream = true, false
		case magic&^15 == skippableMagic:
			content, err := readSkippable(s.in)
			if err != nil {
				return err
			}
			m, err := parseMeta(content)
			if err != nil {
				return err
			}
			if err := s.onMeta(m); err != nil {
				return err
			}
		default:
			return errors.New("what follows a zstd frame is none")
		}
	}
	return nil
}

// next implements source.
func (s *zstdSource) next(dst []byte) ([]byte, error) {
	for {
		if err := s.seek(); err != nil {
			return dst, err
		}
		if !s.stream && s.size != unknownSize && s.size <= wholeFrame {
			s.inside = false
			return s.decodeWhole(dst)
		}
		if !s.stream {
			if err := s.decoder.Reset(&s.frame); err != nil {
				return dst, fmt.Errorf("decode zstd frame: %w", err)
			}
			s.stream = true
		}
		var err error
		dst, err = readChunk(s.decoder, dst)
		if err == nil {
			return dst, nil
		}
		if err != io.EOF { //nolint:errorlint // wrapped, it would not be the clean end
			return dst, fmt.Errorf("decode zstd frame: %w", err)
		}
		s.inside = false
	}
}

// decodeWhole appends the content of the frame.
func (s *zstdSource) decodeWhole(dst []byte) ([]byte, error) {
	s.packed = s.packed[:0]
	for {
		s.packed = slices.Grow(s.packed, 32<<10)
		n, err := s.frame.Read(s.packed[len(s.packed):cap(s.packed)])
		s.packed = s.packed[:len(s.packed)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return dst, fmt.Errorf("read zstd frame: %w", err)
		}
	}
	dst, err := s.decoder.DecodeAll(s.packed, dst)
	if cap(s.packed) > wholeFrame {
		s.packed = nil
	}
	if err != nil {
		return dst, fmt.Errorf("decode zstd frame: %v", err) //nolint:errorlint // must not look like an io.EOF
	}
	return dst, nil
}
