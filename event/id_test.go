package event_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

// ids draws IDs of which many are near each other or near the ends.
func ids() *rapid.Generator[event.ID] {
	part := rapid.OneOf(
		rapid.Uint64Range(0, 3), rapid.Uint64Range(math.MaxUint64-3, math.MaxUint64),
		rapid.Uint64Range(1700000000000, 1700000000003), rapid.Uint64())
	return rapid.Custom(func(t *rapid.T) event.ID {
		return event.ID{Ms: part.Draw(t, "ms"), Seq: part.Draw(t, "seq")}
	})
}

func TestParseID(t *testing.T) {
	tests := []struct {
		text string
		want event.ID
		ok   bool
	}{
		{"0-1", event.ID{Ms: 0, Seq: 1}, true},
		{"1700000000000", event.ID{Ms: 1700000000000}, true},
		{"18446744073709551615-18446744073709551615", event.MaxID, true},
		{"00000000000000000007-00000000000000000009", event.ID{Ms: 7, Seq: 9}, true},
		{text: ""}, {text: "-"}, {text: "+"}, {text: "$"}, {text: "1-"}, {text: "-1"}, {text: "1-2-3"}, {text: "+1-2"},
		{text: "1_0-2"}, {text: "0x1-2"}, {text: " 1-2"}, {text: "18446744073709551616-0"}, {text: "1-*"},
	}
	for _, tt := range tests {
		got, err := event.ParseID(tt.text)
		if got != tt.want || (err == nil) != tt.ok || err != nil && !errors.Is(err, event.ErrInvalidID) {
			t.Errorf("ParseID(%q) = %v, %v", tt.text, got, err)
		}
	}
}

func TestIDProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := ids().Draw(t, "a"), ids().Draw(t, "b")
		if got, want := a.Compare(b), strings.Compare(a.Sortable(), b.Sortable()); got != want {
			t.Fatalf("Compare gives %d, their texts %d", got, want)
		}
		if a.Compare(b) != -b.Compare(a) || a.Less(b) != (a.Compare(b) < 0) {
			t.Fatal("the order is none")
		}
		for _, text := range []string{a.String(), a.Sortable()} {
			if back, err := event.ParseID(text); err != nil || back != a {
				t.Fatalf("%q is read as %v, %v", text, back, err)
			}
		}
		if next := a.Next(); a != event.MaxID && (!a.Less(next) || next.Prev() != a) {
			t.Fatalf("next is %v, before that %v", next, next.Prev())
		}
		if prev := a.Prev(); !a.IsZero() && (!prev.Less(a) || prev.Next() != a) {
			t.Fatalf("previous is %v, after that %v", prev, prev.Next())
		}
		if a.Less(b) && b.Less(a.Next()) {
			t.Fatal("there is an ID between one and its next")
		}
		text, err := json.Marshal(a)
		var back event.ID
		if err != nil || json.Unmarshal(text, &back) != nil || back != a {
			t.Fatalf("%s is read as %v", text, back)
		}
	})
}

func TestIDEnds(t *testing.T) {
	if event.MaxID.Next() != event.MaxID {
		t.Error("there is an ID after the highest")
	}
	if (event.ID{}).Prev() != (event.ID{}) {
		t.Error("there is an ID before 0-0")
	}
}

func FuzzParseID(f *testing.F) {
	for _, seed := range []string{"0-1", "1700000000000-0", "18446744073709551615-1", "-", "1-", "007-1", "+1-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := event.ParseID(text)
		if err != nil {
			return
		}
		if strings.Trim(text, "0123456789-") != "" {
			t.Fatalf("%q is no ID", text)
		}
		if back, err := event.ParseID(id.String()); err != nil || back != id {
			t.Fatalf("%q gives %v, and that %v", text, id, back)
		}
	})
}
