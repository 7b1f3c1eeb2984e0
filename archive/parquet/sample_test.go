package parquet_test

import (
	"flag"
	"os"
	"testing"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
)

var update = flag.Bool("update", false, "write testdata/v1.parquet anew; only while version 1 is not released")

const samplePath = "testdata/v1.parquet"

// sampleEvents are ordinary events and then odd ones, but for the largest.
func sampleEvents() []event.Event {
	var events []event.Event
	for _, b := range shop(100) {
		for i := range b.Len() {
			var e event.Event
			b.Event(i, &e)
			e.ID = event.ID{Ms: 1_000_000_000_000 + e.ID.Ms%1000, Seq: e.ID.Seq}
			events = append(events, e.Clone())
		}
	}
	for _, e := range oddEvents() {
		if e.Size() < 1<<14 && events[len(events)-1].ID.Less(e.ID) {
			events = append(events, e)
		}
	}
	return events
}

// The sample was written by the first release that writes version 1. Every
// later one reads it.
func TestSampleOfVersion1(t *testing.T) {
	if *update {
		file := write(t, sampleEvents(), parquet.Options{Stream: "shop/orders ü", Incarnation: 7, RowGroupRows: 64,
			Mapping: event.Mapping{Tenant: []string{"tenant", "shop"}}})
		if err := os.WriteFile(samplePath, file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(samplePath)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, file)
	diff(t, read(t, f, parquet.ReadSpec{}), sampleEvents())
	m := f.Metadata()
	if m.Version != 1 || m.Stream != "shop/orders ü" || m.Incarnation != 7 || len(m.Mapping.Tenant) != 2 {
		t.Errorf("Metadata() = %+v", m)
	}
	if groups := f.RowGroups(); len(groups) < 2 || groups[0].Rows != 64 {
		t.Errorf("RowGroups() = %+v, want several, the first of 64 rows", groups)
	}
}
