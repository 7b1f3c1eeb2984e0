package httpapi

import (
	"testing"
)

func TestScopeOfPatterns(t *testing.T) {
	for _, tc := range []struct {
		allowed []string
		pattern string
		want    bool
	}{
		{nil, "*", true},
		{[]string{"shop:*"}, "shop:orders", true},
		{[]string{"shop:*"}, "shop:o*", true},
		{[]string{"shop:*"}, "shop:*", true},
		{[]string{"shop:*"}, "shop:?[ab]", true},
		{[]string{"shop:*"}, "*", false},
		{[]string{"shop:*"}, "sho*", false},
		{[]string{"shop:*"}, "[s]hop:x", false}, // it is, and not plainly
		{[]string{"shop:*"}, "other", false},
		{[]string{"shop:orders"}, "shop:orders", true},
		{[]string{"shop:orders"}, "shop:order*", false},
		{[]string{`a\*b`}, `a\*b`, true},
		{[]string{`a\*b`}, `a*b`, false},
		{[]string{`a\**`}, `a\*x`, true},
		{[]string{`a\**`}, `a\*x*`, true},
		{[]string{`a\**`}, `ab`, false},
		{[]string{"x", "shop:*"}, "shop:orders", true},
		{[]string{"s*p:*"}, "shop:o*", false}, // it is, and not plainly
		{[]string{"s*p:*"}, "shop:orders", true},
		{[]string{""}, "a", false},
	} {
		if got := (scope{streamPatterns: tc.allowed}).pattern(tc.pattern); got != tc.want {
			t.Errorf("%v and pattern %q: %v", tc.allowed, tc.pattern, got)
		}
	}
	if (scope{streamPatterns: []string{"a"}}).patterns(nil) {
		t.Error("no patterns mean all streams, which are more than a")
	}
}

func TestScopeOfTenants(t *testing.T) {
	s := scope{tenants: []string{"a", "b"}}
	if s.allows(nil) || s.allows([]string{"a", "c"}) || !s.allows([]string{"b"}) {
		t.Error("allows")
	}
	if got, err := s.narrow("x", nil); err != nil || len(got) != 2 {
		t.Errorf("narrow: %v, %v", got, err)
	}
	if _, err := s.narrow("x", []string{"c"}); err == nil {
		t.Error("another tenant is not refused")
	}
	if got, err := (scope{}).narrow("x", []string{"c"}); err != nil || len(got) != 1 {
		t.Errorf("narrow: %v, %v", got, err)
	}
}
