package upcast

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Difference is a place where a result is not what a sample says. Want and Got
// are JSON; "" stands for nothing there.
type Difference struct {
	Path string `json:"path"`
	Want string `json:"want,omitempty"`
	Got  string `json:"got,omitempty"`
}

// String shows both sides.
func (d Difference) String() string {
	side := func(s string) string {
		if s == "" {
			return "nothing"
		}
		return s
	}
	return fmt.Sprintf("%s: want %s, got %s", d.Path, side(d.Want), side(d.Got))
}

// compareJSON compares two JSON texts by what they mean: neither spaces nor the
// order of members count. A nil text is no payload.
func compareJSON(want, got []byte) []Difference {
	if want == nil || got == nil {
		if want == nil && got == nil {
			return nil
		}
		return []Difference{{Path: "payload", Want: string(want), Got: string(got)}}
	}
	wanted, err := decode(want)
	if err != nil {
		return []Difference{{Path: "payload", Want: string(want), Got: string(got)}}
	}
	found, err := decode(got)
	if err != nil {
		return []Difference{{Path: "payload", Want: string(want), Got: string(got)}}
	}
	return compareValues(nil, "", wanted, found)
}

func decode(text []byte) (value any, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	err = dec.Decode(&value)
	return value, err
}

func compareValues(diffs []Difference, at string, want, got any) []Difference {
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			return compareObjects(diffs, at, want, got)
		}
	case []any:
		if got, ok := got.([]any); ok {
			return compareLists(diffs, at, want, got)
		}
	case json.Number:
		if got, ok := got.(json.Number); ok && sameNumber(want.String(), got.String()) {
			return diffs
		}
	default: // a text, a truth value or null
		if kindOf(want) == kindOf(got) && want == got {
			return diffs
		}
	}
	return append(diffs, Difference{Path: pathOr(at), Want: show(want), Got: show(got)})
}

// kindOf is the same for values that == can compare.
func kindOf(value any) string { return fmt.Sprintf("%T", value) }

func compareObjects(diffs []Difference, at string, want, got map[string]any) []Difference {
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		inner := memberPath(at, name)
		wanted, inWant := want[name]
		found, inGot := got[name]
		switch {
		case !inWant:
			diffs = append(diffs, Difference{Path: inner, Got: show(found)})
		case !inGot:
			diffs = append(diffs, Difference{Path: inner, Want: show(wanted)})
		default:
			diffs = compareValues(diffs, inner, wanted, found)
		}
	}
	return diffs
}

func compareLists(diffs []Difference, at string, want, got []any) []Difference {
	for i := range max(len(want), len(got)) {
		inner := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case i >= len(want):
			diffs = append(diffs, Difference{Path: inner, Got: show(got[i])})
		case i >= len(got):
			diffs = append(diffs, Difference{Path: inner, Want: show(want[i])})
		default:
			diffs = compareValues(diffs, inner, want[i], got[i])
		}
	}
	return diffs
}

// sameNumber compares whole numbers digit by digit, and others as numbers.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	if !strings.ContainsAny(a, ".eE") && !strings.ContainsAny(b, ".eE") {
		return false
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

func memberPath(at, name string) string {
	if name == "" || strings.ContainsAny(name, `.[]"`) {
		name = string(appendText(nil, name))
	}
	if at == "" {
		return name
	}
	return at + "." + name
}

func pathOr(at string) string {
	if at == "" {
		return "payload"
	}
	return at
}

func show(value any) string {
	text, err := marshal(value)
	if err != nil { // it was decoded from JSON
		return fmt.Sprint(value)
	}
	return string(text)
}
