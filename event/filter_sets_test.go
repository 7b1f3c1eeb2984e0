package event_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

// A set without its end selects nothing that anybody means.
func TestFilterRefusesOpenSets(t *testing.T) {
	for pattern, open := range map[string]bool{
		"[Order": true, "Order[": true, `[a\]`: true, "[a-]": true, "[a][b": true,
		"Order*": false, "[Oo]rder": false, `\[Order`: false, `[\]]x`: false, "a]": false, "[^a-z]*": false, "[[]": false, "[]": false, "[-]": false, "[^-]": false, `[\]`: true, `x\\[`: true, "[^": true,
	} {
		f := event.Filter{Types: []string{pattern}}
		if _, err := f.Compile(); (err != nil) != open {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
