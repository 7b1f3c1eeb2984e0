package sink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
)

// BenchmarkRedis compares the sink with plain XADDs, pipelined without end over
// a raw connection, of the same entries, in turns. It reports
//
//	ratio      entries/s of the sink through those of plain XADD
//	entries/s  of the sink
func BenchmarkRedis(b *testing.B) {
	for _, provenance := range []bool{false, true} {
		b.Run("provenance="+strconv.FormatBool(provenance), func(b *testing.B) {
			benchmarkRedis(b, provenance)
		})
	}
}

func benchmarkRedis(b *testing.B, provenance bool) {
	const batches = 100
	server := stacktest.Redis(b, stack.RedisOptions{})
	client, err := redisstream.Connect(b.Context(), redisstream.Config{URL: server.URL()})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	options, err := json.Marshal(map[string]any{"stream": "copy", "provenance": provenance})
	if err != nil {
		b.Fatal(err)
	}
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	all := shopBatches(batches)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	flush := func() {
		if err := rdb.FlushAll(context.Background()).Err(); err != nil {
			b.Fatal(err)
		}
	}
	var raw, own time.Duration
	var rawCPU, ownCPU float64
	cpu := func() float64 {
		var total float64
		for line := range strings.Lines(rdb.Info(context.Background(), "cpu").Val()) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if name == "used_cpu_user_main_thread" || name == "used_cpu_sys_main_thread" {
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					b.Fatal(err)
				}
				total += n
			}
		}
		return total
	}
	entries := 0
	for b.Loop() {
		entries += batches * 1000
		c0 := cpu()
		began := time.Now()
		plainXAdd(b, server.Addr(), all, provenance)
		raw += time.Since(began)
		rawCPU += cpu() - c0
		flush()
		c0 = cpu()
		began = time.Now()
		s, err := kind.Open(b.Context(), replay.Opening{Replay: benchJob, Epoch: 1, Options: options, Streams: []replay.StreamRange{{Stream: shop.Orders}}})
		if err != nil {
			b.Fatal(err)
		}
		for i, batch := range all {
			next := func() *replay.Batch {
				if i+1 == len(all) {
					return nil
				}
				return all[i+1]
			}
			if err := s.(replay.AheadWriter).WriteAhead(b.Context(), batch, next); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		own += time.Since(began)
		ownCPU += cpu() - c0
		flush()
	}
	b.ReportMetric(raw.Seconds()/own.Seconds(), "ratio")
	b.ReportMetric(float64(entries)/own.Seconds(), "entries/s")
	b.ReportMetric(rawCPU/ownCPU, "redis-cpu-ratio")
	b.ReportMetric(ownCPU/own.Seconds(), "redis-busy")
	b.ReportMetric(rawCPU/raw.Seconds(), "raw-busy")
	b.ReportMetric(0, "ns/op")
}

const benchJob = "01KAMB000000000000000000RP"

// shopBatches makes batches of 1000 events of one stream.
func shopBatches(n int) []*replay.Batch {
	source := shop.New(shop.Options{Seed: 1})
	batches := make([]*replay.Batch, n)
	at := event.ID{Ms: 1_763_700_000_000}
	for i := range batches {
		batches[i] = &replay.Batch{}
		for range 1000 {
			_, e := source.Next()
			at.Ms++
			e.ID = at
			batches[i].Append(&e)
			batches[i].Origins = append(batches[i].Origins, replay.Origin{
				Position: replay.Position{Ms: at.Ms, Incarnation: 1, ID: at}, Stream: shop.Orders,
			})
		}
	}
	return batches
}

// plainXAdd is the ceiling: it sends XADDs as fast as they go out, and counts
// the replies in another goroutine.
func plainXAdd(b *testing.B, addr string, batches []*replay.Batch, provenance bool) {
	b.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	want := 0
	for _, batch := range batches {
		want += batch.Len()
	}
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, 64<<10)
		for lines := 0; lines < 2*want; {
			n, err := nc.Read(buf)
			if err != nil {
				done <- err
				return
			}
			lines += bytes.Count(buf[:n], []byte("\n"))
		}
		done <- nil
	}()
	var out []byte
	var e event.Event
	for _, batch := range batches {
		for i := range batch.Len() {
			batch.Event(i, &e)
			if provenance {
				o := batch.Origins[i]
				e.Fields = append(e.Fields, event.Field{Name: []byte(sink.FieldReplay), Value: []byte(benchJob)},
					event.Field{Name: []byte(sink.FieldStream), Value: []byte(o.Stream)}, event.Field{Name: []byte(sink.FieldID), Value: []byte(o.ID.String())})
			}
			out = append(out, '*')
			out = strconv.AppendInt(out, int64(3+2*len(e.Fields)), 10)
			out = append(out, "\r\n$4\r\nXADD\r\n$4\r\ncopy\r\n$1\r\n*\r\n"...)
			for _, f := range e.Fields {
				for _, text := range [][]byte{f.Name, f.Value} {
					out = append(out, '$')
					out = strconv.AppendInt(out, int64(len(text)), 10)
					out = append(out, "\r\n"...)
					out = append(append(out, text...), "\r\n"...)
				}
			}
			if len(out) >= 64<<10 {
				if _, err := nc.Write(out); err != nil {
					b.Fatal(err)
				}
				out = out[:0]
			}
		}
	}
	if _, err := nc.Write(out); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
