package parquet_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/klauspost/compress/zstd"
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
	realshop "github.com/reservoirhq/reservoir/internal/shop"
)

// shop makes realistic events: 11 fields of about 470 bytes, 223 of them JSON.
func shop(n int) []*event.Batch {
	rnd := rand.New(rand.NewPCG(1, 2))
	uuid := func() []byte {
		var raw [16]byte
		for i := range raw {
			raw[i] = byte(rnd.Uint32())
		}
		raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
		h := hex.EncodeToString(raw[:])
		return []byte(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
	}
	types := []string{"OrderPlaced", "OrderPaid", "OrderShipped", "PaymentAuthorized", "PaymentCaptured", "ShipmentCreated"}
	aggregates := make([][]byte, 5000)
	versions := make([]int, len(aggregates))
	for i := range aggregates {
		aggregates[i] = uuid()
	}
	ms := uint64(time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC).UnixMilli())
	var batches []*event.Batch
	for i := 0; i < n; {
		b := new(event.Batch)
		for range min(1000, n-i) {
			ms += uint64(rnd.IntN(3))
			a := rnd.IntN(len(aggregates))
			versions[a]++
			kind := types[rnd.IntN(len(types))]
			b.Begin(event.ID{Ms: ms, Seq: uint64(i)})
			add := func(name string, value []byte) { b.AddField([]byte(name), value) }
			add("event_id", uuid())
			add("event_type", []byte(kind))
			add("tenant", fmt.Appendf(nil, "tenant-%02d", rnd.IntN(20)))
			add("aggregate_type", []byte("order"))
			add("aggregate_id", aggregates[a])
			add("aggregate_version", strconv.AppendInt(nil, int64(versions[a]), 10))
			at := time.UnixMilli(int64(ms) - int64(rnd.IntN(20))).UTC()
			add("occurred_at", []byte(at.Format("2006-01-02T15:04:05.000Z")))
			add("correlation_id", uuid())
			add("causation_id", uuid())
			add("schema_version", []byte("3"))
			add("payload", fmt.Appendf(nil, `{"order_id":%q,"customer":"customer-%06d","currency":"EUR","total_cents":%d,"items":[{"sku":"SKU-%05d","quantity":%d,"price_cents":%d}],"channel":"web","note":%q}`,
				aggregates[a], rnd.IntN(100000), rnd.IntN(1000000), rnd.IntN(20000), 1+rnd.IntN(5), rnd.IntN(100000), "gift wrap, please, no. "+strconv.Itoa(rnd.IntN(1000))))
			i++
		}
		batches = append(batches, b)
	}
	return batches
}

// entries are the events that the other benchmarks use too: 10 or 11 fields,
// 496 bytes.
func entries(n int) (batches []*event.Batch) {
	events := realshop.New(realshop.Options{Seed: 1, Start: time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)})
	for i := 0; i < n; {
		b := new(event.Batch)
		for ; b.Len() < 1000 && i < n; i++ {
			_, e := events.Next()
			e.ID = event.ID{Ms: uint64(events.Time().UnixMilli())}
			b.Append(&e)
		}
		batches = append(batches, b)
	}
	return batches
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

const benchRows = 200_000

func writeAll(tb testing.TB, out io.Writer, batches []*event.Batch) {
	tb.Helper()
	w := parquet.NewWriter(out, parquet.Options{Stream: "shop", Incarnation: 1})
	for _, b := range batches {
		if err := w.Write(b, 0, b.Len()); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkWriter compares the Writer with the floor, in one run.
func BenchmarkWriter(b *testing.B) {
	batches := entries(benchRows)
	var start time.Duration
	perRow := func(b *testing.B, size int64) {
		b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N)/benchRows, "cpu-ns/row")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
		b.ReportMetric(float64(size)/benchRows, "B/row")
	}
	b.Run("segment", func(b *testing.B) {
		var size int64
		b.ReportAllocs()
		start = cpuTime(b)
		for b.Loop() {
			out := new(counter)
			writeAll(b, out, batches)
			size = out.n
		}
		perRow(b, size)
	})
	b.Run("floor", func(b *testing.B) {
		var size int64
		b.ReportAllocs()
		start = cpuTime(b)
		for b.Loop() {
			out := new(counter)
			writeFloor(b, out, batches)
			size = out.n
		}
		perRow(b, size)
	})
}

