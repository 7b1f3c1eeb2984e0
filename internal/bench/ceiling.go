package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// readCeiling is the raw ceiling: it receives XRANGE replies of 1000 entries
// into one buffer and looks for nothing but their ends (a PING after each
// command is answered there) and the last ID. It returns the entries received.
func readCeiling(ctx context.Context, addr, stream string) (n int, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	buf := make([]byte, 4<<20)
	for from := "-"; ; {
		_, err := fmt.Fprintf(conn, "*6\r\n$6\r\nXRANGE\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$1\r\n+\r\n$5\r\nCOUNT\r\n$4\r\n1000\r\nPING\r\n",
			len(stream), stream, len(from), from)
		if err != nil {
			return n, err
		}
		reply, err := receive(conn, buf)
		if err != nil {
			return n, err
		}
		count, err := strconv.Atoi(string(reply[1:bytes.IndexByte(reply, '\r')]))
		if err != nil || count == 0 {
			return n, err
		}
		n += count
		line := bytes.LastIndex(reply, []byte("*2\r\n$")) + len("*2\r\n$")
		id := line + bytes.IndexByte(reply[line:], '\n') + 1
		from = "(" + string(reply[id:id+bytes.IndexByte(reply[id:], '\r')])
	}
}

func receive(conn io.Reader, buf []byte) ([]byte, error) {
	for n := 0; ; {
		k, err := conn.Read(buf[n:])
		if err != nil {
			return nil, err
		}
		if n += k; bytes.HasSuffix(buf[:n], []byte("+PONG\r\n")) {
			return buf[:n], nil
		}
	}
}

// readAll reads the stream with Reservoir's reader, and does nothing with it.
func readAll(ctx context.Context, client *redisstream.Client, stream string) (n int, err error) {
	r, err := client.Reader(ctx, stream, redisstream.ReaderOptions{})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var batch event.Batch
	for after := (event.ID{}); ; after = batch.ID(batch.Len() - 1) {
		snap, err := r.Read(ctx, after, &batch)
		if err != nil {
			return n, err
		}
		if n += batch.Len(); snap.AtEnd {
			return n, nil
		}
	}
}
