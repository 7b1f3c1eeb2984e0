package e2e_test

import (
	"flag"
	"testing"
)

// long is set by `make test-long`.
var long = flag.Bool("long", false, "run the tests of rebuilds under kills and writes, which take minutes each")

// takesLong leaves a test to `make test-long`.
func takesLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("takes minutes: `make test-long` runs it")
	}
}