// floorRow has the columns of a segment without layout and rest.
type floorRow struct {
	IDMs             uint64 `parquet:"id_ms,delta"`
	IDSeq            uint64 `parquet:"id_seq,delta"`
	EventID          string `parquet:"event_id,optional,delta"`
	EventType        string `parquet:"event_type,optional,dict"`
	Tenant           string `parquet:"tenant,optional,dict"`
	AggregateType    string `parquet:"aggregate_type,optional,dict"`
	AggregateID      string `parquet:"aggregate_id,optional,delta"`
	AggregateVersion int64  `parquet:"aggregate_version,optional,delta"`
	OccurredAt       int64  `parquet:"occurred_at,optional,timestamp(microsecond),delta"`
	CorrelationID    string `parquet:"correlation_id,optional,delta"`
	CausationID      string `parquet:"causation_id,optional,delta"`
	SchemaVersion    string `parquet:"schema_version,optional,dict"`
	Payload          string `parquet:"payload,optional"`
}

// writeFloor writes the same columns with the library alone: it knows the
// fields' positions, keeps no names, and loses everything else.
func writeFloor(tb testing.TB, out io.Writer, batches []*event.Batch) {
	tb.Helper()
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderCRC(false), zstd.WithWindowSize(512<<10))
	if err != nil {
		tb.Fatal(err)
	}
	w := pq.NewGenericWriter[floorRow](out,
		pq.Compression(&floorCodec{encoder: encoder}),
		pq.PageBufferSize(256<<10),
		pq.DataPageStatistics(false),
		pq.MaxRowsPerRowGroup(50_000),
		pq.BloomFilters(pq.SplitBlockFilter(10, "event_id"), pq.SplitBlockFilter(10, "aggregate_id")),
	)
	rows := make([]floorRow, 1000)
	text := func(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
	var e event.Event
	for _, b := range batches {
		rows = rows[:b.Len()]
		for i := range rows {
			b.Event(i, &e)
			f := e.Fields
			version, err := strconv.ParseInt(text(f[5].Value), 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339Nano, text(f[6].Value))
			if err != nil {
				tb.Fatal(err)
			}
			rows[i] = floorRow{
				e.ID.Ms, e.ID.Seq, text(f[0].Value), text(f[1].Value), text(f[2].Value), text(f[3].Value), text(f[4].Value),
				version, at.UnixMicro(), text(f[7].Value), "", text(f[8].Value), text(f[9].Value),
			}
			if len(f) > 10 {
				rows[i].CausationID = text(f[10].Value)
			}
		}
		if _, err := w.Write(rows); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
}

type floorCodec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

func (c *floorCodec) String() string                            { return "ZSTD" }
func (c *floorCodec) CompressionCodec() format.CompressionCodec { return format.Zstd }
func (c *floorCodec) Encode(dst, src []byte) ([]byte, error) {
	return c.encoder.EncodeAll(src, dst[:0]), nil
}
func (c *floorCodec) Decode(dst, src []byte) (_ []byte, err error) {
	if c.decoder == nil {
		if c.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1)); err != nil {
			return nil, err
		}
	}
	return c.decoder.DecodeAll(src, dst[:0])
}

// BenchmarkReader compares reading all events back with only decoding the
// pages, in one run.
func BenchmarkReader(b *testing.B) {
	var out bytes.Buffer
	writeAll(b, &out, entries(benchRows))
	b.Run("segment", func(b *testing.B) {
		f := open(b, out.Bytes())
		batch := new(event.Batch)
		var memory parquet.Memory
		start := cpuTime(b)
		b.ReportAllocs()
		for b.Loop() {
			r, n := f.Reader(parquet.ReadSpec{Memory: &memory}), 0
			for {
				err := r.Read(batch)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				n += batch.Len()
			}
			if err := r.Close(); err != nil || n != benchRows {
				b.Fatal(n, err)
			}
		}
		b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N)/benchRows, "cpu-ns/row")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
	})
	b.Run("pages", func(b *testing.B) {
		f, err := pq.OpenFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			b.Fatal(err)
		}
		start := cpuTime(b)
		for b.Loop() {
			readPages(b, f)
		}
		b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N)/benchRows, "cpu-ns/row")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
	})
}

// readPages decodes every page of a file.
func readPages(tb testing.TB, f *pq.File) {
	tb.Helper()
	for _, group := range f.RowGroups() {
		for _, chunk := range group.ColumnChunks() {
			pages := chunk.Pages()
			for {
				page, err := pages.ReadPage()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					tb.Fatal(err)
				}
				pq.Release(page)
			}
			if err := pages.Close(); err != nil {
				tb.Fatal(err)
			}
		}
	}
}
