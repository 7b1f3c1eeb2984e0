package interop_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
)

func TestStrangersReadTheArchive(t *testing.T) {
	p := publish(t)
	dir, s3 := p.archiveToDir(t), p.archiveToS3(t)
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	t.Run("zstd and jq", func(t *testing.T) { checkJQ(t, p, dir) })
	t.Run("ClickHouse reads JSONL", func(t *testing.T) { checkClickHouseJSONL(t, p, dir, engine) })
	readers := []struct {
		name string
		at   place
		reader
	}{
		{"DuckDB", dir, duckDB{}},
		{"ClickHouse", dir, clickHouse{engine, "file('%s', Parquet)"}},
		{"ClickHouse from S3", s3, clickHouse{engine, "s3('%s', '" + stack.S3AccessKey + "', '" + stack.S3SecretKey + "', Parquet)"}},
	}
	for _, r := range readers {
		t.Run(r.name, func(t *testing.T) {
			checkEverything(t, p, r.at, r)
			checkSelections(t, p, r.at, r)
			checkEventID(t, p, r.at, r)
		})
	}
	destroy(t, dir, shop.Payments)
	destroy(t, s3, shop.Payments)
	for _, r := range readers {
		t.Run(r.name+" prunes", func(t *testing.T) { checkPruning(t, p, r.at, r) })
	}
}

// place is where an archive lies, for us and for others.
type place struct {
	store objectstore.Store
	root  string // the path or the URL of what the store's keys are relative to
}

// glob matches the segments of a stream, as docs/format.md names them: in one
// hour's directory, or in all ("**").
func (p place) glob(stream, format, in string) string {
	ext := map[string]string{"parquet": "parquet", "jsonl": "jsonl.zst"}[format]
	return fmt.Sprintf("%s/streams/%s/00000001/%s/%s/*.%s", p.root, escaped[stream], format, in, ext)
}

// escaped are the streams' names in keys; * matches all of them.
var escaped = map[string]string{
	shop.Orders: "shop~3aorders", shop.Payments: "shop~3apayments", shop.Shipments: "shop~3ashipments", busy: "shop~3abusy", "*": "*",
}

// reader is a program that reads Parquet files.
type reader interface {
	// rows gives the rows that a condition in SQL selects, in the order of their IDs.
	rows(ctx context.Context, glob, where string) ([]row, error)
	// count counts all of them.
	count(ctx context.Context, glob string) (int, error)
	// digest gives what [digest] gives of the events.
	digest(ctx context.Context, glob string) (string, error)
	// candidates counts the rows of those row groups of one file that may have an
	// event of this ID, by the bloom filters, and all rows.
	candidates(t *testing.T, file, eventID string) (rows, all int)
}

// checkEverything compares all that is there with the record.
func checkEverything(t *testing.T, p *published, at place, r reader) {
	count, err := r.count(t.Context(), at.glob("*", "parquet", "**"))
	if err != nil || count != p.count() {
		t.Errorf("count of everything = %d, %v; want %d", count, err, p.count())
	}
	for stream, want := range p.record {
		all := at.glob(stream, "parquet", "**")
		if got, err := r.digest(t.Context(), all); err != nil || got != digest(want) {
			t.Errorf("the rows of %s add up to %s, %v; want %s", stream, got, err, digest(want))
		}
		where := "true"
		if stream == busy { // some of them will do
			where = "id_ms % 16 = 3"
			want = slices.DeleteFunc(slices.Clone(want), func(e event.Event) bool { return e.ID.Ms%16 != 3 })
		}
		got, err := r.rows(t.Context(), all, where)
		if err != nil {
			t.Fatal(err)
		}
		checkRows(t, got, want)
	}
}

