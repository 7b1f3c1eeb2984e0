package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// RunnerOptions say which jobs a Runner runs, and how. Engines is required.
type RunnerOptions struct {
	// Engines by Job.Kind. Jobs of other kinds are left to other workers.
	Engines map[string]Engine
	// Worker names this process in leases and logs; default host-pid-random.
	Worker string
	// Concurrency is how many jobs of one kind Run runs at once; default 4.
	// Kinds overrides it for single kinds.
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

func (o *RunnerOptions) complete() error {
	if len(o.Engines) == 0 {
		return errors.New("jobs: RunnerOptions.Engines is empty: give it an engine for every kind of job that it is to run")
	}
	if o.Worker == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		o.Worker = fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
	}
	defaults := []struct {
		name  string
		value *int
		other int
	}{{"Concurrency", &o.Concurrency, 4}, {"PerTarget", &o.PerTarget, 1}, {"MaxAttempts", &o.MaxAttempts, 10}}
	for _, d := range defaults {
		if *d.value < 0 {
			return fmt.Errorf("jobs: RunnerOptions.%s is %d: it must be 1 or more, or 0 for %d", d.name, *d.value, d.other)
		}
		if *d.value == 0 {
			*d.value = d.other
		}
	}
	durations := []struct {
		name  string
		value *time.Duration
		other time.Duration
	}{{"LeaseTTL", &o.LeaseTTL, 15 * time.Second}, {"Poll", &o.Poll, 2 * time.Second}}
	for _, d := range durations {
		if *d.value < 0 {
			return fmt.Errorf("jobs: RunnerOptions.%s is %v: it must be positive, or 0 for %v", d.name, *d.value, d.other)
		}
		if *d.value == 0 {
			*d.value = d.other
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// limit is how many jobs of a kind run at once.
func (o *RunnerOptions) limit(kind string) int {
	if n, ok := o.Kinds[kind]; ok {
		return n
	}
	return o.Concurrency
}

// Runner runs jobs: it takes the ones that wait, takes over those whose worker
// died, and keeps the ended ones in order. Make it with NewRunner.
type Runner struct {
	store   *Store
	opts    RunnerOptions
	metrics *metrics
	slots   *slots
	running running
}

// NewRunner returns a Runner, which does nothing until Run or RunOne.
func NewRunner(store *Store, opts RunnerOptions) (*Runner, error) {
	if store == nil {
		return nil, errors.New("jobs: the store of a Runner is nil")
	}
	if err := opts.complete(); err != nil {
		return nil, err
	}
	return &Runner{
		store: store, opts: opts, metrics: newMetrics(opts.Registerer),
		slots: newSlots(store, opts),
	}, nil
}

// Run runs jobs until ctx ends. Then it stops its engines with ErrShutdown as
// the cause, waits for them, and gives their jobs back; it returns nil. What
// fails on the object store is logged and tried again. It may be called again
// when it has returned.
func (r *Runner) Run(ctx context.Context) error {
	s := newScanner(r)
	defer s.sessions.Wait()
	var pruning sync.WaitGroup
	defer pruning.Wait()
	pruning.Go(func() { r.prune(ctx) })
	for {
		if err := s.scan(ctx); err != nil && ctx.Err() == nil {
			r.metrics.errors.Inc()
			r.opts.Logger.Warn("could not look for jobs; trying again", "error", err)
		}
		timer := time.NewTimer(r.opts.Poll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.ended: // there is room for another job
			timer.Stop()
		}
	}
}

// running are the jobs that a Runner has in hand.
type running struct {
	mu   sync.Mutex
	jobs map[string]string // kind by ID
}

// add notes a job, unless it is there already, or limit of its kind are.
func (r *running) add(id, kind string, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.jobs[id]; there || r.count(kind) >= limit {
		return false
	}
	if r.jobs == nil {
		r.jobs = map[string]string{}
	}
	r.jobs[id] = kind
	return true
}

func (r *running) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, there := r.jobs[id]
	return there
}

// full says whether limit jobs of a kind are there.
func (r *running) full(kind string, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count(kind) >= limit
}

func (r *running) count(kind string) int {
	n := 0
	for _, k := range r.jobs {
		if k == kind {
			n++
		}
	}
	return n
}

func (r *running) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, id)
}
