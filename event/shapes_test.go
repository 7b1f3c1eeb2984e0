package event_test

import (
	"fmt"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

// TestExtractProperties runs events of few shapes, in any order, through one
// Extractor and compares with a new one each.
func TestExtractProperties(t *testing.T) {
	name := rapid.SampledFrom([]string{"id", "event_id", "Type", "data", "json", "content-type", "tenant", "x", "", "time"})
	value := rapid.SampledFrom([]string{"", "a", "b", `{"id":1,"data":2}`, `{"tenant":"\u0041"}`, `{}`, "application/cloudevents+json"})
	mappings := []event.Mapping{{}, {Document: []string{"json"}}, {Document: []string{"-"}}, {Tenant: []string{"x"}, EventID: []string{"-"}}}
	rapid.Check(t, func(t *rapid.T) {
		mapping := rapid.SampledFrom(mappings).Draw(t, "mapping")
		x := mapping.Extractor()
		shapes := make(map[string]*event.Shape)
		indexes := make(map[int]*event.Shape)
		var env event.Envelope
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			var pairs []string
			for range rapid.IntRange(0, 3).Draw(t, "fields") {
				pairs = append(pairs, name.Draw(t, "name"), value.Draw(t, "value"))
			}
			e := entry(pairs...)
			s := x.Extract(e, &env)
			var fresh event.Envelope
			want := mapping.Extractor().Extract(e, &fresh)
			if show(&env) != show(&fresh) || s.Embedded != want.Embedded || s.Source != want.Source {
				t.Fatalf("%v: %s by one used before, %s by a new one", pairs, show(&env), show(&fresh))
			}
			checkShape(t, s, e, &env)
			key := fmt.Sprintf("%q %d", s.Names, s.Embedded)
			if shapes[key] == nil {
				shapes[key] = s
			}
			if indexes[s.Index] == nil {
				indexes[s.Index] = s
			}
			if shapes[key] != s || indexes[s.Index] != s || s.Generation != 0 {
				t.Fatalf("%s has two shapes, or one with the index of another", key)
			}
		}
	})
}

func TestExtractorForgetsShapes(t *testing.T) {
	x := event.Mapping{}.Extractor()
	var env event.Envelope
	first := x.Extract(entry("id", "1", "x", ""), &env)
	generations := 0
	for i := range 3 * event.MaxShapes {
		s := x.Extract(entry("id", "1", "field"+strconv.Itoa(i), "", "type", "T"), &env)
		if s.Index >= event.MaxShapes || show(&env) != "event_id=1 event_type=T" {
			t.Fatalf("shape %d: index %d, %s", i, s.Index, show(&env))
		}
		generations = s.Generation
	}
	if generations != 3 {
		t.Errorf("%d generations, want 3", generations)
	}
	again := x.Extract(entry("id", "1", "x", ""), &env)
	if again == first || again.Generation != generations || string(first.Names[1]) != "x" {
		t.Error("the first shape was not forgotten, or damaged")
	}
}

func TestExtractorBoundsNames(t *testing.T) {
	x := event.Mapping{}.Extractor()
	var env event.Envelope
	long := make([]byte, 3<<20)
	generation := 0
	for i := range 8 {
		long[0] = byte(i)
		generation = x.Extract(entry(string(long), "", "type", "T"), &env).Generation
	}
	if generation < 4 {
		t.Errorf("%d generations of names of 3 MiB, want the memory bounded", generation)
	}
}

func TestShapesOwnTheirNames(t *testing.T) {
	x := event.Mapping{}.Extractor()
	var env event.Envelope
	e := entry("id", "1", "name", "n")
	s := x.Extract(e, &env)
	for _, f := range e.Fields {
		clear(f.Name)
	}
	if string(s.Names[0]) != "id" || string(s.Names[1]) != "name" {
		t.Errorf("names are %q", s.Names)
	}
}
