// Package examples holds projections of the events of a small shop, with what they
// make of recorded ones: to learn from, for the demo, and for tests.
package examples

import (
	"embed"

	"github.com/reservoirhq/reservoir/projection"
)

//go:embed *.yaml *.jsonl
var files embed.FS

// Files are the definitions and their fixtures.
func Files() embed.FS { return files }

// Functions are those that the definitions name.
func Functions() []projection.Function { return []projection.Function{traces()} }

// Load gives the definitions.
func Load() (*projection.Set, error) {
	registry, err := projection.NewRegistry(Functions()...)
	if err != nil {
		return nil, err
	}
	return projection.LoadFS(files, "examples", registry)
}
