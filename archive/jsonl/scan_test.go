package jsonl

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// checkScan holds scan to encoding/json.
func checkScan(t interface{ Fatalf(string, ...any) }, text []byte) {
	trimmed := []byte(strings.Trim(string(text), " \t\r\n")) // scan takes no white space around the value
	end, seen, fault := scan(trimmed, 0, maxReadDepth)
	if fault == "nested too deep" {
		return
	}
	if got, want := fault == "" && end == len(trimmed), json.Valid(trimmed); got != want {
		t.Fatalf("scan(%q) = %d, %q; encoding/json says %t", trimmed, end, fault, want)
	}
	if fault != "" || end != len(trimmed) {
		return
	}
	if seen&nonASCII == 0 && !utf8.Valid(trimmed) {
		t.Fatalf("scan(%q) noticed no byte outside ASCII", trimmed)
	}
	if seen&lineBreak == 0 && strings.ContainsAny(string(trimmed), "\r\n") {
		t.Fatalf("scan(%q) noticed no line break", trimmed)
	}
}

func TestScanProperty(t *testing.T) {
	tokens := rapid.SampledFrom([]string{
		"{", "}", "[", "]", ",", ":", `"`, `""`, `"a"`, `"a":`, " ", "\n", "\t", "\r", "0", "1", "-", ".", "e", "E", "+", "12", "1.5", "-0", "1e9", "true", "false", "null", "t", "nul",
		`"\n"`, `"\u00e4"`, `"\ud800"`, `\`, `\u`, "\x00", "\x1f", "\xff", "é", `"long enough for two words"`, `"éé"`,
	})
	rapid.Check(t, func(t *rapid.T) {
		checkScan(t, []byte(strings.Join(rapid.SliceOfN(tokens, 0, 24).Draw(t, "tokens"), "")))
	})
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e+10,"x\u00e4\\",true,false,null,{}]}`, `[[[[]]]]`, `"\ud834\udd1e"`, `01`, `-`, `{"a" : 1 , "b":[ ]}`, `1 2`, "\"\x1f\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) { checkScan(t, text) })
}

func TestScanDepth(t *testing.T) {
	for _, tt := range []struct {
		depth int
		ok    bool
	}{{1, true}, {64, true}, {65, true}, {maxReadDepth, true}, {maxReadDepth + 1, false}} {
		for _, text := range []string{
			strings.Repeat("[", tt.depth) + strings.Repeat("]", tt.depth),
			strings.Repeat(`{"a":`, tt.depth-1) + "{}" + strings.Repeat("}", tt.depth-1),
			strings.Repeat(`[{"a":`, tt.depth/2) + strings.Repeat("[]", tt.depth%2) + strings.Repeat("1", 1-tt.depth%2) + strings.Repeat("}]", tt.depth/2),
		} {
			if end, _, fault := scan([]byte(text), 0, maxReadDepth); (fault == "" && end == len(text)) != tt.ok {
				t.Errorf("depth %d of %.12s…: %q at %d", tt.depth, text, fault, end)
			}
		}
	}
}

// TestPlain compares the search by words with one by bytes, at all alignments.
func TestPlain(t *testing.T) {
	for length := range 40 {
		for at := range length {
			for c := range 256 {
				s := []byte(strings.Repeat("a", length))
				s[at] = byte(c)
				for from := range length + 1 {
					want := length
					if special := c < ' ' || c == '"' || c == '\\' || c >= 0x80; special && from <= at {
						want = at
					}
					if got := plain(s, from); got != want {
						t.Fatalf("plain(%q, %d) = %d, want %d", s, from, got, want)
					}
				}
			}
		}
	}
}
