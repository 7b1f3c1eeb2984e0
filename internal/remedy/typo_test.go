package remedy_test

import (
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
