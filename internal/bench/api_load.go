package main

import (
	"context"
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
		{"getJob, the rebuild", 15, true, func(b *apiBench, _ *rand.Rand) string { return "/v1/jobs/" + *b.rebuild.Load() }},
		{"getJob, the replay", 10, true, func(b *apiBench, _ *rand.Rand) string { return "/v1/jobs/" + b.replay }},
		{"getJob, others", 15, true, func(b *apiBench, r *rand.Rand) string { return "/v1/jobs/" + b.paused[r.IntN(len(b.paused))] }},
		{"getStream", 30, true, func(_ *apiBench, r *rand.Rand) string { return stream(r) }},
		{"getStreamCoverage", 10, true, func(_ *apiBench, r *rand.Rand) string { return stream(r) + "/coverage" }},
		{"listStreams", 8, true, fixed("/v1/streams")},
		{"listJobs", 5, true, fixed("/v1/jobs?limit=20")},
		{"listProjections", 4, false, fixed("/v1/projections")},
		{"listStreamEvents", 3, false, func(_ *apiBench, r *rand.Rand) string { return stream(r) + "/events?limit=20" }},
	}
}

// asked is how the requests of an operation went.
type asked struct {
	took   []time.Duration
	failed []error
}

// measure has clients ask at a fixed rate, or each as soon as it has its answer. A
// request's time counts from when it was due, so that one that is late for the one before
// counts in full.
func (b *apiBench) measure(ctx context.Context, operations []apiOperation) ([][]asked, time.Duration) {
	results := make([][]asked, apiClients)
	began := time.Now()
	var group sync.WaitGroup
	for i := range apiClients {
		results[i] = make([]asked, len(operations))
		group.Go(func() { b.client(ctx, i, operations, results[i]) })
	}
	group.Wait()
	return results, time.Since(began)
}

// client asks until its time is over.
func (b *apiBench) client(ctx context.Context, number int, operations []apiOperation, results []asked) {
	r := rand.New(rand.NewPCG(1, uint64(number)))
	var deck []int
	for i, op := range operations {
		deck = append(deck, slices.Repeat([]int{i}, op.times)...)
	}
	client := &http.Client{Transport: &http.Transport{}} // with a connection of its own
	defer client.CloseIdleConnections()
	every, span := b.opts.every, time.Duration(b.opts.seconds)*time.Second
	began := time.Now().Add(time.Duration(r.Int64N(int64(max(every, 1)))))
	for n := 0; ; n++ {
		due := began.Add(time.Duration(n) * every)
		if every == 0 {
			due = time.Now()
		}
		if due.Sub(began) >= span {
			return
		}
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
		_, err := b.call(ctx, client, http.MethodGet, operations[i].path(b, r), b.tokens[number], "")
		if err != nil {
			results[i].failed = append(results[i].failed, err)
			continue
		}
		results[i].took = append(results[i].took, time.Since(due))
	}
}

// report prints how long each operation took. Requests that failed are an error.
func (b *apiBench) report(operations []apiOperation, results [][]asked, took time.Duration) (requests int, err error) {
	fmt.Fprintf(b.opts.out, "\n| %-20s | %8s | %10s | %7s | %7s | %7s | %7s | %6s | %-9s |\n|---|---:|---:|---:|---:|---:|---:|---:|---|\n", "operation", "requests", "requests/s", "p50, ms", "p95, ms", "p99, ms", "max, ms", "errors", "target")
	var errs []error
	targeted := &asked{}
	line := func(name string, all *asked, target string) {
		slices.Sort(all.took)
		at := func(percent int) string {
			if len(all.took) == 0 {
				return ""
			}
			return number(float64(all.took[(len(all.took)-1)*percent/100].Microseconds()) / 1e3)
		}
		fmt.Fprintf(b.opts.out, "| %-20s | %8d | %10s | %7s | %7s | %7s | %7s | %6d | %-9s |\n", name, len(all.took), number(float64(len(all.took))/took.Seconds()), at(50), at(95), at(99), at(100), len(all.failed), target)
	}
	for i, op := range operations {
		all := &asked{}
		for _, client := range results {
			all.took = append(all.took, client[i].took...)
			all.failed = append(all.failed, client[i].failed...)
		}
		if op.target {
			targeted.took, targeted.failed = append(targeted.took, all.took...), append(targeted.failed, all.failed...)
		}
		line(op.name, all, "")
		requests += len(all.took)
		if len(all.failed) > 0 {
			errs = append(errs, fmt.Errorf("%d requests failed, the first one: %w", len(all.failed), all.failed[0]))
		}
	}
	line("jobs and streams", targeted, fmt.Sprintf("p99 < %d", apiTarget.Milliseconds()))
	return requests, errors.Join(errs...)
}
