package app

import (
	"strings"
	"testing"
)

// What the demo does is tested with package demo, which runs this program.
func TestDemoUsage(t *testing.T) {
	for args, want := range map[string]string{
		"demo --stream x": "goes with an input",
		"demo --input x --stream a --stream-field b": "not both",
		"demo --redis-url redis://x":                 "--redis-url has no place in the demo",
		"demo --store-url file:///x":                 "--store-url has no place in the demo",
		"demo --config x.yaml":                       "--config has no place in the demo",
		"demo --duration=-1s":                        "duration -1s is negative",
		"demo --rate=-1":                             "rate -1 is negative",
		"demo x":                                     "x",
	} {
		if status, stdout, stderr := command(t, strings.Fields(args)...); status != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d: %s%s", args, status, stdout, stderr)
		}
	}
	if status, _, stderr := command(t, "demo", "--input", "nowhere.jsonl"); status != exitFailure || !strings.Contains(stderr, "nowhere.jsonl") {
		t.Errorf("no such file: status %d: %s", status, stderr)
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{
		"shop:orders": "shop:orders", "/tmp/a-b_c.d": "/tmp/a-b_c.d",
		"": "''", "a b": "'a b'", "it's": `'it'\''s'`, "~": "'~'", "$HOME": "'$HOME'", "ü": "'ü'",
	} {
		if got := shellWord(word); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", word, got, want)
		}
	}
}
