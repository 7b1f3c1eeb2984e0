package parquet_test

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime returns what the process has used so far: on a machine with other
// work, a better measure than the wall clock.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
