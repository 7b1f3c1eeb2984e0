package archive

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

func TestEscape(t *testing.T) {
	for name, want := range map[string]string{
		"":                                   "~",
		"orders":                             "orders",
		"shop:orders":                        "shop~3aorders",
		"Orders":                             "~4frders",
		"..":                                 "~2e.",
		"_hidden":                            "~5fhidden",
		"a_b.c-d":                            "a_b.c-d",
		"a/b":                                "a~2fb",
		"~":                                  "~7e",
		"\xff\x00":                           "~ff~00",
		strings.Repeat("a", 200):             strings.Repeat("a", 200),
		strings.Repeat("a", 201):             strings.Repeat("a", 200) + "~/a",
		strings.Repeat("a", 200) + "." + "b": strings.Repeat("a", 200) + "~/~2eb",
		strings.Repeat("a", 199) + "::":      strings.Repeat("a", 199) + "~/~3a~3a",
	} {
		if got := escape(name); got != want {
			t.Errorf("escape(%q) = %q, want %q", name, got, want)
		}
		if got, err := unescape(want); err != nil || got != name {
			t.Errorf("unescape(%q) = %q, %v, want %q", want, got, err, name)
		}
	}
	for _, bad := range []string{"Orders", "a~2", "a~zz", "a~", "~61", "~2E", "a~/b", "", ".a"} {
		if name, err := unescape(bad); err == nil {
			t.Errorf("unescape(%q) = %q, want an error", bad, name)
		}
	}
	if err := CheckStreamName(strings.Repeat(":", 300)); !errors.Is(err, ErrStreamName) {
		t.Errorf("a name of 900 bytes: %v", err)
	}
}

func TestEscapeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOfN(rapid.Byte(), 0, 500).Draw(t, "name"))
		escaped := escape(name)
		if back, err := unescape(escaped); err != nil || back != name {
			t.Fatalf("unescape(%q) = %q, %v", escaped, back, err)
		}
		elements := strings.Split(escaped, "/")
		for i, element := range elements {
			if len(element) == 0 || len(element) > 255 || element[0] == '.' || element[0] == '_' {
				t.Fatalf("element %q", element)
			}
			if continued(element) != (i < len(elements)-1) {
				t.Fatalf("element %d of %q", i, escaped)
			}
		}
		if strings.ToLower(escaped) != escaped || strings.Trim(escaped, "abcdefghijklmnopqrstuvwxyz0123456789-_.~/") != "" {
			t.Fatalf("%q holds other characters", escaped)
		}
	})
}

func TestSegmentKey(t *testing.T) {
	for id, want := range map[event.ID]string{
		{Ms: 0, Seq: 1}:     "jsonl/date=1970-01-01/hour=00/00000000000000000000-00000000000000000001-U.jsonl.zst",
		{Ms: 1763719200000}: "jsonl/date=2025-11-21/hour=10/00000001763719200000-00000000000000000000-U.jsonl.zst",
		event.MaxID:         "jsonl/date=9999-12-31/hour=23/18446744073709551615-18446744073709551615-U.jsonl.zst",
	} {
		if got := segmentKey(JSONL, id, "U"); got != want {
			t.Errorf("segmentKey(%s) = %s, want %s", id, got, want)
		}
	}
}
