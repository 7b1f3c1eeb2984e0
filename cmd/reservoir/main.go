// Command reservoir archives Redis Streams and pours the archive back. What it
// does is in package app, of which other programs can be made with projections,
// upcasters and sinks of their own.
package main

import (
	"os"

	"github.com/reservoirhq/reservoir/app"
)

// version is set by the linker: -X main.version=v1.2.3.
var version string

func main() {
	os.Exit(app.Main(app.Options{Version: version}))
}
