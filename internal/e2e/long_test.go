package e2e_test

import (
	"flag"
	"testing"
)

// long is set by `make test-long`.
var long = flag.Bool("long", false, "run the tests that take minutes each, and the others in full")

// takesLong leaves a test to `make test-long`.
func takesLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("takes minutes: `make test-long` runs it")
	}
}
