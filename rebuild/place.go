package rebuild

import (
	"fmt"

	"github.com/reservoirhq/reservoir/projection"
)

// place is where a stream was read up to. The zero place is its beginning.
type place = projection.Position

// showPlace shows a place to people.
func showPlace(p place) string {
	if p.Incarnation <= 1 {
		return p.ID.String()
	}
	return fmt.Sprintf("%d/%s", p.Incarnation, p.ID)
}
