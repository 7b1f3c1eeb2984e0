package parquet_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
)

// A Writer that was used before writes the same bytes as a new one, whatever
// it wrote: several row groups, dictionaries that grew too large for
// themselves, other options.
func TestResetIsAsGoodAsNew(t *testing.T) {
	distinct := make([]event.Event, 40_000)
	for i := range distinct {
		distinct[i] = event.Event{ID: event.ID{Ms: uint64(i + 1)}, Fields: fields("event_type", fmt.Sprintf("type-%040d", i), fmt.Sprint("name", i%5000), "x")}
	}
	files := []struct {
		events []event.Event
		opts   parquet.Options
	}{
		{sampleEvents(), parquet.Options{Stream: "a", Incarnation: 1, RowGroupRows: 10}},
		{sampleEvents()[:3], parquet.Options{Stream: "b", Incarnation: 2}},
		{distinct, parquet.Options{Stream: "c", Incarnation: 3}},
		{nil, parquet.Options{}},
		{sampleEvents(), parquet.Options{Stream: "d", Incarnation: 4}},
		{sampleEvents(), parquet.Options{Stream: "e", Mapping: event.Mapping{Tenant: []string{"event_type"}}}},
	}
	var w parquet.Writer
	for i, f := range files {
		got, want := writeWith(t, &w, f.events, f.opts), write(t, f.events, f.opts)
		if !bytes.Equal(got, want) {
			t.Errorf("file %d: %d bytes by a Writer that was reset, %d by a new one, or other ones", i, len(got), len(want))
		}
		diff(t, read(t, open(t, got), parquet.ReadSpec{}), f.events)
	}
}
