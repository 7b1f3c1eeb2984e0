package event_test

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

func TestEnvelopeTime(t *testing.T) {
	const year10000 = 253402300800000
	tests := []struct {
		value string
		id    event.ID
		want  int64
		ok    bool
	}{
		{"1970-01-01T00:00:01Z", event.ID{Ms: 5}, 1e6, true},
		{"", event.ID{Ms: 5}, 5000, true},
		{"yesterday", event.ID{Ms: 5}, 5000, true},
		{"1970-01-01T00:00:01Z", event.ID{Ms: math.MaxUint64}, 1e6, true},
		{"", event.ID{Ms: year10000 - 1}, (year10000 - 1) * 1000, true},
		{"", event.ID{Ms: year10000}, 0, false},
		{"x", event.MaxID, 0, false},
	}
	for _, tt := range tests {
		var env event.Envelope
		if tt.value != "" {
			env.Set(event.OccurredAt, []byte(tt.value))
		}
		if got, ok := env.Time(tt.id); got != tt.want || ok != tt.ok {
			t.Errorf("%q, %v: got %d, %t", tt.value, tt.id, got, ok)
		}
	}
}

func TestAggregateVersion(t *testing.T) {
	tests := []struct {
		value string
		want  int64
		ok    bool
	}{
		{"7", 7, true}, {"007", 7, true}, {"+7", 7, true}, {"-9223372036854775808", math.MinInt64, true},
		{"7.0", 0, false}, {"", 0, false}, {"9223372036854775808", 0, false}, {"v7", 0, false},
	}
	for _, tt := range tests {
		var env event.Envelope
		env.Set(event.Version, []byte(tt.value))
		if got, ok := env.AggregateVersion(); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: got %d, %t", tt.value, got, ok)
		}
		env.Reset()
		if _, ok := env.AggregateVersion(); ok {
			t.Error("a version after Reset")
		}
	}
}

func TestEnvelopeText(t *testing.T) {
	long := strings.Repeat("x", event.MaxText)
	for _, tt := range []struct {
		attribute event.Attribute
		value     string
		ok        bool
	}{
		{event.Type, "OrderPaid", true}, {event.Type, "", true}, {event.Type, "Order\xff", false}, {event.Type, long, true}, {event.Type, long + "x", false},
		{event.Payload, long + "x", true}, {event.Payload, "\xff", false},
	} {
		var env event.Envelope
		if got, ok := env.Text(tt.attribute); ok || got != nil {
			t.Errorf("an envelope without attributes has %q", got)
		}
		env.Set(tt.attribute, []byte(tt.value))
		if got, ok := env.Text(tt.attribute); ok != tt.ok || ok && string(got) != tt.value {
			t.Errorf("%.20q: got %.20q, %t", tt.value, got, ok)
		}
	}
}

func TestParseCanonicalInt(t *testing.T) {
	canonical := func(t interface{ Fatalf(string, ...any) }, text string) {
		n, err := strconv.ParseInt(text, 10, 64)
		want := err == nil && strconv.FormatInt(n, 10) == text
		if got, ok := event.ParseCanonicalInt([]byte(text)); ok != want || ok && got != n {
			t.Fatalf("%q: got %d, %t, want %d, %t", text, got, ok, n, want)
		}
	}
	for _, text := range []string{
		"", "-", "+", "0", "-0", "00", "01", "+1", "-01", "1", "-1", " 1", "1 ", "1_0", "0x1", "9223372036854775807",
		"9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551616", "99999999999999999999",
	} {
		canonical(t, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		canonical(t, strconv.FormatInt(rapid.Int64().Draw(t, "n"), 10))
		canonical(t, rapid.StringMatching(`[-+]?[0-9]{0,21}`).Draw(t, "text"))
	})
}
