package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

const replayListExample = `  reservoir replay list                              what runs, waits or failed
  reservoir replay list --all --since '7d ago'       and what has ended, of the last week
  reservoir replay list --state running,paused --json`

// replayList is the output of list with --json.
type replayList struct {
	Replays []*jobs.Job `json:"replays"`
}

func newReplayListCmd(app *app) *cobra.Command {
	var states []string
	var target, since string
	var all, asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List replays, newest first",
		Example: replayListExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := jobs.Query{Kinds: []string{replay.Kind}, Target: target, Limit: limit}
			if err := queryStates(&q, states, all); err != nil {
				return err
			}
			if since != "" {
				bound, err := event.ParseBound(since, time.Now())
				if err != nil {
					return usageError{fmt.Errorf("--since: %w", err)}
				}
				q.Since = time.UnixMilli(int64(min(bound.From.Ms, 1<<62))).UTC()
			}
			store, _, err := app.openJobs(cmd.Context())
			if err != nil {
				return err
			}
			return app.listReplays(cmd.Context(), store, q, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&states, "state", nil, "only those in this `state`: pending, running, paused, cancelling, succeeded, failed or cancelled; several with commas")
	flags.StringVar(&target, "target", "", "only those with this `target`, as list --json shows it")
	flags.StringVar(&since, "since", "", "only those created since this `time`: 2026-11-21, '7d ago'")
	flags.BoolVar(&all, "all", false, "those that succeeded or were cancelled too")
	flags.IntVar(&limit, "limit", 50, "at most so `many`; 0: all")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// queryStates narrows a query to states; none given are those that are not done.
func queryStates(q *jobs.Query, states []string, all bool) error {
	for _, name := range states {
		if !slices.Contains(jobs.States(), jobs.State(name)) {
			return usagef("--state %q is not known: want one of %v", name, jobs.States())
		}
		q.States = append(q.States, jobs.State(name))
	}
	if len(states) == 0 && !all {
		q.States = []jobs.State{jobs.Pending, jobs.Running, jobs.Paused, jobs.Cancelling, jobs.Failed}
	}
	return nil
}

func (a *app) listReplays(ctx context.Context, store *jobs.Store, q jobs.Query, asJSON bool) error {
	list := replayList{Replays: []*jobs.Job{}}
	t := a.table()
	if !asJSON {
		t.row("ID", "STATE", "CREATED", "DONE", "SELECTED", "DEAD", "RATE", "LEFT", "NAME", "TARGET")
	}
	for job, err := range store.List(ctx, q) {
		switch {
		case err != nil:
			return err
		case asJSON:
			list.Replays = append(list.Replays, job)
		case job.Damaged != nil:
			t.row(job.ID, "damaged", "", "", "", "", "", "", job.Damaged.Error())
		default:
			p := &job.Progress
			rate, left := "", ""
			if job.State == jobs.Running {
				rate, left = humanCount(p.Rate)+"/s", leftText(p)
			}
			t.row(job.ID, string(job.State), job.CreatedAt.UTC().Format("2006-01-02 15:04:05"), doneText(p), humanCount(p.Selected),
				fmt.Sprint(p.DeadLetters), rate, left, job.Name, job.Target)
		}
	}
	if asJSON {
		return a.printJSON(list)
	}
	return t.flush()
}

// doneText gives how far a replay is: 12 %, or a count.
func doneText(p *jobs.Progress) string {
	if p.Total == 0 {
		return humanCount(p.Done)
	}
	return fmt.Sprintf("%.0f %%", 100*min(1, float64(p.Done)/float64(p.Total)))
}

func leftText(p *jobs.Progress) string {
	if p.Left <= 0 {
		return ""
	}
	return humanDuration(p.Left)
}

// replayShown is the output of show with --json.
type replayShown struct {
	*jobs.Job
	Plan *replay.Frozen `json:"plan"`
}

func newReplayShowCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show all about one replay: what it does, how far it is, what happened",
		Example: "  reservoir replay show 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
		Args:    oneReplay,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := app.openServices(cmd.Context(), servicesSpec{})
			if err != nil {
				return err
			}
			job, err := r.jobs.Get(cmd.Context(), args[0])
			if err != nil {
				return withListRemedy(err)
			}
			plan, err := r.replays.Plan(cmd.Context(), job.ID)
			if err != nil {
				return err
			}
			if asJSON {
				return app.printJSON(replayShown{job, plan})
			}
			return app.printReplay(job, plan)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// oneReplay wants the ID of a replay.
func oneReplay(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("which replay? Give its ID; `reservoir replay list` shows them")
	}
	if err := jobs.CheckID(args[0]); err != nil {
		return usageError{withListRemedy(err)}
	}
	return nil
}

