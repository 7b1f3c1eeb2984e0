package redisstream

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

// script is a connection that answers with fixed bytes, a few at a time.
type script struct {
	net.Conn
	in    *bytes.Reader
	piece int
}

func (s *script) Read(p []byte) (int, error) {
	return s.in.Read(p[:min(len(p), s.piece)])
}

func (s *script) Write(p []byte) (int, error) { return len(p), nil }

// FuzzReply feeds arbitrary bytes to everything that parses replies. It must not
// panic, must not take memory for what is only announced, and what it accepts
// must not depend on how the bytes are cut.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n*8\r\n$6\r\nlength\r\n:1\r\n$13\r\nentries-added\r\n:1\r\n$17\r\nlast-generated-id\r\n$3\r\n1-0\r\n$11\r\nfirst-entry\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n",
		"+OK\r\n-NOPERM x\r\n+QUEUED\r\n-EXECABORT\r\n",
		"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*0\r\n-ERR no such key\r\n",
		"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*2147483647\r\n*2\r\n$2147483647\r\n",
		"-LOADING\r\n", "*-1\r\n", "$-1\r\n", ":\r\n", "\n", "*1\r\n*1\r\n*1\r\n",
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		whole, wholeErr := parseAll(t, data, len(data)+1)
		cut, cutErr := parseAll(t, data, int(piece)+1)
		if (wholeErr == nil) != (cutErr == nil) || whole.Len() != cut.Len() {
			t.Fatalf("at once: %d events, %v; in pieces: %d events, %v", whole.Len(), wholeErr, cut.Len(), cutErr)
		}
		var a, b event.Event
		for i := range whole.Len() {
			whole.Event(i, &a)
			cut.Event(i, &b)
			if !a.Equal(&b) {
				t.Fatalf("event %d: %v and %v", i, a, b)
			}
		}
	})
}

func parseAll(t *testing.T, data []byte, piece int) (*event.Batch, error) {
	t.Helper()
	conn := func() *conn {
		src := &script{in: bytes.NewReader(data), piece: piece}
		return &conn{nc: src, in: input{src: src}}
	}
	cn := conn()
	b := &event.Batch{}
	r := &Reader{client: &Client{}, stream: "s", cn: cn, opts: ReaderOptions{MaxEntrySize: 1 << 10}.withDefaults(), count: 3}
	_, err := r.reply(&request{count: 3, info: true}, b)
	if cap(cn.in.buf) > len(data)+4*firstBuffer {
		t.Fatalf("%d bytes of memory for %d bytes of input", cap(cn.in.buf), len(data))
	}
	b.Buf = cn.in.buf[:cn.in.pos]
	if err != nil {
		b.Reset()
	}
	for _, parse := range []func(in *input) error{
		func(in *input) error { _, err := in.info(); return err },
		func(in *input) error { return in.skip(0) },
		func(in *input) error { return in.idOrError() },
	} {
		in := &conn().in
		if err := parse(in); err == nil && in.pos > len(in.buf) {
			t.Fatalf("position %d of %d", in.pos, len(in.buf))
		}
	}
	return b, err
}

func TestDiscardKeepsNothing(t *testing.T) {
	data := append(bytes.Repeat([]byte("x"), 5<<20), "\r\n+after\r\n"...)
	in := &input{src: io.MultiReader(bytes.NewBufferString("$5242880\r\n"), bytes.NewReader(data))}
	if err := in.skip(0); err != nil {
		t.Fatal(err)
	}
	from, to, err := in.status()
	if err != nil || string(in.buf[from:to]) != "after" {
		t.Fatalf("%q, %v", in.buf[from:to], err)
	}
	if cap(in.buf) > 1<<20 {
		t.Fatalf("%d bytes kept", cap(in.buf))
	}
}
