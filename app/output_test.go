package app

import "testing"

// TestCellText: what a stream's name or a server's words hold reaches neither
// the terminal nor the tabwriter (to which 0xFF is an escape) as an order.
func TestCellText(t *testing.T) {
	for text, want := range map[string]string{
		"shop:orders": "shop:orders", "": "", "größe \u65e5": "größe \u65e5", "\ufffd": "\ufffd",
		"a\tb\nc": `a\tb\nc`, "\x1b[2J": `\x1b[2J`, "bin\xff": `bin\xff`, "\u009b1m": `\u009b1m`, `a\b"`: `a\b"`,
	} {
		if got := cellText.Replace(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
