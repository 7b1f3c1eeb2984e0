package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
)

// The rate is that of the phase, whatever the one before it has counted, and what is taken
// back was never there.
func TestRateByPhase(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		j := create(t, s, jobs.New{Target: "x"})
		var reported []jobs.Progress
		_, err := newRunner(t, s, engine{run: func(_ context.Context, h *jobs.Handle) error {
			for second := range uint64(60) {
				h.Report(func(p *jobs.Progress) { p.Phase, p.Done, p.Total = "load", 1000*second, 60_000 })
				pass(time.Second)
			}
			h.Report(func(p *jobs.Progress) { p.Phase, p.Done, p.Total = "catch-up", 0, 100 })
			for second := range uint64(10) {
				pass(time.Second)
				h.Report(func(p *jobs.Progress) { p.Done = 10 * (second + 1) })
			}
			h.Report(func(p *jobs.Progress) { p.Phase, p.Done, p.Total = "again", 5_000_000, 5_000_100 })
			for second := range uint64(20) {
				pass(time.Second)
				h.Report(func(p *jobs.Progress) { p.Done++; p.Begun = min(second, 10) % 10; p.Done += p.Begun })
				h.Report(func(p *jobs.Progress) { p.Done -= p.Begun; p.Begun = 0 })
			}
			return nil
		}}, jobs.RunnerOptions{Reported: func(j jobs.Job) { reported = append(reported, j.Progress) }}).RunOne(t.Context(), j.ID)
		if err != nil {
			t.Fatal(err)
		}
		last := map[string]jobs.Progress{}
		for _, p := range reported {
			last[p.Phase] = p
		}
		for _, want := range []struct {
			phase    string
			rate     float64
			from, to time.Duration // left
		}{
			{"load", 1000, time.Second, time.Second},
			{"catch-up", 10, 0, 0},
			{"again", 1, 80 * time.Second, 80 * time.Second},
		} {
			if p := last[want.phase]; p.Rate < 0.99*want.rate || p.Rate > 1.01*want.rate || p.Left < want.from || p.Left > want.to {
				t.Errorf("at the end of %s the rate is %v, and %v are left: want %v", want.phase, p.Rate, p.Left, want)
			}
		}
		for _, p := range reported {
			if p.Phase == "catch-up" && p.Done == 20 && (p.Rate != 10 || p.Left != 8*time.Second) {
				t.Errorf("two seconds into catch-up the rate is %v, and %v are left", p.Rate, p.Left)
			}
		}
	})
}

// What is only shown as done is no progress that gives a failing job more attempts.
func TestBegunIsNoProgress(t *testing.T) {
	for _, begun := range []uint64{0, 500} {
		onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
			j := create(t, s, jobs.New{Target: "x"})
			start(t, newRunner(t, s, engine{run: func(_ context.Context, h *jobs.Handle) error {
				h.Report(func(p *jobs.Progress) { p.Done, p.Begun = p.Done+500, begun })
				pass(20 * time.Second) // a heartbeat writes it
				h.Report(func(p *jobs.Progress) { p.Done, p.Begun = p.Done-begun, 0 })
				return jobs.Retry(context.DeadlineExceeded)
			}}, jobs.RunnerOptions{MaxAttempts: 3}))
			pass(time.Hour)
			if got := get(t, s, j.ID).State == jobs.Failed; got != (begun > 0) {
				t.Errorf("with %d of 500 events begun only: failed is %v after an hour", begun, got)
			}
		})
	}
}

// What the attempt before has shown only does not count against one that gets on.
func TestShownByTheAttemptBefore(t *testing.T) {
	onTime(t, func(t *testing.T, _ *memory, s *jobs.Store) {
		j := create(t, s, jobs.New{Target: "x"})
		done := uint64(0) // in earnest
		start(t, newRunner(t, s, engine{run: func(_ context.Context, h *jobs.Handle) error {
			h.Report(func(p *jobs.Progress) { p.Done, p.Begun = done, 0 })
			done += 10
			h.Report(func(p *jobs.Progress) { p.Done, p.Begun = done+500, 500 })
			pass(20 * time.Second) // a heartbeat writes it
			return jobs.Retry(context.DeadlineExceeded)
		}}, jobs.RunnerOptions{MaxAttempts: 3}))
		pass(time.Hour)
		if job := get(t, s, j.ID); job.State == jobs.Failed {
			t.Errorf("it has done %d, and failed: %+v", done, job.LastError)
		}
	})
}