// checkSelections compares what conditions select with what they select from the
// record.
func checkSelections(t *testing.T, p *published, at place, r reader) {
	t.Helper()
	for where, selects := range map[string]func(e *event.Event) bool{
		"date = '2026-11-21'":               func(e *event.Event) bool { return hourOf(e) >= "date=2026-11-21" },
		"date = '2026-11-20' AND hour = 23": func(e *event.Event) bool { return hourOf(e) == hours[1] },
		"event_type = 'OrderPaid' AND tenant = 'acme'": func(e *event.Event) bool {
			return has(e, "event_type", "OrderPaid") && has(e, "tenant", "acme")
		},
		"occurred_at >= '2026-11-21 00:00:00' AND aggregate_version = 4": func(e *event.Event) bool {
			return hourOf(e) >= "date=2026-11-21" && has(e, "aggregate_version", "4")
		},
		"aggregate_id = '17'": func(e *event.Event) bool { return has(e, "aggregate_id", "17") },
		"event_id IS NULL":    func(e *event.Event) bool { _, ok := e.Get("event_id"); return !ok },
		fmt.Sprintf("id_ms >= %d AND id_ms < %[1]d + 60000", opening.UnixMilli()): func(e *event.Event) bool {
			return e.ID.Ms < uint64(opening.UnixMilli())+60000
		},
	} {
		var want []event.Event
		for _, e := range p.record[shop.Orders] {
			if selects(&e) {
				want = append(want, e)
			}
		}
		if len(want) == 0 || len(want) == len(p.record[shop.Orders]) {
			t.Fatalf("%s selects %d events: no test", where, len(want))
		}
		got, err := r.rows(t.Context(), at.glob(shop.Orders, "parquet", "**"), where)
		if err != nil {
			t.Fatal(err)
		}
		checkRows(t, got, want)
	}
}

// checkEventID finds one event among all, and wants the bloom filters to have
// helped.
func checkEventID(t *testing.T, p *published, at place, r reader) {
	t.Helper()
	var want event.Event
	for _, e := range p.record[busy][len(p.record[busy])/2:] {
		if _, ok := e.Get("event_id"); ok {
			want = e
			break
		}
	}
	id, _ := want.Get("event_id")
	got, err := r.rows(t.Context(), at.glob("*", "parquet", "**"), fmt.Sprintf("event_id = '%s'", id))
	if err != nil {
		t.Fatal(err)
	}
	checkRows(t, got, []event.Event{want})

	file := at.glob(busy, "parquet", hours[3])
	rows, all := r.candidates(t, file, string(id))
	if all < 50_000 || rows == 0 || rows == all {
		t.Errorf("the event may be among %d of %d rows, want those of one row group of two", rows, all)
	}
	if rows, _ := r.candidates(t, file, "77777777-7777-4777-8777-777777777777"); rows != 0 {
		t.Errorf("an event that is not there may be among %d rows", rows)
	}
}

// destroy overwrites the rows of all but the first hour of a stream; the footers
// stay, for readers take the schema from any file.
func destroy(t *testing.T, at place, stream string) {
	t.Helper()
	prefix := "streams/" + escaped[stream] + "/00000001/parquet/"
	for info, err := range at.store.List(t.Context(), prefix, objectstore.ListOptions{}) {
		if err == nil && !strings.HasPrefix(info.Key, prefix+hours[0]) {
			err = destroyRows(t.Context(), at.store, info.Key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func destroyRows(ctx context.Context, store objectstore.Store, key string) error {
	body, _, err := store.Get(ctx, key, objectstore.ByteRange{})
	if err != nil {
		return err
	}
	file, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return err
	}
	footer := len(file) - 8 - int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	for i := range file[4:footer] {
		file[4+i] = 0xa5
	}
	_, err = store.Put(ctx, key, bytes.NewReader(file), objectstore.Always)
	return err
}

// checkPruning reads the only hour that was not destroyed: who reads the rows of
// the others fails.
func checkPruning(t *testing.T, p *published, at place, r reader) {
	t.Helper()
	var want []event.Event
	for _, e := range p.record[shop.Payments] {
		if hourOf(&e) == hours[0] {
			want = append(want, e)
		}
	}
	all := at.glob(shop.Payments, "parquet", "**")
	got, err := r.rows(t.Context(), all, "date = '2026-11-20' AND hour = 22")
	if err != nil {
		t.Fatalf("not only the partition that was asked for was read: %v", err)
	}
	checkRows(t, got, want)
	if _, err := r.rows(t.Context(), all, "true"); err == nil {
		t.Error("all partitions are readable, destroyed as they are: no test")
	}
}

func hourOf(e *event.Event) string {
	return time.UnixMilli(int64(e.ID.Ms)).UTC().Format("date=2006-01-02/hour=15")
}

func has(e *event.Event, name, value string) bool {
	got, ok := e.Get(name)
	return ok && string(got) == value
}
