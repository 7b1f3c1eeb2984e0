package upcast_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/upcast"
)

// TestGuide: the rules that the guide shows are valid, and their samples pass.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../docs/upcasting.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(block[1], "upcasters:") {
			continue
		}
		shown++
		for _, r := range parse(t, block[1]).Check().Samples {
			if !r.Passed() {
				t.Errorf("%s: %v %v", r.Sample.Source, r.Err, r.Differences)
			}
		}
	}
	if shown < 2 {
		t.Errorf("the guide shows %d files", shown)
	}
}

const declared = `
upcasters:
  - type: OrderPlaced
    to: "2"
    steps:
      - rename: {path: customer_name, to: customer.name}
`

func Example() {
	split := upcast.Func("OrderPlaced", "2", "3", "split names, 1", func(e *upcast.Edit) error {
		name, ok, err := e.Get("customer.name")
		if err != nil || !ok {
			return err
		}
		first, last, _ := strings.Cut(strings.Trim(string(name), `"`), " ")
		return errors.Join(e.Set("customer.first", first), e.Set("customer.last", last), e.Drop("customer.name"))
	})
	set, err := upcast.Parse("orders.yaml", strings.NewReader(declared), split)
	if err != nil {
		fmt.Println(err)
		return
	}
	mapping := event.Mapping{} // the names of fields that are usual
	var (
		extract  = mapping.Extractor()
		upcaster = set.Upcaster(mapping)
		env      event.Envelope
		out      event.Batch
	)
	old := event.Event{ID: event.ID{Ms: 1}, Fields: []event.Field{
		{Name: []byte("type"), Value: []byte("OrderPlaced")},
		{Name: []byte("payload"), Value: []byte(`{"total": 1e400, "customer_name": "Ada Lovelace"}`)},
	}}
	shape := extract.Extract(&old, &env)
	if set.Wants(&env) {
		if _, err := upcaster.Apply(&old, &env, shape, &out); err != nil {
			fmt.Println(err)
			return
		}
	}
	var today event.Event
	out.Event(0, &today)
	for _, f := range today.Fields {
		fmt.Printf("%s: %s\n", f.Name, f.Value)
	}
	// Output:
	// type: OrderPlaced
	// payload: {"total": 1e400,"customer":{"first":"Ada","last":"Lovelace"}}
	// schema_version: 3
}
