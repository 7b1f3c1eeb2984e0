package jsonl_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
)

// shopEvents returns n events of a realistic shop: 9 to 11 fields, 470 bytes on
// average, of which 223 are a JSON payload.
func shopEvents(n int) *event.Batch {
	rnd := rand.New(rand.NewPCG(1, 2))
	uuid := func() string {
		a, b := rnd.Uint64(), rnd.Uint64()
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff)
	}
	types := []string{"OrderPlaced", "OrderPaid", "PaymentFailed", "ShipmentDispatched", "OrderCancelled"}
	cities := []string{"Berlin", "Lisbon", "Kraków", "Oslo", "Porto", "Ghent"}
	b := &event.Batch{}
	ms := uint64(1790000000000)
	var e event.Event
	for i := range n {
		ms += rnd.Uint64N(3)
		kind := types[rnd.IntN(len(types))]
		order := uuid()
		payload := fmt.Sprintf(`{"order_id":"%s","customer":{"id":%d,"city":"%s"},"lines":[{"sku":"SKU-%05d","qty":%d,"price":%d.%02d}],"currency":"EUR","note":"leave at the door","paid":%t,"channel":"web","coupon":null}`,
			order, rnd.IntN(1e6), cities[rnd.IntN(len(cities))], rnd.IntN(20000), 1+rnd.IntN(5), rnd.IntN(300), rnd.IntN(100), rnd.IntN(2) == 0)
		e.ID = event.ID{Ms: ms, Seq: uint64(i)}
		e.Fields = e.Fields[:0]
		add := func(name, value string) {
			e.Fields = append(e.Fields, event.Field{Name: []byte(name), Value: []byte(value)})
		}
		add("event_id", uuid())
		add("event_type", kind)
		add("tenant_id", "tenant-"+strconv.Itoa(rnd.IntN(40)))
		add("aggregate_type", "order")
		add("aggregate_id", order)
		add("aggregate_version", strconv.Itoa(1+rnd.IntN(9)))
		add("occurred_at", "2026-11-21T07:"+fmt.Sprintf("%02d:%02d.%03dZ", rnd.IntN(60), rnd.IntN(60), rnd.IntN(1000)))
		add("correlation_id", uuid())
		if rnd.IntN(2) == 0 {
			add("causation_id", uuid())
		}
		if rnd.IntN(4) == 0 {
			add("schema_version", "2")
		}
		add("payload", payload)
		b.Append(&e)
	}
	return b
}

func perEvent(b *testing.B, events int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}

func BenchmarkAppendLine(b *testing.B) {
	batch := shopEvents(1000)
	var e event.Event
	var dst []byte
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		dst = dst[:0]
		for i := range batch.Len() {
			batch.Event(i, &e)
			dst = jsonl.AppendLine(dst, &e)
		}
		n += batch.Len()
	}
	b.ReportMetric(float64(batch.Bytes())/float64(batch.Len()), "raw_B/event")
	b.ReportMetric(float64(len(dst))/float64(batch.Len()), "line_B/event")
	perEvent(b, n)
}

// BenchmarkEncodingJSON is what encoding/json needs for an object of strings, for
// scale; it sorts names, loses what is not UTF-8, and looks at no payload.
func BenchmarkEncodingJSON(b *testing.B) {
	batch := shopEvents(1000)
	var e event.Event
	n := 0
	for b.Loop() {
		for i := range batch.Len() {
			batch.Event(i, &e)
			fields := make(map[string]string, len(e.Fields))
			for _, f := range e.Fields {
				fields[string(f.Name)] = string(f.Value)
			}
			if _, err := json.Marshal(map[string]any{"id": e.ID, "fields": fields}); err != nil {
				b.Fatal(err)
			}
		}
		n += batch.Len()
	}
	perEvent(b, n)
}

func BenchmarkWriter(b *testing.B) {
	batch := shopEvents(10_000)
	w := jsonl.NewWriter(io.Discard, jsonl.Options{})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := w.Write(batch, 0, batch.Len()); err != nil {
			b.Fatal(err)
		}
		n += batch.Len()
	}
	b.ReportMetric(float64(w.Bytes())/float64(n), "file_B/event")
	perEvent(b, n)
}

// BenchmarkCompress compares what zstd can be told, on frames as a Writer makes
// them.
func BenchmarkCompress(b *testing.B) {
	batch := shopEvents(20_000)
	var e event.Event
	var lines []byte
	for i := range batch.Len() {
		batch.Event(i, &e)
		lines = jsonl.AppendLine(lines, &e)
	}
	options := map[string][]zstd.EOption{
		"fastest":           {zstd.WithEncoderLevel(zstd.SpeedFastest)},
		"fastest/no-crc":    {zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false)},
		"fastest/all-lit":   {zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true)},
		"default":           {zstd.WithEncoderLevel(zstd.SpeedDefault)},
		"better":            {zstd.WithEncoderLevel(zstd.SpeedBetterCompression)},
		"fastest/window-8M": {zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(8 << 20)},
		"fastest/lowmem":    {zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true)},
	}
	for name, opts := range options {
		for _, size := range []int{128 << 10, 512 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dK", name, size>>10), func(b *testing.B) {
				opts := append([]zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(size)}, opts...)
				enc, err := zstd.NewWriter(nil, opts...)
				if err != nil {
					b.Fatal(err)
				}
				var out []byte
				n, in, packed := 0, 0, 0
				for b.Loop() {
					for at := 0; at+size <= len(lines); at += size {
						out = enc.EncodeAll(lines[at:at+size], out[:0])
						in += size
						packed += len(out)
					}
					n++
				}
				events := float64(in) / float64(len(lines)) * float64(batch.Len())
				b.ReportMetric(float64(packed)/events, "file_B/event")
				perEvent(b, int(events))
			})
		}
	}
}

func BenchmarkReader(b *testing.B) {
	batch := shopEvents(20_000)
	var file bytes.Buffer
	w := jsonl.NewWriter(&file, jsonl.Options{Stream: "orders", Incarnation: 1})
	if err := errors.Join(w.Write(batch, 0, batch.Len()), w.Close()); err != nil {
		b.Fatal(err)
	}
	dec, err := zstd.NewReader(&file)
	if err != nil {
		b.Fatal(err)
	}
	compressed := bytes.Clone(file.Bytes())
	text, err := io.ReadAll(dec)
	if err != nil {
		b.Fatal(err)
	}
	whole := len(compressed)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, in := range map[string][]byte{"zstd": compressed[:whole], "plain": text, "foreign-zstd": enc.EncodeAll(text, nil)} {
		b.Run(name, func(b *testing.B) {
			var batch event.Batch
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				r, err := jsonl.NewReader(bytes.NewReader(in))
				if err != nil {
					b.Fatal(err)
				}
				for {
					err := r.Read(&batch)
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					n += batch.Len()
				}
			}
			perEvent(b, n)
		})
	}
}
