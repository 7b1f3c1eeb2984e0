package archiver_test

import (
	"testing"

	"go.uber.org/goleak"
)

// What a package starts it also ends: no test may leave a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
