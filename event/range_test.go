package event_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

var present = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) // 1795262400000

func ms(n uint64) event.Range {
	return event.Range{From: event.ID{Ms: n}, To: event.ID{Ms: n, Seq: math.MaxUint64}}
}

func TestParseBound(t *testing.T) {
	const noon, day = 1795262400000, 24 * 3600 * 1000
	id := event.ID{Ms: 1700000000000, Seq: 3}
	tests := []struct {
		text string
		want event.Range
	}{
		{"", event.Range{}},
		{"  ", event.Range{}},
		{"1700000000000-3", event.Range{From: id, To: id}},
		{"0-1", event.Range{From: event.ID{Seq: 1}, To: event.ID{Seq: 1}}},
		{"1234-56789", event.Range{From: event.ID{Ms: 1234, Seq: 56789}, To: event.ID{Ms: 1234, Seq: 56789}}},
		{"1700000000000", ms(1700000000000)},
		{"5", ms(5)},
		{"18446744073709551615", ms(math.MaxUint64)},
		{"2026-11-21T12:00:00Z", ms(noon)},
		{"2026-11-21T13:00:00.0019+01:00", ms(noon + 1)},
		{"2026-11-21", event.Range{From: event.ID{Ms: noon - day/2}, To: event.ID{Ms: noon + day/2 - 1, Seq: math.MaxUint64}}},
		{"now", ms(noon)},
		{" NOW ", ms(noon)},
		{"2h ago", ms(noon - 2*3600*1000)},
		{"90m ago", ms(noon - 90*60*1000)},
		{"7d ago", ms(noon - 7*day)},
		{"1w 1d 12h30m ago", ms(noon - 8*day - 12*3600*1000 - 30*60*1000)},
		{"1.5h Ago", ms(noon - 90*60*1000)},
		{"0s ago", ms(noon)},
	}
	for _, tt := range tests {
		if got, err := event.ParseBound(tt.text, present); err != nil || got != tt.want {
			t.Errorf("%q: got %v, %v; want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseBoundErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"yesterday", "want an ID"},
		{"-", "want an ID"},
		{"1-2-3", "want an ID"},
		{"18446744073709551616", "want an ID"},
		{"2026-11-31", "want a date"},
		{"1969-12-31", "before 1970"},
		{"60000d ago", "before 1970"},
		{"2026-11-21T12:00:00", "RFC 3339 with an offset"},
		{"2026-11-21T25:00:00Z", "RFC 3339"},
		{"1700000000", `want "1700000000000", or "1700000000-0"`},
		{"ago", "want an age"},
		{"d ago", "want an age"},
		{"-2h ago", "want an age"},
		{"2 years ago", "want an age"},
		{"4294967295w ago", "want an age"},
		{"2h", "want an ID"},
	}
	for _, tt := range tests {
		_, err := event.ParseBound(tt.text, present)
		if !errors.Is(err, event.ErrInvalidBound) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q in it", tt.text, err, tt.want)
		}
	}
}

func TestParseRange(t *testing.T) {
	day, err := event.ParseRange("2026-11-21", "2026-11-21", present)
	if err != nil || !day.Contains(event.ID{Ms: 1795262400000}) || day.Contains(day.To.Next()) || day.Contains(day.From.Prev()) {
		t.Errorf("a day is %v, %v", day, err)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"x", "", "from: "}, {"", "x", "to: "}, {"now", "1h ago", "lies after"}, {"", "0-0", "to: "},
	} {
		if _, err := event.ParseRange(tt.from, tt.to, present); !errors.Is(err, event.ErrInvalidBound) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q to %q: got %v, want %q in it", tt.from, tt.to, err, tt.want)
		}
	}
	if all, err := event.ParseRange("0-0", "", present); err != nil || all != (event.Range{}) {
		t.Errorf("everything is %v, %v", all, err)
	}
}

func TestRangeOf(t *testing.T) {
	at := time.UnixMicro(1700000000000_999)
	if got, want := event.RangeOf(at, at), ms(1700000000000); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := event.RangeOf(time.Time{}, time.Time{}); got != (event.Range{}) {
		t.Errorf("got %v, want everything", got)
	}
	if got := event.RangeOf(at, time.Time{}); got.String() != "1700000000000-0.." {
		t.Errorf("got %s", got)
	}
}

// TestRangeAlgebra compares with sets of few IDs, of which 0-0 is open.
func TestRangeAlgebra(t *testing.T) {
	const n = 6
	small := rapid.Custom(func(t *rapid.T) event.ID {
		i := rapid.IntRange(0, n).Draw(t, "id")
		if i == n {
			return event.MaxID
		}
		return event.ID{Ms: uint64(i / 3), Seq: uint64(i % 3)}
	})
	all := []event.ID{{Seq: 1}, {Seq: 2}, {Ms: 1}, {Ms: 1, Seq: 1}, {Ms: 1, Seq: 2}, event.MaxID}
	rapid.Check(t, func(t *rapid.T) {
		a := event.Range{From: small.Draw(t, "from"), To: small.Draw(t, "to")}
		b := event.Range{From: small.Draw(t, "from"), To: small.Draw(t, "to")}
		holds := func(r event.Range, id event.ID) bool {
			return (r.From.IsZero() || !id.Less(r.From)) && (r.To.IsZero() || !r.To.Less(id))
		}
		first, last := small.Draw(t, "first"), small.Draw(t, "last")
		some, overlap := false, false
		both := a.Intersect(b)
		for _, id := range all {
			in := holds(a, id)
			some = some || in
			overlap = overlap || in && !id.Less(first) && !last.Less(id)
			if a.Contains(id) != in {
				t.Fatalf("%v contains %v: %t", a, id, !in)
			}
			if both.Contains(id) != (in && holds(b, id)) {
				t.Fatalf("%v and %v have in common %v: wrong at %v", a, b, both, id)
			}
		}
		if a.IsEmpty() == some {
			t.Fatalf("%v is empty: %t", a, some)
		}
		if !first.IsZero() && a.Overlaps(first, last) != overlap {
			t.Fatalf("%v overlaps %v to %v: %t", a, first, last, !overlap)
		}
	})
}

func FuzzParseBound(f *testing.F) {
	for _, seed := range []string{
		"", "1700000000000-3", "1700000000000", "2026-11-21T12:00:00Z", "2026-11-21", "now", "1w2d3h ago", "2h", "-1h ago",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := event.ParseBound(text, present)
		if err != nil {
			if !errors.Is(err, event.ErrInvalidBound) || r != (event.Range{}) {
				t.Fatalf("%q: %v, %v", text, r, err)
			}
			return
		}
		if r.IsEmpty() {
			t.Fatalf("%q names nothing", text)
		}
		if id, err := event.ParseID(text); err == nil && (r.From != id || r.To.Ms != id.Ms) {
			t.Fatalf("%q is %v", text, r)
		}
	})
}
