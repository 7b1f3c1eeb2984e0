package rebuild_test

import "flag"

// long is set by `make test-long`: every test then does as much as it can.
var long = flag.Bool("long", false, "try more steps and rebuilds, for an hour or so")

// between returns how much a test does in `make test`, or in `make test-long`.
func between(usual, most int) int {
	if *long {
		return most
	}
	return usual
}
