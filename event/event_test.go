package event_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

func events() *rapid.Generator[*event.Event] {
	return rapid.Custom(func(t *rapid.T) *event.Event {
		e := &event.Event{ID: ids().Draw(t, "id")}
		text := rapid.SliceOfN(rapid.Byte(), 0, 4)
		for range rapid.IntRange(0, 5).Draw(t, "fields") {
			e.Fields = append(e.Fields, event.Field{Name: text.Draw(t, "name"), Value: text.Draw(t, "value")})
		}
		return e
	})
}

func TestDigest(t *testing.T) {
	// The encoding is specified, so these never change.
	for want, e := range map[string]*event.Event{
		"af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc": entry(),
		"fc37d51db89930a9486d09a9251efdcc349eba376f0ef4d7680bdc6f91054592": entry("a", "bc"),
	} {
		if got := event.Digest(e); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	distinct := []*event.Event{
		entry(), entry("", ""), entry("", "", "", ""), entry("a", "bc"), entry("ab", "c"), entry("abc", ""),
		entry("a", "b", "c", "d"), entry("c", "d", "a", "b"), entry("a", "bcd"), entry("ab", "cd"),
	}
	seen := make(map[string]int)
	for i, e := range distinct {
		if other, ok := seen[event.Digest(e)]; ok {
			t.Errorf("events %d and %d have the same digest", i, other)
		}
		seen[event.Digest(e)] = i
	}
}

func TestDigestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := events().Draw(t, "a"), events().Draw(t, "b")
		same := a.Equal(&event.Event{ID: a.ID, Fields: b.Fields})
		if got := event.Digest(a) == event.Digest(b); got != same {
			t.Fatalf("same digest: %t, same fields: %t", got, same)
		}
	})
}

func TestBatchAndClone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(events()).Draw(t, "events")
		var b event.Batch
		b.Append(entry("left", "over"))
		b.Reset()
		size := 0
		for _, e := range want {
			b.Append(e)
			size += e.Size()
		}
		if b.Len() != len(want) || b.Bytes() != size || b.RangeBytes(0, b.Len()) != size {
			t.Fatalf("%d events of %d bytes, want %d of %d", b.Len(), b.Bytes(), len(want), size)
		}
		var e event.Event
		for i := range want {
			b.Event(i, &e)
			clone := e.Clone()
			if !e.Equal(want[i]) || !clone.Equal(want[i]) || b.ID(i) != want[i].ID || b.RangeBytes(i, i+1) != e.Size() {
				t.Fatalf("event %d is %v, want %v", i, e, want[i])
			}
			for _, f := range clone.Fields {
				clear(f.Name)
				clear(f.Value)
			}
			if !e.Equal(want[i]) {
				t.Fatal("a clone shares memory")
			}
		}
	})
}
