package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	apiClients = 50
	apiEvery   = 100 * time.Millisecond // between the requests of a client
	apiLate    = 10 * time.Second       // that a client may be behind its time at the end
	apiTarget  = 100 * time.Millisecond // for the 99th percentile of what has one
)

// apiOperation is what clients ask for, so many times of a hundred.
type apiOperation struct {
	name   string
	times  int
	target bool
	path   func(b *apiBench, r *rand.Rand) string
}

func apiOperations() []apiOperation {
	stream := func(r *rand.Rand) string { return "/v1/streams/" + url.PathEscape(apiStreams[r.IntN(len(apiStreams))]) }
	fixed := func(path string) func(*apiBench, *rand.Rand) string {
		return func(*apiBench, *rand.Rand) string { return path }
	}
	return []apiOperation{
		{"getJob, one that runs", 25, true, func(b *apiBench, r *rand.Rand) string { return "/v1/jobs/" + b.ids[r.IntN(2)] }},
		{"getJob, any", 15, true, func(b *apiBench, r *rand.Rand) string { return "/v1/jobs/" + b.ids[r.IntN(len(b.ids))] }},
		{"getStream", 30, true, func(_ *apiBench, r *rand.Rand) string { return stream(r) }},
		{"getStreamCoverage", 10, true, func(_ *apiBench, r *rand.Rand) string { return stream(r) + "/coverage" }},
		{"listStreams", 8, false, fixed("/v1/streams")},
		{"listJobs", 5, false, fixed("/v1/jobs?limit=20")},
		{"listProjections", 4, false, fixed("/v1/projections")},
		{"listStreamEvents", 3, false, func(_ *apiBench, r *rand.Rand) string { return stream(r) + "/events?limit=20" }},
	}
}

// asked is how the requests of an operation went.
type asked struct {
	took   []time.Duration
	failed []error
}

// measure has clients ask at a fixed rate. A request's time counts from when it was due,
// so that one that is late for the one before counts in full.
func (b *apiBench) measure(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	published := make(chan error, 1)
	go func() { published <- b.producing(ctx) }()
	time.Sleep(3 * time.Second) //nolint:forbidigo // everything shall run when it begins

	cpu, err := processTime(b.server.Process.Pid)
	if err != nil {
		return err
	}
	operations := apiOperations()
	results := make([][]asked, apiClients)
	began := time.Now()
	var group sync.WaitGroup
	for i := range apiClients {
		results[i] = make([]asked, len(operations))
		group.Go(func() { b.client(ctx, i, operations, results[i]) })
	}
	group.Wait()
	took := time.Since(began)
	after, cpuErr := processTime(b.server.Process.Pid)
	peak, peakErr := peakMemory(b.server.Process.Pid)
	var job struct{ State string }
	text, err := b.call(ctx, http.MethodGet, "/v1/jobs/"+b.ids[0], b.tokens[0], "")
	if err == nil {
		err = json.Unmarshal(text, &job)
	}
	stop()
	if err := errors.Join(err, cpuErr, peakErr, <-published); err != nil {
		return err
	}
	fmt.Fprintf(b.opts.out, "%d clients for %s, each a request every %s; %d events/s published and archived; the rebuild is %s\n",
		apiClients, took.Round(time.Second), apiEvery, apiRate, job.State)
	requests, err := b.report(operations, results, took)
	t := newTable(b.opts.out)
	t.row("requests", "requests/s", float64(requests)/took.Seconds(), "")
	t.row("CPU of the server, with archiver and jobs", "% of a core", 100*(after-cpu).Seconds()/took.Seconds(), "")
	t.row("CPU of the server", "µs/request", float64((after-cpu).Microseconds())/float64(max(requests, 1)), "")
	t.row("peak memory of the server", "MiB", float64(peak)/(1<<20), "")
	return err
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

// client asks until its time is over.
func (b *apiBench) client(ctx context.Context, number int, operations []apiOperation, results []asked) {
	r := rand.New(rand.NewPCG(1, uint64(number)))
	var deck []int
	for i, op := range operations {
		deck = append(deck, slices.Repeat([]int{i}, op.times)...)
	}
	began := time.Now().Add(time.Duration(r.Int64N(int64(apiEvery))))
	span := time.Duration(b.opts.seconds) * time.Second
	for n := range int(span / apiEvery) {
		due := began.Add(time.Duration(n) * apiEvery)
		if time.Since(began) > span+apiLate {
			results[0].failed = append(results[0].failed, fmt.Errorf("client %d is %s late, and stops", number, time.Since(due).Round(time.Second)))
			return
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		i := deck[r.IntN(len(deck))]
		_, err := b.call(ctx, http.MethodGet, operations[i].path(b, r), b.tokens[number], "")
		if err != nil {
			results[i].failed = append(results[i].failed, err)
			continue
		}
		results[i].took = append(results[i].took, time.Since(due))
	}
}

// report prints how long each operation took. Requests that failed are an error.
func (b *apiBench) report(operations []apiOperation, results [][]asked, took time.Duration) (requests int, err error) {
	fmt.Fprintf(b.opts.out, "\n| %-24s | %10s | %8s | %8s | %8s | %6s | %-12s |\n|---|---:|---:|---:|---:|---:|---|\n", "operation", "requests/s", "p50, ms", "p95, ms", "p99, ms", "errors", "target")
	var errs []error
	for i, op := range operations {
		var all asked
		for _, client := range results {
			all.took = append(all.took, client[i].took...)
			all.failed = append(all.failed, client[i].failed...)
		}
		slices.Sort(all.took)
		at := func(percent int) float64 {
			if len(all.took) == 0 {
				return 0
			}
			return float64(all.took[(len(all.took)-1)*percent/100].Microseconds()) / 1e3
		}
		target := ""
		if op.target {
			target = fmt.Sprintf("p99 < %d", apiTarget.Milliseconds())
		}
		fmt.Fprintf(b.opts.out, "| %-24s | %10s | %8s | %8s | %8s | %6d | %-12s |\n", op.name, number(float64(len(all.took))/took.Seconds()), number(at(50)), number(at(95)), number(at(99)), len(all.failed), target)
		requests += len(all.took)
		if len(all.failed) > 0 {
			errs = append(errs, fmt.Errorf("%d requests failed, the first one: %w", len(all.failed), all.failed[0]))
		}
	}
	return requests, errors.Join(errs...)
}
