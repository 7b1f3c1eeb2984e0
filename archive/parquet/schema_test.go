package parquet_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
)

const wantSchema = `message event {
	required int64 id_ms (INT(64,false));
	required int64 id_seq (INT(64,false));
	optional binary event_id (STRING);
	optional binary event_type (STRING);
	optional binary tenant (STRING);
	optional binary aggregate_type (STRING);
	optional binary aggregate_id (STRING);
	optional int64 aggregate_version (INT(64,true));
	optional int64 occurred_at (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS));
	optional binary correlation_id (STRING);
	optional binary causation_id (STRING);
	optional binary schema_version (STRING);
	optional binary payload (STRING);
	required binary layout (STRING);
	required group rest (LIST) {
		repeated group list {
			required binary element;
		}
	}
}`

func TestSchema(t *testing.T) {
	file := write(t, sampleEvents(), parquet.Options{})
	f, err := pq.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Schema().String(); got != wantSchema {
		t.Errorf("schema is\n%s\nwant\n%s", got, wantSchema)
	}
	for i, column := range f.RowGroups()[0].ColumnChunks() {
		name := strings.Join(f.Schema().Columns()[i], ".")
		wantFilter := name == "event_id" || name == "aggregate_id"
		if hasFilter := column.BloomFilter() != nil; hasFilter != wantFilter {
			t.Errorf("column %s: has a bloom filter is %t, want %t", name, hasFilter, wantFilter)
		}
		index, err := column.ColumnIndex()
		if err != nil || index.NumPages() == 0 {
			t.Errorf("column %s: column index of %d pages, %v", name, index.NumPages(), err)
		}
	}
}

// row is how anybody would declare the columns.
type row struct {
	IDMs             uint64   `parquet:"id_ms"`
	IDSeq            uint64   `parquet:"id_seq"`
	EventID          *string  `parquet:"event_id,optional"`
	EventType        *string  `parquet:"event_type,optional"`
	Tenant           *string  `parquet:"tenant,optional"`
	AggregateVersion *int64   `parquet:"aggregate_version,optional"`
	OccurredAt       *int64   `parquet:"occurred_at,optional"`
	Payload          *string  `parquet:"payload,optional"`
	Layout           string   `parquet:"layout"`
	Rest             [][]byte `parquet:"rest,list"`
}

func microsOf(t *testing.T, text string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMicro()
}

// The library's generic reader sees in the columns what the fields say.
func TestGenericReader(t *testing.T) {
	events := sampleEvents()
	file := write(t, events, parquet.Options{})
	rows, err := pq.Read[row](bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(events) {
		t.Fatalf("%d rows, want %d", len(rows), len(events))
	}
	check := func(i int, column string, got *string, field string) {
		want, has := events[i].Get(field)
		switch {
		case has != (got != nil):
			t.Errorf("row %d: column %s is %v, the event has a %s: %t", i, column, got, field, has)
		case has && *got != string(want):
			t.Errorf("row %d: column %s is %q, want %q", i, column, *got, want)
		}
	}
	for i, r := range rows {
		if r.IDMs != events[i].ID.Ms || r.IDSeq != events[i].ID.Seq {
			t.Errorf("row %d: ID %d-%d, want %s", i, r.IDMs, r.IDSeq, events[i].ID)
		}
		if i >= 100 { // odd ones
			continue
		}
		check(i, "event_id", r.EventID, "event_id")
		check(i, "event_type", r.EventType, "event_type")
		check(i, "tenant", r.Tenant, "tenant")
		check(i, "payload", r.Payload, "payload")
		if len(r.Rest) != 0 {
			t.Errorf("row %d: rest is %q, want nothing: all fields have columns", i, r.Rest)
		}
		if at, _ := events[i].Get("occurred_at"); r.OccurredAt == nil || microsOf(t, string(at)) != *r.OccurredAt {
			t.Errorf("row %d: occurred_at is %v, want %s", i, r.OccurredAt, at)
		}
	}
	odd := rows[slices.IndexFunc(events, func(e event.Event) bool {
		return len(e.Fields) == 3 && string(e.Fields[2].Name) == "type"
	})]
	if want := `[["type","event_type"],"type","type"]`; odd.Layout != want || len(odd.Rest) != 2 || *odd.EventType != "A" {
		t.Errorf("layout %s, rest %q, want %s and the other two values", odd.Layout, odd.Rest, want)
	}
}