func (a *app) printReplay(job *jobs.Job, plan *replay.Frozen) error {
	t := a.table()
	row := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	p := &job.Progress
	row("replay", job.ID)
	row("name", job.Name)
	row("reason", job.Reason)
	row("by", job.CreatedBy)
	row("state", stateText(job))
	row("target", job.Target)
	row("created", timeText(job.CreatedAt))
	row("started", timeText(job.StartedAt))
	row("ended", timeText(job.EndedAt))
	if job.Lease != nil {
		row("worker", job.Lease.Worker)
	}
	row("done", progressText(p))
	row("holding", p.Holding)
	row("read", bytesText(p))
	row("position", p.Position)
	if f := job.LastError; f != nil {
		row("last error", f.Message+" ("+timeText(f.Time)+")")
		row("remedy", f.Remedy)
	}
	row("spec", string(job.Spec))
	if err := t.flush(); err != nil {
		return err
	}
	if err := a.printReplayStreams(p, plan); err != nil {
		return err
	}
	return a.printLog(job)
}

func (a *app) printReplayStreams(p *jobs.Progress, plan *replay.Frozen) error {
	if err := a.printf("\n"); err != nil {
		return err
	}
	t := a.table("STREAM", "RANGE", "UP TO", "DONE", "SELECTED")
	for i, s := range plan.Streams {
		if i == shownStreams {
			t.row(fmt.Sprintf("and %d more", len(plan.Streams)-i))
			break
		}
		done, selected := "0", "0"
		if i < len(p.Streams) {
			done, selected = humanCount(p.Streams[i].Done), humanCount(p.Streams[i].Selected)
		}
		t.row(s.Stream, s.Range.String(), s.Head.String(), done, selected)
	}
	return t.flush()
}

func (a *app) printLog(job *jobs.Job) error {
	if len(job.Log) == 0 {
		return nil
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	t := a.table("TIME", "LEVEL", "WHAT HAPPENED", "BY")
	if job.LogDropped > 0 {
		t.row("", "", fmt.Sprintf("(%d older entries were dropped)", job.LogDropped))
	}
	for _, e := range job.Log {
		by := e.By
		if by == "" {
			by = e.Worker
		}
		t.row(timeText(e.Time), e.Level, e.Message, by)
	}
	return t.flush()
}

func stateText(job *jobs.Job) string {
	text := string(job.State)
	if job.StateReason != "" {
		text += ": " + job.StateReason
	}
	if job.State == jobs.Pending && job.NotBefore.After(time.Now()) {
		text += fmt.Sprintf(" (attempt %d at %s)", job.Attempt+1, timeText(job.NotBefore))
	}
	return text
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// progressText gives how far a replay is, on one line.
func progressText(p *jobs.Progress) string {
	parts := []string{humanCount(p.Done) + " events"}
	if p.Total > 0 {
		of := humanCount(p.Total)
		if !p.Exact {
			of = "at most " + of
		}
		parts[0] = fmt.Sprintf("%s of %s events", humanCount(p.Done), of)
	}
	if p.Selected != p.Done {
		parts = append(parts, humanCount(p.Selected)+" selected")
	}
	if p.DeadLetters > 0 {
		parts = append(parts, fmt.Sprintf("%d DEAD LETTERS", p.DeadLetters))
	}
	if p.Rate > 0 {
		parts = append(parts, humanCount(p.Rate)+"/s")
	}
	if p.Left > 0 {
		parts = append(parts, humanDuration(p.Left)+" left")
	}
	return strings.Join(parts, "  ")
}

func bytesText(p *jobs.Progress) string {
	switch {
	case p.BytesTotal > 0:
		return fmt.Sprintf("%s of %s (%.1f %%)", humanBytes(p.BytesRead), humanBytes(p.BytesTotal), 100*float64(p.BytesRead)/float64(p.BytesTotal))
	case p.BytesRead > 0:
		return humanBytes(p.BytesRead)
	default:
		return ""
	}
}

// specOf reads the spec of a replay.
func specOf(job *jobs.Job) (*replay.Spec, error) {
	spec := &replay.Spec{}
	if job.Kind != replay.Kind {
		return nil, usagef("job %s is a %s, not a replay", job.ID, job.Kind)
	}
	if err := json.Unmarshal(job.Spec, spec); err != nil {
		return nil, fmt.Errorf("read the spec of replay %s: %w", job.ID, err)
	}
	return spec, nil
}
