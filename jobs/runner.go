package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// RunnerOptions say which jobs a Runner runs, and how. Engines is required.
type RunnerOptions struct {
	// Engines by Job.Kind. Jobs of other kinds are left to other workers.
	Engines map[string]Engine
	// Worker names this process in leases and logs; default host-pid-random.
	Worker string
	// Concurrency is how many jobs of one kind run at once in this Runner;
	// default 4. Kinds overrides it for single kinds.
	Concurrency int
	Kinds       map[string]int
	// PerTarget is how many jobs of one Target run at once, over all workers
	// of the same setting; default 1.
	PerTarget int
	// LeaseTTL is how long a job stays unchanged until another worker takes it
	// over; its worker renews it three times as often. Default 15 s.
	LeaseTTL time.Duration
	// Poll is how often the Runner looks for jobs, and for what people asked of
	// those it runs. Default 2 s.
	Poll time.Duration
	// MaxAttempts is how many attempts in a row may fail in a way that may pass
	// (see Retry), without any progress, until the job fails. Default 10.
	MaxAttempts int
	// Reported, if set, is told of every Handle.Report, with the job as
	// Handle.Job gives it; from the goroutine that reports.
	Reported   func(Job)
	Logger     *slog.Logger          // default none
	Registerer prometheus.Registerer // of metrics reservoir_jobs_…; nil: none
}

// Runner runs jobs: it takes the ones that wait, takes over those whose worker
// died, and keeps the ended ones in order. Make it with NewRunner.
type Runner struct {
	store *Store
	opts  RunnerOptions
}

// NewRunner returns a Runner, which does nothing until Run or RunOne.
func NewRunner(store *Store, opts RunnerOptions) (*Runner, error) {
	return &Runner{store, opts}, nil
}

// Run runs jobs until ctx ends. Then it stops its engines with ErrShutdown as the
// cause, waits for them, and gives their jobs back; it returns nil. What fails
// on the object store is logged and tried again.
func (r *Runner) Run(ctx context.Context) error { return errMissing }

// RunOne runs one job here and now, whatever Concurrency says, and returns it
// when it succeeded, failed, was paused or cancelled, which is no error. A paused
// job is resumed by it. Attempts that fail in a way that may pass are repeated.
//
// Where another worker has the job, RunOne waits for LeaseTTL whether that one
// still lives: if so, the error wraps ErrHeld; if not, it takes the job over.
// It waits for as long as other jobs of the same Target leave no room. When ctx ends,
// the job is given back, pending, and the error is that of ctx.
func (r *Runner) RunOne(ctx context.Context, id string) (*Job, error) { return nil, errMissing }
