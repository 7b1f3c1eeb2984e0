package redisstream_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// benchEntries is the length of the stream that is read; about 0.7 GB in Redis.
const benchEntries = 1_000_000

// BenchmarkRead compares a Reader with a client that only counts the bytes of
// the same replies, in turns over the same stream, and reports
//
//	ratio          entries/s of the Reader through those of the counting client
//	cpu-ns/entry   user and system time of this process, for the Reader
//	allocs/entry   of the Reader
func BenchmarkRead(b *testing.B) {
	server := stacktest.Redis(b, stack.RedisOptions{})
	client := connect(b, redisstream.Config{URL: server.URL()})
	fill(b, client, "bench", benchEntries)
	var raw, own, cpu time.Duration
	var allocs uint64
	for b.Loop() {
		began := time.Now()
		if n := countOnly(b, server.Addr(), "bench"); n != benchEntries {
			b.Fatalf("the counting client saw %d entries", n)
		}
		raw += time.Since(began)

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cpuBefore := cpuTime(b)
		began = time.Now()
		if n := readAll(b, client, "bench"); n != benchEntries {
			b.Fatalf("the Reader saw %d entries", n)
		}
		own += time.Since(began)
		cpu += cpuTime(b) - cpuBefore
		runtime.ReadMemStats(&after)
		allocs += after.Mallocs - before.Mallocs
	}
	entries := float64(b.N) * benchEntries
	b.ReportMetric(raw.Seconds()/own.Seconds(), "ratio")
	b.ReportMetric(entries/own.Seconds(), "entries/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/entries, "cpu-ns/entry")
	b.ReportMetric(float64(allocs)/entries, "allocs/entry")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkWrite adds entries, most of whose cost here is to make them up.
func BenchmarkWrite(b *testing.B) {
	server := stacktest.Redis(b, stack.RedisOptions{})
	client := connect(b, redisstream.Config{URL: server.URL()})
	for b.Loop() {
		fill(b, client, "bench", 100_000)
	}
	b.ReportMetric(float64(b.N)*100_000/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkInfos asks about 10,000 streams in one call.
func BenchmarkInfos(b *testing.B) {
	server := stacktest.Redis(b, stack.RedisOptions{})
	client := connect(b, redisstream.Config{URL: server.URL()})
	names := make([]string, 10_000)
	for i := range names {
		names[i] = "quiet:" + strconv.Itoa(i)
		fill(b, client, names[i], 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		infos, err := client.Infos(b.Context(), names)
		if err != nil || infos[len(infos)-1].Err != nil || infos[0].Length != 1 {
			b.Fatal(err, infos[len(infos)-1])
		}
	}
}

func readAll(b *testing.B, client *redisstream.Client, stream string) (n int) {
	b.Helper()
	r, err := client.Reader(b.Context(), stream, redisstream.ReaderOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var batch event.Batch
	for after := (event.ID{}); ; after = batch.ID(batch.Len() - 1) {
		snap, err := r.Read(b.Context(), after, &batch)
		if err != nil {
			b.Fatal(err)
		}
		n += batch.Len()
		if snap.AtEnd {
			return n
		}
	}
}

// countOnly is the ceiling: it reads XRANGE replies of 1000 entries into one
// buffer and does nothing but find their ends and the last ID of each.
func countOnly(b *testing.B, addr, stream string) (n int) {
	b.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	buf := make([]byte, 4<<20)
	from := "-"
	for {
		request := fmt.Sprintf("*6\r\n$6\r\nXRANGE\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$1\r\n+\r\n$5\r\nCOUNT\r\n$4\r\n1000\r\n", len(stream), stream, len(from), from)
		if _, err := io.WriteString(nc, request); err != nil {
			b.Fatal(err)
		}
		filled := 0
		for {
			k, err := nc.Read(buf[filled:])
			if err != nil {
				b.Fatal(err)
			}
			filled += k
			if bytes.HasPrefix(buf[:filled], []byte("*0\r\n")) {
				return n
			}
			// All entries of the bench have the same shape: the reply is whole
			// when the last value of the last entry is.
			if bytes.HasSuffix(buf[:filled], []byte(benchTail)) {
				break
			}
		}
		last := bytes.LastIndex(buf[:filled], []byte("*2\r\n$")) + len("*2\r\n$")
		line := bytes.IndexByte(buf[last:], '\n') + last + 1
		id := buf[line : line+bytes.IndexByte(buf[line:], '\r')]
		from = "(" + string(id)
		count, err := strconv.Atoi(string(buf[1:bytes.IndexByte(buf, '\r')]))
		if err != nil {
			b.Fatal(err)
		}
		n += count
	}
}

// benchTail ends every 1000th entry of fill, and no other: so the counting
// client need not parse to see where a reply ends.
const benchTail = "$9\r\nthousandt\r\n"

// fill adds n entries of about 470 bytes in 9 fields.
func fill(tb testing.TB, client *redisstream.Client, stream string, n int) {
	tb.Helper()
	w, err := client.Writer(context.Background(), stream)
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Close()
	var batch event.Batch
	for i := 0; i < n; {
		batch.Reset()
		for range min(1000, n-i) {
			i++
			batch.Append(shopEvent(i))
		}
		if _, err := w.Add(context.Background(), &batch, 0, batch.Len(), false); err != nil {
			tb.Fatal(err)
		}
	}
}

func shopEvent(i int) *event.Event {
	e := &event.Event{}
	add := func(name, value string) {
		e.Fields = append(e.Fields, event.Field{Name: []byte(name), Value: []byte(value)})
	}
	add("event_id", fmt.Sprintf("%08x-1111-4222-8333-%012x", i*2654435761, i))
	add("event_type", [...]string{"OrderPlaced", "OrderPaid", "OrderShipped"}[i%3])
	add("tenant", fmt.Sprintf("tenant-%03d", i%50))
	add("aggregate_type", "order")
	add("aggregate_id", fmt.Sprintf("order-%07d", i/3))
	add("aggregate_version", strconv.Itoa(i%3+1))
	add("occurred_at", time.UnixMilli(1763700000000+int64(i)).UTC().Format("2006-01-02T15:04:05.000Z"))
	add("payload", fmt.Sprintf(`{"order_id":"order-%07d","customer":{"id":"customer-%05d","country":"DE"},"currency":"EUR","total":%d.%02d,"items":[{"sku":"sku-%04d","quantity":2,"price":1999},{"sku":"sku-%04d","quantity":1,"price":4999}],"note":"please leave at the door"}`, i/3, i%10000, i%500, i%100, i%977, i%1009))
	last := "regular00"
	if i%1000 == 0 {
		last = "thousandt"
	}
	add("correlation_id", last)
	return e
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
