package replay

import (
	"iter"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// nearest gives the name among names that a typo of it most likely meant, or ""
// when none is near.
func nearest(typo string, names iter.Seq[string]) string { return remedy.Nearest(typo, names) }
