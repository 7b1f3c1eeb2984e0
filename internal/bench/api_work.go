package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// apiJob is what the benchmark looks at of a job.
type apiJob struct {
	ID, State string
	Progress  struct {
		Phase string
		Done  uint64
	}
}

// apiWork is what runs beside the clients, and what it has done.
type apiWork struct {
	*apiBench
	mu       sync.Mutex
	rebuilds []apiJob  // that have ended
	pauses   []float64 // seconds between the end of a rebuild and the start of the next one
}

// measureBeside measures while events are published, archived and replayed and one
// rebuild runs after the other, and prints what came of all of it.
func (b *apiBench) measureBeside(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := &apiWork{apiBench: b}
	before, err := b.archived(ctx)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	working, stop := context.WithCancel(ctx)
	for _, run := range []func(context.Context) error{b.producing, work.rebuilding} {
		group.Go(func() {
			if err := run(working); err != nil && working.Err() == nil {
				cancel(err) // what was measured would not be what it is called
			}
		})
	}
	if err = work.running(ctx, before); err == nil {
		err = work.measured(ctx)
	}
	stop()
	group.Wait()
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}

// archived is how many events of the streams are archived.
func (b *apiBench) archived(ctx context.Context) (events uint64, err error) {
	for _, stream := range apiStreams {
		var one struct{ Totals struct{ Events uint64 } }
		if err := b.ask(ctx, http.MethodGet, "/v1/streams/"+url.PathEscape(stream), "", &one); err != nil {
			return 0, err
		}
		events += one.Totals.Events
	}
	return events, nil
}

func (b *apiBench) job(ctx context.Context, id string) (job apiJob, err error) {
	return job, b.ask(ctx, http.MethodGet, "/v1/jobs/"+id, "", &job)
}

