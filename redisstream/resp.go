package redisstream

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/reservoirhq/reservoir/event"
)

const (
	minRead      = 16 << 10 // room that a read from the connection should have
	firstBuffer  = 64 << 10
	maxDepth     = 32 // of arrays in arrays
	maxNumber    = 20 // digits of the longest number
	headerWindow = 24 // bytes that surely hold a type, a number and the line's end
)

// input reads RESP2 in place: what it parses stays in buf, and the offsets that
// it gives out stay valid until buf is taken away or compacted.
type input struct {
	src io.Reader
	buf []byte // received; buf[pos:] is not parsed yet
	pos int
	err error // sticky: after it, nothing read from src can be trusted
}

// spoil makes err sticky, unless there is one already.
func (in *input) spoil(err error) {
	if in.err == nil {
		in.err = err
	}
}

// fail makes err sticky and returns the sticky error.
func (in *input) fail(err error) error {
	in.spoil(err)
	return in.err
}

func (in *input) bad(format string, args ...any) error {
	return in.fail(fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...))
}

// need makes buf hold at least n bytes after pos.
func (in *input) need(n int) error {
	if in.err != nil {
		return in.err
	}
	for len(in.buf)-in.pos < n {
		if err := in.read(n - (len(in.buf) - in.pos)); err != nil {
			return err
		}
	}
	return nil
}

// read appends what src has to buf, with room for at least n more bytes.
func (in *input) read(n int) error {
	if cap(in.buf)-len(in.buf) < min(n, minRead) || cap(in.buf)-len(in.buf) < n && n > minRead {
		in.grow(n)
	}
	k, err := in.src.Read(in.buf[len(in.buf):cap(in.buf)])
	in.buf = in.buf[:len(in.buf)+k]
	if k > 0 {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return in.fail(err)
	}
	return nil
}

func (in *input) grow(n int) {
	size := max(firstBuffer, len(in.buf)+n+minRead)
	if size < event.MaxBatchBytes/4 {
		size = max(size, 2*cap(in.buf))
	}
	grown := make([]byte, len(in.buf), size)
	copy(grown, in.buf)
	in.buf = grown
}

// compact forgets what is parsed, so that buf does not grow with every reply.
func (in *input) compact() {
	in.buf = in.buf[:copy(in.buf, in.buf[in.pos:])]
	in.pos = 0
}

// line takes one line and returns its type byte and the offsets of the rest,
// without the line's end.
func (in *input) line() (kind byte, from, to int, err error) {
	for searched := 0; ; {
		rest := in.buf[in.pos:]
		if i := bytes.IndexByte(rest[searched:], '\n'); i >= 0 {
			end := searched + i
			if end < 2 || rest[end-1] != '\r' {
				return 0, 0, 0, in.bad("a line without a type or its end")
			}
			from, to = in.pos+1, in.pos+end-1
			kind = rest[0]
			in.pos += end + 1
			return kind, from, to, nil
		}
		searched = len(rest)
		if searched > 1<<20 {
			return 0, 0, 0, in.bad("a line of more than 1 MiB")
		}
		if err := in.need(searched + 1); err != nil {
			return 0, 0, 0, err
		}
	}
}

// length takes the header of an array ('*') or a bulk string ('$') and returns
// its number: -1 for null. An error reply in its place is returned as such; the
// input can be used on after it.
func (in *input) length(want byte) (int, error) {
	if p := in.pos; len(in.buf)-p >= headerWindow && in.buf[p] == want { // the common case, without calls
		head := in.buf[p : p+headerWindow]
		n, i := 0, 1
		for ; i < 11 && head[i]-'0' <= 9; i++ {
			n = n*10 + int(head[i]-'0')
		}
		if i > 1 && head[i] == '\r' && head[i+1] == '\n' {
			in.pos = p + i + 2
			return n, nil
		}
	}
	kind, from, to, err := in.line()
	if err != nil {
		return 0, err
	}
	switch kind {
	case want:
		n, err := strconv.ParseInt(string(in.buf[from:to]), 10, 64)
		if err != nil || n < -1 || n > math.MaxInt32 {
			return 0, in.bad("length %.40q", in.buf[from:to])
		}
		return int(n), nil
	case '-':
		return 0, replyError(in.buf[from:to])
	default:
		return 0, in.bad("type %q, wanted %q", kind, want)
	}
}

// bulk takes a bulk string and returns where it lies in buf. One longer than
// limit is an errOverLimit, before it is read.
func (in *input) bulk(limit int) (at, n int, err error) {
	n, err = in.length('$')
	if err != nil {
		return 0, 0, err
	}
	if n < 0 {
		return 0, 0, in.bad("null for a string")
	}
	if n > limit {
		return 0, 0, errOverLimit(n)
	}
	at = in.pos
	if len(in.buf)-at < n+2 {
		if err := in.need(n + 2); err != nil {
			return 0, 0, err
		}
	}
	if in.buf[at+n] != '\r' || in.buf[at+n+1] != '\n' {
		return 0, 0, in.bad("a string without its end")
	}
	in.pos = at + n + 2
	return at, n, nil
}

