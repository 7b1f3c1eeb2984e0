package projection_test

import (
	"os"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/projection"
)

// TestGuide: ClickHouse takes the definitions that the guide shows.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../docs/projections.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, part := range strings.Split(string(text), "```yaml\n")[1:] {
		if part, _, _ = strings.Cut(part, "```"); strings.HasPrefix(part, "name:") { // else it is a part of one
			shown = append(shown, part)
		}
	}
	if len(shown) == 0 {
		t.Fatal("there are no examples")
	}
	db := connect(t)
	for _, yaml := range shown {
		set, err := projection.Parse("guide.yaml", strings.NewReader(yaml), nil)
		if err != nil {
			t.Error(err)
			continue
		}
		for d := range set.All() {
			if err := projection.CheckEngine(t.Context(), db, d); err != nil {
				t.Error(err)
			}
		}
	}
}
