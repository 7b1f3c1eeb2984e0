package remedy_test

import (
	"slices"
	"testing"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"redis", "redis", 0}, {"", "url", 3}, {"redis", "", 5}, {"rdis", "redis", 1}, {"rediss", "redis", 1},
		{"radis", "redis", 1}, {"erdis", "redis", 1}, {"ca", "abc", 3}, {"kitten", "sitting", 3},
	} {
		if got := remedy.Distance(test.a, test.b); got != test.want {
			t.Errorf("Distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := slices.Values([]string{"orders", "mp", "shop:pay", "Show", "shod"})
	for typo, want := range map[string]string{
		"ordres": "orders", "ORDERS": "orders", "imp2": "", "m": "mp", "mq": "mp", "shop:apy": "shop:pay", "shwo": "Show", "shoe": "Show", "x": "", "": "",
		"invoices": "", "orderly": "orders",
	} {
		if got := remedy.Nearest(typo, names); got != want {
			t.Errorf("%q: %q, want %q", typo, got, want)
		}
	}
}
