package jobs_test

import (
	"context"
	"fmt"
	"os"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// counter counts to what its spec says. It goes on where it was.
type counter struct{}

func (counter) Run(ctx context.Context, h *jobs.Handle) error {
	for n := h.Job().Progress.Done; n < 3; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h.Report(func(p *jobs.Progress) { p.Done, p.Total = n+1, 3 })
	}
	return h.Save(ctx)
}

func (counter) Cancel(context.Context, *jobs.Handle) error { return nil }

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "jobs")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an example
	objects, err := objectstore.NewLocal(dir, objectstore.LocalOptions{})
	if err != nil {
		panic(err)
	}

	store := jobs.NewStore(objects, jobs.StoreOptions{})
	job, err := store.Create(ctx, jobs.New{Kind: "count", Spec: 3, Name: "to three", Paused: true})
	if err != nil {
		panic(err)
	}
	runner, err := jobs.NewRunner(store, jobs.RunnerOptions{Engines: map[string]jobs.Engine{"count": counter{}}})
	if err != nil {
		panic(err)
	}
	job, err = runner.RunOne(ctx, job.ID) // a daemon calls Run instead
	if err != nil {
		panic(err)
	}
	fmt.Println(job.Name, job.State, job.Progress.Done, "of", job.Progress.Total)
	// Output: to three succeeded 3 of 3
}
