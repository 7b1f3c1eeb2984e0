package foldstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/foldstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// story is a state that shows every event, in its order, and any that came twice.
type story struct {
	Versions []int64 `json:"versions"`
	Padding  string  `json:"padding"`
}

func folder(t interface{ Fatal(...any) }) projection.Folder {
	registry, err := projection.NewRegistry(projection.NewFold("story", projection.Folds[story]{
		Apply: func(s story, e *projection.Event) (story, error) {
			if e.Type == "poison" {
				return s, fmt.Errorf("it is poison")
			}
			s.Versions = append(slices.Clip(s.Versions), e.Version)
			s.Padding = e.Payload
			return s, nil
		},
		Rows: func(key string, s story) ([]projection.Row, error) {
			text, err := json.Marshal(s.Versions)
			return []projection.Row{{"key": key, "versions": string(text)}}, err
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	set, err := projection.Parse("story.yaml", definition(), registry)
	if err != nil {
		t.Fatal(err)
	}
	d, err := set.Get("story")
	if err != nil {
		t.Fatal(err)
	}
	f, err := set.Folder(d)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func aggregateEvent(stream string, n int, aggregate string) *projection.Event {
	return &projection.Event{
		Stream: stream, ID: event.ID{Ms: uint64(n + 1)}, AggregateID: aggregate, Version: int64(n), HasVersion: true,
		Payload: fmt.Sprintf("%0200d", n),
	}
}

// apply takes an event to its part.
func apply(s *foldstore.Store, e *projection.Event) (bool, error) {
	key := e.Aggregate()
	return s.Part(s.PartOf(key)).Apply(key, e)
}

// rowsOf gives the rows of all aggregates, in the order of their keys.
func rowsOf(t interface{ Fatal(...any) }, ctx contextOf, s *foldstore.Store) []string {
	const workers = 3
	each, last := make([][]string, workers), make([]string, workers)
	if err := s.Each(ctx.Context(), workers, func(_ context.Context, worker int, a foldstore.Aggregate) error {
		if a.Key <= last[worker] {
			return fmt.Errorf("worker %d gets %q after %q", worker, a.Key, last[worker])
		}
		last[worker] = a.Key
		for _, row := range a.Rows {
			each[worker] = append(each[worker], fmt.Sprint(row["key"], row["versions"]))
		}
		return a.Err
	}); err != nil {
		t.Fatal(err)
	}
	out := slices.Concat(each...)
	slices.Sort(out)
	return out
}

// TestSpills: with memory for a small part of the states, the rows are those that a
// map in memory gives.
func TestSpills(t *testing.T) {
	const aggregates, events = 1000, 10000
	want := map[string][]int64{}
	open := func(bytes int64, parts int) *foldstore.Store {
		s, err := foldstore.Open(folder(t), foldstore.Options{Dir: filepath.Join(t.TempDir(), "states"), Identity: "a", MaxBytes: bytes, Parts: parts})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	small, large := open(64<<10, 4), open(1<<30, 1)
	for n := range events {
		key := fmt.Sprint(n * 7919 % aggregates)
		e := aggregateEvent("s", n, key)
		want[e.Aggregate()] = append(want[e.Aggregate()], int64(n))
		for _, s := range []*foldstore.Store{small, large} {
			if applied, err := apply(s, e); err != nil || !applied {
				t.Fatal(applied, err)
			}
		}
	}
	var model []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		text, err := json.Marshal(want[key])
		if err != nil {
			t.Fatal(err)
		}
		model = append(model, fmt.Sprint(key, string(text)))
	}
	slices.Sort(model)
	for name, s := range map[string]*foldstore.Store{"small": small, "large": large} {
		if got := rowsOf(t, contextOf{t}, s); !slices.Equal(got, model) {
			t.Errorf("%s: %d rows, want %d; or they differ", name, len(got), len(model))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestStartsAgain: whoever goes on from the last checkpoint, after being cut off
// anywhere, ends with the states of one who never was; each event counts once.
func TestStartsAgain(t *testing.T) {
	f := folder(t)
	rapid.Check(t, func(rt *rapid.T) {
		dir := filepath.Join(t.TempDir(), "states")
		n := rapid.IntRange(1, 150).Draw(rt, "events")
		var events []*projection.Event
		want := map[string][]int64{}
		for i := range n {
			e := aggregateEvent(rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "stream"), i, fmt.Sprint(rapid.IntRange(0, 20).Draw(rt, "aggregate")))
			events = append(events, e)
			want[e.Aggregate()] = append(want[e.Aggregate()], e.Version)
		}
		next := 0
		for next < n {
			s, err := foldstore.Open(f, foldstore.Options{Dir: dir, Identity: "a", MaxBytes: 2000, Parts: rapid.IntRange(1, 5).Draw(rt, "parts")})
			if err != nil {
				rt.Fatal(err)
			}
			positions := maps.Clone(s.Positions())
			if positions == nil {
				positions = map[string]projection.Position{}
			}
			next = 0
			for next < n && events[next].ID.Compare(positions[events[next].Stream].ID) <= 0 {
				next++ // what comes before the first that is after the checkpoint
			}
			for steps := rapid.IntRange(20, 100).Draw(rt, "until"); steps > 0 && next < n; steps-- {
				e := events[next]
				if _, err := apply(s, e); err != nil {
					rt.Fatal(err)
				}
				next++
				positions[e.Stream] = projection.Position{ID: e.ID}
				if rapid.IntRange(0, 30).Draw(rt, "checkpoint") == 0 {
					if err := s.Checkpoint(positions); err != nil {
						rt.Fatal(err)
					}
				}
			}
			if next == n {
				if err := s.Checkpoint(positions); err != nil {
					rt.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
		}
		s, err := foldstore.Open(f, foldstore.Options{Dir: dir, Identity: "a"})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		got := rowsOf(rt, contextOf{t}, s)
		var model []string
		for _, key := range slices.Sorted(maps.Keys(want)) {
			text, err := json.Marshal(want[key])
			if err != nil {
				rt.Fatal(err)
			}
			model = append(model, fmt.Sprint(key, string(text)))
		}
		slices.Sort(model)
		if !slices.Equal(got, model) {
			rt.Fatalf("got %v, want %v", got, model)
		}
	})
}

// TestAnotherIdentity: states of another build are not taken for this one's.
func TestAnotherIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "states")
	for i, identity := range []string{"a", "b", "b"} {
		s, err := foldstore.Open(folder(t), foldstore.Options{Dir: dir, Identity: identity})
		if err != nil {
			t.Fatal(err)
		}
		if kept := len(s.Positions()) > 0; kept != (i == 2) {
			t.Errorf("%d: positions %v", i, s.Positions())
		}
		if _, err := apply(s, aggregateEvent("s", i, "1")); err != nil {
			t.Fatal(err)
		}
		if err := s.Checkpoint(map[string]projection.Position{"s": {ID: event.ID{Ms: 1}}}); err != nil {
			t.Fatal(err)
		}
		if got := rowsOf(t, contextOf{t}, s); i < 2 && len(got) != 1 {
			t.Errorf("%d: %v", i, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPoison: an event that cannot be used leaves its state as it was.
func TestPoison(t *testing.T) {
	s, err := foldstore.Open(folder(t), foldstore.Options{Dir: filepath.Join(t.TempDir(), "states")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	poison := aggregateEvent("s", 1, "1")
	poison.Type = "poison"
	for _, e := range []*projection.Event{aggregateEvent("s", 0, "1"), poison, aggregateEvent("s", 2, "1")} {
		applied, err := apply(s, e)
		if applied != (e != poison) || (err != nil) != (e == poison) {
			t.Errorf("%d: %v %v", e.Version, applied, err)
		}
	}
	if got := rowsOf(t, contextOf{t}, s); len(got) != 1 || got[0] != "\x00\x001[0,2]" {
		t.Errorf("%q", got)
	}
}

func TestPartitionsAreEven(t *testing.T) {
	counts := make([]int, 4)
	for i := range 10000 {
		counts[foldstore.Partition(fmt.Sprintf("acme\x00order\x00%d", i), 4)]++
	}
	for _, c := range counts {
		if c < 2300 || c > 2700 {
			t.Errorf("%v", counts)
		}
	}
}
