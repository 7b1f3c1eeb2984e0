package jsonl

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// frame passes on the bytes of one zstd frame and stops at its end, by its
// block headers (RFC 8878, section 3.1.1). It cannot run into the next frame,
// so the reader knows what lies between two frames.
type frame struct {
	in   *bufio.Reader
	left int // bytes to pass on before the next look at the structure
	sum  int // bytes of the checksum after the last block
	last bool
	end  bool
}

// unknownSize is the size of frames that do not tell.
const unknownSize = -1

// open begins the frame that in is at, and returns the size of its content.
func (f *frame) open(in *bufio.Reader) (size int64, err error) {
	*f = frame{in: in}
	head, err := peek(in, 5)
	if err != nil {
		return 0, err
	}
	descriptor := head[4]
	single := descriptor >> 5 & 1
	dictionary := [4]int{0, 1, 2, 4}[descriptor&3]
	content := [4]int{int(single), 2, 4, 8}[descriptor>>6]
	f.sum = 4 * int(descriptor>>2&1)
	f.left = 5 + int(1-single) + dictionary + content
	if head, err = peek(in, f.left); err != nil {
		return 0, err
	}
	head = head[f.left-content:]
	switch content {
	case 1:
		return int64(head[0]), nil
	case 2:
		return int64(binary.LittleEndian.Uint16(head)) + 256, nil
	case 4:
		return int64(binary.LittleEndian.Uint32(head)), nil
	case 8:
		return int64(binary.LittleEndian.Uint64(head) & (1<<63 - 1)), nil
	default:
		return unknownSize, nil
	}
}

// Read implements io.Reader. It returns io.EOF at the end of the frame, and
// io.ErrUnexpectedEOF where the input ends before.
func (f *frame) Read(p []byte) (int, error) {
	for f.left == 0 {
		switch {
		case f.end:
			return 0, io.EOF
		case f.last:
			f.left, f.end = f.sum, true
		default:
			if err := f.block(); err != nil {
				return 0, err
			}
		}
	}
	n, err := f.in.Read(p[:min(len(p), f.left)])
	f.left -= n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err //nolint:wrapcheck // an io.Reader passes on what it got
}

// block begins a block.
func (f *frame) block() error {
	head, err := peek(f.in, 3)
	if err != nil {
		return err
	}
	header := uint32(head[0]) | uint32(head[1])<<8 | uint32(head[2])<<16
	f.last = header&1 != 0
	switch header >> 1 & 3 {
	case 1: // one byte, repeated
		f.left = 3 + 1
	case 3:
		return errors.New("zstd frame holds a block of a reserved type")
	default:
		f.left = 3 + int(header>>3)
	}
	return nil
}

// peek returns the next n bytes, or io.ErrUnexpectedEOF when there are fewer.
func peek(in *bufio.Reader, n int) ([]byte, error) {
	head, err := in.Peek(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read zstd frame: %w", err)
	}
	return head, nil
}

// readSkippable reads the skippable frame that in is at. It returns its content
// if it may be ours.
func readSkippable(in *bufio.Reader) ([]byte, error) {
	head, err := peek(in, 8)
	if err != nil {
		return nil, err
	}
	magic, size := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
	if _, err := in.Discard(8); err != nil {
		return nil, fmt.Errorf("read zstd frame: %w", err)
	}
	if magic != skippableMagic || size > maxMeta {
		n, err := io.CopyN(io.Discard, in, int64(size))
		return nil, cutOff(n, err)
	}
	content := make([]byte, size)
	n, err := io.ReadFull(in, content)
	return content, cutOff(int64(n), err)
}

// cutOff makes an end of input within a frame one that nobody expects.
func cutOff(n int64, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read zstd frame, %d bytes into a skippable one: %w", n, err)
}
