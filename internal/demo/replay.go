package demo

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
)

// Replay is a replay of a part of a stream into another one.
type Replay struct {
	Stream, Target string
	Tenant, Type   string  // what was selected: one of them
	Rate           float64 // events a second
	ID             string  // of the job

	// Archived is how many such events the archive's JSONL has, which the replay
	// does not read; InTarget is the length of the target stream afterwards.
	Archived, InTarget uint64
	Job                jobs.Job
}

const (
	// replayLasts is how long the replay should take to be seen.
	replayLasts = 3 * time.Second
	leastReplay = 20 // events a second: few events do not take that long
)

// replay replays the events of one tenant, or of one type where there are no
// tenants, and looks whether all of them arrived.
func (d *Demo) replay(ctx context.Context, result *Result) error {
	store := jobs.NewStore(d.store, jobs.StoreOptions{})
	svc, err := replay.New(replay.Options{
		Archive: d.archive, Jobs: store, Sinks: []replay.SinkKind{sink.NewRedis(sink.RedisOptions{Default: d.client})},
	})
	if err != nil {
		return err
	}
	r, err := d.choose(ctx, svc, result)
	if err != nil || r == nil {
		return err
	}
	if err := d.runReplay(ctx, store, svc, r); err != nil {
		return fmt.Errorf("replay %s: %w", r.Stream, err)
	}
	info, err := d.client.Info(ctx, r.Target)
	if err != nil {
		return err
	}
	r.InTarget = info.Length
	result.Replay = r
	p := &r.Job.Progress
	switch {
	case r.Job.State != jobs.Succeeded:
		result.Problems = append(result.Problems, fmt.Sprintf("the replay of %s %s: %s", r.Stream, r.Job.State, r.Job.StateReason))
	case p.DeadLetters > 0 || p.Selected != r.Archived || r.InTarget != r.Archived:
		result.Problems = append(result.Problems, fmt.Sprintf("the archive has %d such events of %s: %d were replayed, %d set aside, and %s has %d",
			r.Archived, r.Stream, p.Selected, p.DeadLetters, r.Target, r.InTarget))
	}
	return nil
}

// choose says what to replay: of the shop the payments of its largest tenant, of
// other events the largest tenant of the largest stream, or the most frequent
// type. It returns nil where events tell neither.
func (d *Demo) choose(ctx context.Context, svc *replay.Service, result *Result) (*Replay, error) {
	largest := slices.MaxFunc(result.Streams, func(a, b Stream) int { return cmp.Compare(a.Archived, b.Archived) })
	for _, s := range result.Streams {
		if d.opts.Input == "" && s.Name == shop.Payments {
			largest = s
		}
	}
	r := &Replay{Stream: largest.Name, Target: "replay:" + largest.Name}
	estimate, err := svc.Estimate(ctx, replay.Spec{Streams: []string{literal(r.Stream)}}, replay.EstimateOptions{Sample: true, Events: -1})
	if err != nil {
		return nil, fmt.Errorf("see what %s has: %w", r.Stream, err)
	}
	if r.Tenant = mostFrequent(estimate.Tenants); r.Tenant == "" {
		r.Type = mostFrequent(estimate.Types)
	}
	if r.Tenant == "" && r.Type == "" {
		result.NoReplay = fmt.Sprintf("the events of %s have no type and no tenant to select them by", r.Stream)
		return nil, nil
	}
	if r.Archived, err = d.countSelected(ctx, r); err != nil {
		return nil, fmt.Errorf("count the events of %s: %w", r.Stream, err)
	}
	r.Rate = max(leastReplay, 10*math.Ceil(float64(r.Archived)/replayLasts.Seconds()/10))
	return r, nil
}

// mostFrequent returns the name in a breakdown that most events have.
func mostFrequent(b replay.Breakdown) (name string) {
	most := uint64(0)
	for _, bucket := range b.Buckets {
		if bucket.Events > most {
			most, name = bucket.Events, bucket.Name
		}
	}
	return name
}

// filter selects what is replayed.
func (r *Replay) filter() event.Filter {
	if r.Tenant != "" {
		return event.Filter{Tenants: []string{r.Tenant}}
	}
	return event.Filter{Types: []string{literal(r.Type)}}
}

// literal is a pattern that matches one name.
func literal(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// countSelected counts the selected events in the JSONL of the archive.
func (d *Demo) countSelected(ctx context.Context, r *Replay) (n uint64, err error) {
	filter := r.filter()
	matcher, err := filter.Compile()
	if err != nil {
		return 0, err
	}
	plan, err := d.archive.Plan(ctx, archive.PlanSpec{Stream: r.Stream, Filter: matcher, Format: archive.JSONL})
	if err != nil {
		return 0, err
	}
	for b, err := range plan.Batches(ctx) {
		if err != nil {
			return 0, err
		}
		n += uint64(b.Len())
	}
	return n, nil
}

// runReplay creates the replay, and runs it as `reservoir replay run` does.
func (d *Demo) runReplay(ctx context.Context, store *jobs.Store, svc *replay.Service, r *Replay) error {
	spec := replay.Spec{Streams: []string{literal(r.Stream)}, Filter: r.filter(), Pace: replay.Pace{Rate: r.Rate}}
	var err error
	if spec.Sink, err = svc.ParseTarget("redis:replay:{stream}", nil); err != nil {
		return err
	}
	job, err := svc.Create(ctx, spec, replay.CreateOptions{Name: "demo", Paused: true})
	if err != nil {
		return err
	}
	r.ID = job.ID
	d.opts.Show(Replaying{*r})
	runner, err := jobs.NewRunner(store, jobs.RunnerOptions{
		Engines:  map[string]jobs.Engine{replay.Kind: svc.Engine()},
		Reported: func(job jobs.Job) { d.opts.Show(Replayed{job}) },
	})
	if err != nil {
		return err
	}
	ran, err := runner.RunOne(ctx, job.ID)
	if err != nil {
		return err
	}
	r.Job = *ran
	return nil
}