// until waits until what it is told holds, for two minutes at most.
func until(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("waited too long until %s", what))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := holds(ctx); err != nil || ok {
			return errors.Join(err, context.Cause(ctx))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// running waits until events that were just published are archived, the replay sends and a
// rebuild loads.
func (w *apiWork) running(ctx context.Context, archived uint64) error {
	err := until(ctx, "new events are archived", func(ctx context.Context) (bool, error) {
		now, err := w.archived(ctx)
		return now > archived, err
	})
	if err == nil {
		err = until(ctx, "the replay sends", func(ctx context.Context) (bool, error) {
			job, err := w.job(ctx, w.replay)
			return job.State == "running" && job.Progress.Done > 0, err
		})
	}
	if err == nil {
		err = until(ctx, "a rebuild loads", func(ctx context.Context) (bool, error) {
			id := w.rebuild.Load()
			if id == nil {
				return false, nil
			}
			job, err := w.job(ctx, *id)
			return job.State == "running" && job.Progress.Done > 0, err
		})
	}
	return err
}

// rebuilding has one rebuild run after the other until ctx ends.
func (w *apiWork) rebuilding(ctx context.Context) error {
	spec := fmt.Sprintf(`{"spec":{"projection":"orders","approval":"automatic","concurrency":1,"rate":%d}}`, apiRebuild)
	var ended time.Time
	for ctx.Err() == nil {
		id, err := w.create(ctx, "/v1/rebuilds", spec)
		if err != nil {
			return err
		}
		w.rebuild.Store(&id)
		var job apiJob
		ran := false
		err = until(ctx, "a rebuild ends", func(ctx context.Context) (bool, error) {
			if job, err = w.job(ctx, id); err == nil && job.State == "running" && !ran {
				ran = true
				w.began(ended)
			}
			return job.State == "succeeded", stuck(&job, err)
		})
		if err != nil {
			return err
		}
		ended = time.Now()
		w.mu.Lock()
		w.rebuilds = append(w.rebuilds, job)
		w.mu.Unlock()
	}
	return nil
}

// stuck says that a rebuild will not go on by itself.
func stuck(job *apiJob, err error) error {
	switch job.State {
	case "failed", "cancelled", "paused":
		return errors.Join(err, fmt.Errorf("rebuild %s is %s", job.ID, job.State))
	}
	return err
}

// began notes how long no rebuild ran.
func (w *apiWork) began(ended time.Time) {
	if ended.IsZero() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pauses = append(w.pauses, time.Since(ended).Seconds())
}

// apiState is how far all is at one moment.
type apiState struct {
	cpu              time.Duration
	archived, replay uint64
	rebuilt          uint64
	rebuilds, paused int
}

func (w *apiWork) state(ctx context.Context) (s apiState, err error) {
	if s.archived, err = w.archived(ctx); err != nil {
		return s, err
	}
	replay, err := w.job(ctx, w.replay)
	if err != nil {
		return s, err
	}
	rebuild, err := w.job(ctx, *w.rebuild.Load())
	if err != nil {
		return s, err
	}
	s.replay = replay.Progress.Done
	w.mu.Lock()
	defer w.mu.Unlock()
	s.rebuilds, s.paused = len(w.rebuilds), len(w.pauses)
	for _, job := range w.rebuilds {
		s.rebuilt += job.Progress.Done
	}
	if rebuild.State != "succeeded" {
		s.rebuilt += rebuild.Progress.Done
	}
	s.cpu, err = processTime(w.server.Process.Pid)
	return s, err
}

// measured has the clients ask, and prints how that and all else went.
func (w *apiWork) measured(ctx context.Context) error {
	operations := apiOperations()
	alone, err := w.alone(ctx)
	if err != nil {
		return err
	}
	before, err := w.state(ctx)
	if err != nil {
		return err
	}
	results, took := w.measure(ctx, operations)
	after, err := w.state(ctx)
	if err != nil {
		return err
	}
	peak, err := peakMemory(w.server.Process.Pid)
	if err != nil {
		return err
	}
	asks := "each a request every " + w.opts.every.String()
	if w.opts.every == 0 {
		asks = "each with its next request as soon as it has an answer"
	}
	fmt.Fprintf(w.opts.out, "%d clients for %s, %s\n", apiClients, took.Round(time.Second), asks)
	requests, err := w.report(operations, results, took)
	idle := 0.0
	w.mu.Lock()
	for _, pause := range w.pauses[before.paused:after.paused] {
		idle += pause
	}
	w.mu.Unlock()
	perSecond := func(n uint64) float64 { return float64(n) / took.Seconds() }
	cpu := after.cpu - before.cpu
	t := newTable(w.opts.out)
	t.row("requests", "requests", float64(requests), "")
	t.row("requests", "requests/s", float64(requests)/took.Seconds(), "")
	t.row("CPU of the server, with archiver and jobs", "% of a core", 100*cpu.Seconds()/took.Seconds(), "")
	t.row("that of archiver and jobs without clients", "% of a core", 100*alone, "")
	t.row("CPU of the server, with archiver and jobs", "µs/request", float64(cpu.Microseconds())/float64(max(requests, 1)), "")
	t.row("the same, less what it takes without clients", "µs/request", 1e6*(cpu.Seconds()-alone*took.Seconds())/float64(max(requests, 1)), "")
	t.row("peak memory of the server", "MiB", float64(peak)/(1<<20), "")
	t.row("published, of four streams", "events/s", apiRate, "")
	t.row("archived meanwhile", "events/s", perSecond(after.archived-before.archived), "")
	t.row("replayed meanwhile", "events/s", perSecond(after.replay-before.replay), "")
	t.row("loaded by rebuilds meanwhile", "events/s", perSecond(after.rebuilt-min(before.rebuilt, after.rebuilt)), "")
	t.row("rebuilds that ended meanwhile", "rebuilds", float64(after.rebuilds-before.rebuilds), "")
	t.row("time with a rebuild running", "%", 100*(1-idle/took.Seconds()), "")
	return err
}

// alone gives how many cores the server takes while nobody asks.
func (w *apiWork) alone(ctx context.Context) (cores float64, err error) {
	began := time.Now()
	before, err := processTime(w.server.Process.Pid)
	if err != nil {
		return 0, err
	}
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-timer.C:
	}
	after, err := processTime(w.server.Process.Pid)
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}

// producing publishes events at a fixed rate until ctx ends.
func (b *apiBench) producing(ctx context.Context) error {
	const every = 100 * time.Millisecond
	const n = apiRate / int(time.Second/every)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for next := b.opts.events; ; next += n {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := b.publish(context.WithoutCancel(ctx), next, n); err != nil {
			return err
		}
	}
}
