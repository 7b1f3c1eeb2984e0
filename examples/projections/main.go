// Command projections is reservoir with projections in Go of its own: all the commands,
// with two functions more. docs/projections.md tells how it is done.
package main

import (
	"os"

	"github.com/reservoirhq/reservoir/app"
)

func main() {
	os.Exit(app.Main(app.Options{Functions: functions()}))
}
