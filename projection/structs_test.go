package projection_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/reservoirhq/reservoir/projection"
)

// item is a row of the tests as a struct.
type item struct {
	ID     string          `ch:"id"`
	Line   uint8           `ch:"line"`
	Price  decimal.Decimal `ch:"price"`
	Text   string          `ch:"text_price"`
	At     time.Time       `ch:"at"`
	Note   *string         `ch:"note"`
	Tags   []string        `ch:"tags"`
	Ignore func()
}

const itemsYAML = `
name: items
kind: map
source: {streams: ["shop"]}
table:
  engine: MergeTree
  order_by: [id, line]
  columns:
    id: LowCardinality(String)
    line: UInt8
    price: Decimal(18, 2)
    text_price: Decimal(12, 3)
    at: DateTime64(3, 'UTC')
    note: Nullable(String)
    tags: Array(String)
    left_out: UInt64
`

// Structs give the rows that maps give.
func TestStructsAreRows(t *testing.T) {
	note := "n"
	made := func(e *projection.Event) (rows []item, err error) {
		if e.Version == 13 {
			err = errors.New("thirteen")
		}
		price := decimal.New(e.Version, -2)
		for i := range e.Version % 4 {
			rows = append(rows, item{e.AggregateID, uint8(i), price, "1.5", e.OccurredAt, &note, []string{"a", fmt.Sprint(i)}, nil})
			price, note = price.Add(decimal.New(7, 0)), note+"!"
		}
		return rows, err
	}
	events, err := projection.ReadEvents("events.jsonl", strings.NewReader(`
{"stream":"shop","id":"1-0","type":"A","aggregate_id":"7","aggregate_version":1}
{"stream":"shop","id":"2-0","type":"A","aggregate_id":"8","aggregate_version":13}
{"stream":"shop","id":"3-0","type":"A","aggregate_id":"9","aggregate_version":3,"time":"2026-11-21T07:00:00Z"}
{"stream":"shop","id":"4-0","type":"A","aggregate_id":"10","aggregate_version":4}
`))
	if err != nil {
		t.Fatal(err)
	}
	db := connect(t)
	try := func(f projection.Function) *projection.Trial {
		note = "n"
		registry, err := projection.NewRegistry(f)
		if err != nil {
			t.Fatal(err)
		}
		set, err := projection.Parse("items.yaml", strings.NewReader(itemsYAML), registry)
		if err != nil {
			t.Fatal(err)
		}
		d, err := set.Get("items")
		if err != nil {
			t.Fatal(err)
		}
		trial, err := set.Try(t.Context(), db, d, events)
		if err != nil {
			t.Fatal(err)
		}
		return trial
	}
	structs := try(projection.NewMapOf("items", func(e *projection.Event, add func(item)) error {
		rows, err := made(e)
		for _, row := range rows {
			add(row)
		}
		return err
	}))
	maps := try(projection.NewMap("items", func(e *projection.Event) ([]projection.Row, error) {
		rows, err := made(e)
		var out []projection.Row
		for _, r := range rows {
			out = append(out, projection.Row{
				"id": r.ID, "line": r.Line, "price": r.Price, "text_price": r.Text, "at": r.At, "note": r.Note, "tags": r.Tags,
			})
		}
		return out, err
	}))
	if len(structs.Rows.Rows) != 4 || !reflect.DeepEqual(structs.Rows, maps.Rows) {
		t.Errorf("structs give %s, maps %s", structs.Rows.Rows, maps.Rows.Rows)
	}
	if len(structs.Unusable) != 1 || !reflect.DeepEqual(structs.Unusable, maps.Unusable) {
		t.Errorf("structs: %+v, maps: %+v", structs.Unusable, maps.Unusable)
	}
}

// What cannot be a row is said before there are events.
func TestStructsThatAreNoRows(t *testing.T) {
	type other struct {
		Nonsense string `ch:"nonsense"`
	}
	for name, f := range map[string]projection.Function{
		"not structs":  projection.NewMapOf("items", func(*projection.Event, func(int)) error { return nil }),
		"no field":     projection.NewMapOf("items", func(*projection.Event, func(struct{ A int })) error { return nil }),
		"no column":    projection.NewMapOf("items", func(*projection.Event, func(other)) error { return nil }),
		"the function": projection.NewMapOf[item]("items", nil),
	} {
		registry, err := projection.NewRegistry(f)
		if err == nil {
			_, err = projection.Parse("items.yaml", strings.NewReader(itemsYAML), registry)
		}
		if err == nil {
			t.Errorf("%s: there is no error", name)
		}
	}
}

// BenchmarkRowsOfMap compares rows that are structs with rows that are maps, from the
// function to the columns.
func BenchmarkRowsOfMap(b *testing.B) {
	e := &projection.Event{AggregateID: "o-123456", Version: 3, OccurredAt: time.UnixMilli(1_760_000_000_000).UTC()}
	for name, f := range map[string]projection.Function{
		"structs": projection.NewMapOf("items", func(e *projection.Event, add func(item)) error {
			add(item{ID: e.AggregateID, Line: 1, Price: decimal.New(e.Version, -2), Text: "1.500", At: e.OccurredAt})
			return nil
		}),
		"maps": projection.NewMap("items", func(e *projection.Event) ([]projection.Row, error) {
			return []projection.Row{{"id": e.AggregateID, "line": uint8(1), "price": decimal.New(e.Version, -2), "text_price": "1.500", "at": e.OccurredAt}}, nil
		}),
	} {
		b.Run(name, func(b *testing.B) {
			registry, err := projection.NewRegistry(f)
			if err != nil {
				b.Fatal(err)
			}
			set, err := projection.Parse("items.yaml", strings.NewReader(itemsYAML), registry)
			if err != nil {
				b.Fatal(err)
			}
			d, err := set.Get("items")
			if err != nil {
				b.Fatal(err)
			}
			rows, err := projection.NewRows(&d.Table)
			if err != nil {
				b.Fatal(err)
			}
			add, err := set.Adder(d, rows)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if rows.Len() == 50_000 {
					rows.Reset()
				}
				if err := add(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
