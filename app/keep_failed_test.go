package app

import (
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/jobs"
)

// TestKeepFailedAtOnce: jobs.keep_failed of 0 is what its documentation says, and
// not the default.
func TestKeepFailedAtOnce(t *testing.T) {
	for configured, want := range map[time.Duration]time.Duration{0: -1, time.Hour: time.Hour, jobs.DefaultKeepFailed: jobs.DefaultKeepFailed} {
		if got := keepFailed(config.Duration(configured)); got != want {
			t.Errorf("%v: %v, want %v", configured, got, want)
		}
	}
}
