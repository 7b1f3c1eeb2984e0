package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/replay/sink"
)

const (
	ceilingBlock = 50_000 // entries encoded ahead at a time
	ceilingFlush = 1000   // entries a write
)

// writeCeiling is the ceiling of replays: the entries of load, encoded ahead and
// sent over one connection as plain XADDs, without waiting for any reply; their
// ends are counted in another goroutine. It returns the time that sending took,
// without that of encoding.
func writeCeiling(ctx context.Context, addr, stream string, n int, provenance bool) (took time.Duration, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	events := newPlainEntries(stream, provenance)
	for n > 0 {
		count := min(n, ceilingBlock)
		flushes := events.encode(count)
		began := time.Now()
		if err := sendAll(conn, flushes, count); err != nil {
			return took, err
		}
		took += time.Since(began)
		n -= count
	}
	return took, nil
}

// sendAll sends the commands, and returns when all replies are there.
func sendAll(conn net.Conn, flushes [][]byte, count int) error {
	done := make(chan error, 1)
	go func() { done <- receiveIDs(conn, count) }()
	var err error
	for _, flush := range flushes {
		if _, err = conn.Write(flush); err != nil {
			break
		}
	}
	if err != nil {
		return errors.Join(err, conn.Close(), <-done)
	}
	return <-done
}

// receiveIDs takes the replies to XADDs: looks for an error, and for their ends.
func receiveIDs(conn net.Conn, count int) error {
	buf := make([]byte, 64<<10)
	last := byte('\n')
	for lines := 0; lines < 2*count; { // a reply is a length and an ID
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		got := buf[:n]
		if last == '\n' && got[0] == '-' || bytes.Contains(got, []byte("\n-")) {
			return fmt.Errorf("redis replied %.200q", got)
		}
		lines += bytes.Count(got, []byte("\n"))
		last = got[n-1]
	}
	return nil
}

// plainEntries makes the commands that add the entries of load.
type plainEntries struct {
	stream     string
	provenance bool
	shop       *shop.Shop
	out        []byte
}

func newPlainEntries(stream string, provenance bool) *plainEntries {
	return &plainEntries{stream: stream, provenance: provenance, shop: newShop()}
}

// encode returns the commands for the next n entries, by flush. They are valid
// until it is called again.
func (p *plainEntries) encode(n int) (flushes [][]byte) {
	p.out = p.out[:0]
	var ends []int
	for i := range n {
		_, e := p.shop.Next()
		if p.provenance {
			e.Fields = append(e.Fields,
				event.Field{Name: []byte(sink.FieldReplay), Value: []byte("01KAMB000000000000000000RP")},
				event.Field{Name: []byte(sink.FieldStream), Value: []byte(source)},
				event.Field{Name: []byte(sink.FieldID), Value: []byte(event.ID{Ms: uint64(p.shop.Time().UnixMilli())}.String())})
		}
		p.add(&e)
		if (i+1)%ceilingFlush == 0 || i+1 == n {
			ends = append(ends, len(p.out))
		}
	}
	from := 0
	for _, end := range ends {
		flushes = append(flushes, p.out[from:end])
		from = end
	}
	return flushes
}

func (p *plainEntries) add(e *event.Event) {
	bulk := func(text []byte) {
		p.out = append(strconv.AppendInt(append(p.out, '$'), int64(len(text)), 10), "\r\n"...)
		p.out = append(append(p.out, text...), "\r\n"...)
	}
	p.out = append(strconv.AppendInt(append(p.out, '*'), int64(3+2*len(e.Fields)), 10), "\r\n"...)
	bulk([]byte("XADD"))
	bulk([]byte(p.stream))
	bulk([]byte("*"))
	for _, f := range e.Fields {
		bulk(f.Name)
		bulk(f.Value)
	}
}
