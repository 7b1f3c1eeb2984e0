package jobs_test

import (
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
)

// TestCancelBehindAnother: a job that waits for its target, or for a worker with
// room, is cancelled at once.
func TestCancelBehindAnother(t *testing.T) {
	for _, target := range []string{"same", ""} {
		onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
			start(t, newRunner(t, s, engine{run: untilStopped}, jobs.RunnerOptions{Concurrency: 1}))
			create(t, s, jobs.New{Target: target})
			pass(time.Minute)
			waits := create(t, s, jobs.New{Target: target})
			pass(time.Minute)
			if _, err := s.Cancel(t.Context(), waits.ID, jobs.Change{}); err != nil {
				t.Fatal(err)
			}
			pass(time.Minute)
			if j := must[*jobs.Job](t)(s.Get(t.Context(), waits.ID)); j.State != jobs.Cancelled {
				t.Errorf("target %q: a minute after cancel it is %s", target, j.State)
			}
		})
	}
}
