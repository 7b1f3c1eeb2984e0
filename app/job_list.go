package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// shownJob is a job as commands print it: without what is the engine's and the store's
// own.
type shownJob struct {
	*jobs.Job
	Version    *struct{} `json:"version,omitempty"`
	Checkpoint *struct{} `json:"checkpoint,omitempty"`
	Nonce      *struct{} `json:"nonce,omitempty"`
	Damaged    string    `json:"damaged,omitempty"` // why the document cannot be used
}

func showJob(job *jobs.Job) shownJob {
	redacted := *job
	redacted.Spec = replay.Redact(job.Spec)
	s := shownJob{Job: &redacted}
	if job.Damaged != nil {
		s.Damaged = job.Damaged.Error()
	}
	return s
}

// printJob prints a job as JSON.
func (a *app) printJob(job *jobs.Job) error { return a.printJSON(showJob(job)) }

// listing is which jobs are listed, and how.
type listing struct {
	states      []string
	since       string
	all, asJSON bool
	query       jobs.Query
}

// newListCmd makes the command that lists the jobs of a kind. of is the flag for those
// of one target, and target makes the target of its value.
func newListCmd(app *app, k *jobKind, of, about string, target func(string) string) *cobra.Command {
	l := listing{query: jobs.Query{Kinds: []string{k.name}}}
	var one string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List " + k.name + "s, newest first",
		Example: fmt.Sprintf("  %-50s what runs, waits or failed\n  %-50s and what has ended, of the last week\n  %s",
			k.command("list", ""), k.command("list", "--all --since '7d ago'"), k.command("list", "--state running,paused --json")),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if one != "" {
				l.query.Target = target(one)
			}
			if err := l.read(time.Now()); err != nil {
				return err
			}
			return app.with(cmd.Context(), servicesSpec{jobsOnly: true}, func(b backend) error {
				return app.listJobs(cmd.Context(), b, k, &l)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&l.states, "state", nil, "only those in this `state`: pending, running, paused, cancelling, succeeded, failed or cancelled; several with commas")
	flags.StringVar(&one, of, "", about)
	flags.StringVar(&l.since, "since", "", "only those created since this `time`: 2026-11-21, '7d ago'")
	flags.BoolVar(&l.all, "all", false, "those that succeeded or were cancelled too")
	flags.IntVar(&l.query.Limit, "limit", 50, "at most so `many`; 0: all")
	flags.BoolVar(&l.asJSON, "json", false, "print JSON")
	return remotely(cmd)
}

// read fills in the query; without states it is of those that are not done.
func (l *listing) read(now time.Time) error {
	q := &l.query
	for _, name := range l.states {
		if !slices.Contains(jobs.States(), jobs.State(name)) {
			return usagef("--state %q is not known: want one of %v", name, jobs.States())
		}
		q.States = append(q.States, jobs.State(name))
	}
	if len(l.states) == 0 && !l.all {
		q.States = []jobs.State{jobs.Pending, jobs.Running, jobs.Paused, jobs.Cancelling, jobs.Failed}
	}
	if l.since != "" {
		bound, err := event.ParseBound(l.since, now)
		if err != nil {
			return usageError{fmt.Errorf("--since: %w", err)}
		}
		q.Since = time.UnixMilli(int64(min(bound.From.Ms, 1<<47))).UTC() //nolint:gosec // bounded; years have four digits then
	}
	return nil
}

func (a *app) listJobs(ctx context.Context, b backend, k *jobKind, l *listing) error {
	list := []shownJob{}
	t := a.table()
	if !l.asJSON {
		t.row(k.header...)
	}
	for job, err := range b.list(ctx, l.query) {
		switch {
		case err != nil:
			return err
		case l.asJSON:
			list = append(list, showJob(job))
		case job.Damaged != nil:
			row := make([]string, len(k.header))
			row[0], row[1], row[len(row)-1] = job.ID, "damaged", job.Damaged.Error()
			t.row(row...)
		default:
			t.row(k.row(job)...)
		}
	}
	if l.asJSON {
		return a.printJSON(map[string][]shownJob{k.name + "s": list})
	}
	return t.flush()
}

// with opens the backend, works with it, and closes it.
func (a *app) with(ctx context.Context, spec servicesSpec, work func(b backend) error) (err error) {
	b, err := a.openBackend(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	return work(b)
}