// errOverLimit is the size of a string that bulk refused to read.
type errOverLimit int

func (e errOverLimit) Error() string { return fmt.Sprintf("a string of %d bytes", int(e)) }

// id takes a bulk string that is a stream ID.
func (in *input) id() (event.ID, error) {
	at, n, err := in.bulk(2*maxNumber + 1)
	if err != nil {
		return event.ID{}, in.fail(err)
	}
	text := in.buf[at : at+n]
	dash := bytes.IndexByte(text, '-')
	if dash < 0 {
		return event.ID{}, in.bad("ID %q", text)
	}
	ms, ok1 := parseUint(text[:dash])
	seq, ok2 := parseUint(text[dash+1:])
	if !ok1 || !ok2 {
		return event.ID{}, in.bad("ID %q", text)
	}
	return event.ID{Ms: ms, Seq: seq}, nil
}

// parseUint reads a decimal number without signs.
func parseUint(text []byte) (uint64, bool) {
	if len(text) == 0 || len(text) > maxNumber {
		return 0, false
	}
	n := uint64(0)
	for i, c := range text {
		digit := uint64(c - '0')
		if digit > 9 {
			return 0, false
		}
		if i == maxNumber-1 && (n > math.MaxUint64/10 || n*10 > math.MaxUint64-digit) {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}

// number takes an integer reply that is not negative.
func (in *input) number() (uint64, error) {
	kind, from, to, err := in.line()
	if err != nil {
		return 0, err
	}
	if kind == '-' {
		return 0, replyError(in.buf[from:to])
	}
	n, ok := parseUint(in.buf[from:to])
	if kind != ':' || !ok {
		return 0, in.bad("%q, wanted a number", in.buf[from-1:to])
	}
	return n, nil
}

// status takes a simple string and returns where it lies in buf.
func (in *input) status() (from, to int, err error) {
	kind, from, to, err := in.line()
	if err != nil {
		return 0, 0, err
	}
	switch kind {
	case '+':
		return from, to, nil
	case '-':
		return 0, 0, replyError(in.buf[from:to])
	default:
		return 0, 0, in.bad("type %q, wanted a status", kind)
	}
}

// skip takes one value of any type and forgets it. Error replies are values
// like any other here.
func (in *input) skip(depth int) error {
	kind, from, to, err := in.line()
	if err != nil {
		return err
	}
	switch kind {
	case '+', '-', ':':
		return nil
	case '$', '*':
	default:
		return in.bad("type %q", kind)
	}
	n, err := strconv.ParseInt(string(in.buf[from:to]), 10, 64)
	switch {
	case err != nil || n < -1 || n > math.MaxInt32 || depth > maxDepth:
		return in.bad("length %.40q", in.buf[from:to])
	case n < 0:
		return nil
	case kind == '$':
		return in.discard(int(n) + 2)
	}
	for range n {
		if err := in.skip(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// discard takes n bytes without keeping those that are not in buf yet, so that
// a large value that nobody wants does not take memory.
func (in *input) discard(n int) error {
	if have := len(in.buf) - in.pos; have < n {
		n -= have
		in.buf = in.buf[:in.pos]
		for n > 0 {
			if err := in.read(1); err != nil {
				return err
			}
			got := len(in.buf) - in.pos
			drop := min(got, n)
			in.buf = in.buf[:in.pos+copy(in.buf[in.pos:], in.buf[in.pos+drop:])]
			n -= drop
		}
		return nil
	}
	in.pos += n
	return nil
}

// pass takes n bytes, hands them to w piece by piece, and forgets them.
func (in *input) pass(n int, w io.Writer) error {
	for {
		piece := in.buf[in.pos:min(len(in.buf), in.pos+n)]
		if _, err := w.Write(piece); err != nil {
			return in.fail(err)
		}
		if n -= len(piece); n == 0 {
			in.pos += len(piece)
			return nil
		}
		in.buf = in.buf[:in.pos]
		if err := in.read(1); err != nil {
			return err
		}
	}
}

// appendCommand appends a command to a request.
func appendCommand(b []byte, args ...string) []byte {
	b = appendHeader(b, '*', len(args))
	for _, arg := range args {
		b = appendHeader(b, '$', len(arg))
		b = append(b, arg...)
		b = append(b, "\r\n"...)
	}
	return b
}

func appendHeader(b []byte, kind byte, n int) []byte {
	b = append(b, kind)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, "\r\n"...)
}
