package event_test

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

// These are what KEYS of redis-server 7.0.15 gives.
var patterns = []struct {
	pattern, name string
	want          bool
}{
	{"", "", true}, {"", "a", false}, {"a", "", false}, {"*", "", true}, {"**", "", false}, {"?", "", false},
	{"*", "anything", true}, {"**", "x", true}, {"a*", "a", true}, {"a**", "a", true}, {"*a", "a", true},
	{"orders", "orders", true}, {"orders", "orders2", false}, {"orders", "order", false}, {"Orders", "orders", false},
	{"orders:*", "orders:eu", true}, {"orders:*", "orders", false}, {"orders:*:in", "orders:eu:de:in", true},
	{"*:in", "a:in:out", false}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "acb", false}, {"*ab", "aab", true},
	{"*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaac", false},
	{"h?llo", "hello", true}, {"h?llo", "hllo", false}, {"h?llo", "heello", false}, {"???", "ab", false},
	{"*?", "", false}, {"*?", "a", true}, {"?*", "ab", true},
	{"h[ae]llo", "hello", true}, {"h[ae]llo", "hillo", false}, {"h[^e]llo", "hallo", true}, {"h[^e]llo", "hello", false},
	{"h[a-c]llo", "hbllo", true}, {"h[a-c]llo", "hdllo", false}, {"h[c-a]llo", "hbllo", true},
	{"[a-]", "-", false}, {"[a-]", "a", true}, {"[a-]", "]", true}, {"[a-]", "b", false}, {"[-a]", "-", true}, {"[]", "a", false}, {"[^]", "a", true},
	{"[a", "a", true}, {"[a", "b", false}, {"x[", "x", false}, {"x[", "xy", false}, {"x[^", "xy", true}, {"[a-z", "q", true},
	{`[\]]`, "]", true}, {`[\]]`, `\`, false}, {`[\a-c]`, "b", false}, {`[\a-c]`, "-", true}, {`[a\`, `\`, true},
	{"[ab]]", "a]", true}, {"[]a]", "a]", false}, {"[^a-c]x", "dx", true}, {"[!a]", "!", true}, {"[!a]", "b", false},
	{`\*`, "*", true}, {`\*`, "a", false}, {`a\?`, "a?", true}, {`a\?`, "ab", false}, {`a\`, `a\`, true}, {`a\`, "a", false},
	{`\\`, `\`, true}, {`\a`, "a", true}, {`*\*`, "a*", true}, {"*[0-9]", "a12", true}, {"*[0-9]x", "1a2x", true},
	{"a?c", "a\x00c", true}, {"a*", "a\xff\xfe", true}, {"?", "é", false}, {"??", "é", true}, {"a/*", "a/b/c", true},
}

func TestMatchPattern(t *testing.T) {
	for _, tt := range patterns {
		if got := event.MatchPattern(tt.pattern, tt.name); got != tt.want {
			t.Errorf("MatchPattern(%q, %q) = %t", tt.pattern, tt.name, got)
		}
	}
}

// TestMatchPatternLikePath compares with path.Match where both languages mean
// the same: closed sets that are not empty, no slashes, names that are not
// empty.
func TestMatchPatternLikePath(t *testing.T) {
	element := rapid.SampledFrom([]string{"a", "b", "c", "*", "?", "[ab]", "[^a]", "[b-c]", `\a`, `\*`})
	rapid.Check(t, func(t *rapid.T) {
		pattern := strings.Join(rapid.SliceOfN(element, 0, 8).Draw(t, "pattern"), "")
		name := rapid.StringOfN(rapid.RuneFrom([]rune("abc*")), 1, 8, -1).Draw(t, "name")
		want, err := path.Match(pattern, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := event.MatchPattern(pattern, name); got != want {
			t.Fatalf("MatchPattern(%q, %q) = %t", pattern, name, got)
		}
	})
}

func FuzzMatchPattern(f *testing.F) {
	for _, tt := range patterns {
		f.Add(tt.pattern, tt.name)
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		event.MatchPattern(pattern, name) // ends, and does not panic
		if len(name) > 0 && !event.MatchPattern("*"+pattern, name) && event.MatchPattern(pattern, name) {
			t.Fatalf("%q matches %q, but not with stars around it", pattern, name)
		}
	})
}
