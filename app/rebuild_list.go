package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
)

func newRebuildListCmd(app *app) *cobra.Command {
	var states []string
	var of string
	var all, asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List rebuilds, newest first",
		Example: `  reservoir rebuild list
  reservoir rebuild list --all --projection orders`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := jobs.Query{Kinds: []string{rebuild.Kind}, Limit: limit}
			if of != "" {
				q.Target = rebuild.Target(of)
			}
			if err := queryStates(&q, states, all); err != nil {
				return err
			}
			store, _, err := app.openJobs(cmd.Context())
			if err != nil {
				return err
			}
			return app.listRebuilds(cmd.Context(), store, q, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&states, "state", nil, "only those in this `state`: pending, running, paused, cancelling, succeeded, failed or cancelled; several with commas")
	flags.StringVar(&of, "projection", "", "only those of this `projection`")
	flags.BoolVar(&all, "all", false, "those that succeeded or were cancelled too")
	flags.IntVar(&limit, "limit", 50, "at most so `many`; 0: all")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) listRebuilds(ctx context.Context, store *jobs.Store, q jobs.Query, asJSON bool) error {
	list := []*jobs.Job{}
	t := a.table()
	if !asJSON {
		t.row("ID", "STATE", "PHASE", "CREATED", "DONE", "ROWS", "RATE", "LEFT", "PROJECTION", "WHY")
	}
	for job, err := range store.List(ctx, q) {
		switch {
		case err != nil:
			return err
		case asJSON:
			list = append(list, job)
		case job.Damaged != nil:
			t.row(job.ID, "damaged", "", "", "", "", "", "", "", job.Damaged.Error())
		default:
			p := &job.Progress
			rate, left := "", ""
			if job.State == jobs.Running {
				rate, left = humanCount(p.Rate)+"/s", leftText(p)
			}
			t.row(job.ID, string(job.State), p.Phase, job.CreatedAt.UTC().Format("2006-01-02 15:04:05"), doneText(p), humanCount(p.Selected),
				rate, left, strings.TrimPrefix(job.Target, rebuild.Target("")), job.StateReason)
		}
	}
	if asJSON {
		return a.printJSON(struct {
			Rebuilds []*jobs.Job `json:"rebuilds"`
		}{list})
	}
	return t.flush()
}

// rebuildShown is the output of show with --json.
type rebuildShown struct {
	*jobs.Job
	Verification *rebuild.Verification `json:"verification,omitempty"`
}

func newRebuildShowCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show all about one rebuild: what it does, how far it is, what happened",
		Example: "  reservoir rebuild show 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
		Args:    oneRebuild,
		RunE: func(cmd *cobra.Command, args []string) error {
			job, v, err := app.readRebuild(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return app.printJSON(rebuildShown{job, v})
			}
			return app.printRebuild(job, v)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// readRebuild reads a rebuild, and what was found of its table, nil as long as there is
// nothing.
func (a *app) readRebuild(ctx context.Context, id string) (*jobs.Job, *rebuild.Verification, error) {
	store, _, err := a.openJobs(ctx)
	if err != nil {
		return nil, nil, err
	}
	job, err := store.Get(ctx, id)
	if err != nil {
		return nil, nil, withRebuildList(err)
	}
	if _, err := rebuild.ReadSpec(job); err != nil {
		return nil, nil, refusedRebuild(err)
	}
	v, err := rebuild.ReadVerification(ctx, store.Files(id))
	if errors.Is(err, objectstore.ErrNotFound) {
		return job, nil, nil
	}
	return job, v, err
}

func (a *app) printRebuild(job *jobs.Job, v *rebuild.Verification) error {
	t := a.table()
	row := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	p := &job.Progress
	row("rebuild", job.ID)
	row("name", job.Name)
	row("reason", job.Reason)
	row("by", job.CreatedBy)
	row("state", stateText(job))
	row("phase", p.Phase)
	row("target", job.Target)
	row("created", timeText(job.CreatedAt))
	row("started", timeText(job.StartedAt))
	row("ended", timeText(job.EndedAt))
	if job.Lease != nil {
		row("worker", job.Lease.Worker)
	}
	row("done", progressText(p))
	row("holding", p.Holding)
	if f := job.LastError; f != nil {
		row("last error", f.Message+" ("+timeText(f.Time)+")")
		row("remedy", f.Remedy)
	}
	row("spec", string(job.Spec))
	if v != nil {
		row("chunks", fmt.Sprintf("%d, of %d events, gave %d rows", v.Chunks, v.Events, v.Rows))
		row("checks", fmt.Sprintf("%d of %d passed", len(v.Checks)-v.Failed(), len(v.Checks)))
		row("difference", differenceText(v.Difference))
		for _, w := range v.Warnings {
			row("warning", w)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	return a.printLog(job)
}

// differenceText sums up a difference.
func differenceText(d *chstore.Diff) string {
	if d == nil {
		return "there was no live table to compare with"
	}
	return fmt.Sprintf("%d added, %d removed, %d changed, %d the same", d.Added, d.Removed, d.Changed, d.Same)
}

func newRebuildDiffCmd(app *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff ID",
		Short: "Show how the new table differs from the live one, and what the checks gave",
		Long: `Show how the new table differs from the live one, and what the checks of the definition gave, as it was before the swap.
Exit status: 0 they are equal and all checks passed; 1 they differ, or a check failed.`,
		Example: "  reservoir rebuild diff 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
		Args:    oneRebuild,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, v, err := app.readRebuild(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if v == nil {
				return remedy.Wrapf(errors.New("the rebuild has not come to that yet"), "`reservoir rebuild watch %s` shows how far it is", args[0])
			}
			if asJSON {
				err = app.printJSON(v)
			} else {
				err = app.printTableDifference(v)
			}
			if err == nil && (v.Failed() > 0 || v.Difference != nil && !v.Difference.Equal()) {
				return errProblems
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printTableDifference(v *rebuild.Verification) error {
	for _, c := range v.Checks {
		passed := "passed"
		if !c.Passed {
			passed = "FAILED: it gives " + c.Got + ", and must give " + c.Expect
		}
		if err := a.printf("check %s: %s\n", c.Name, passed); err != nil {
			return err
		}
	}
	if err := a.printf("%s\n", differenceText(v.Difference)); err != nil || v.Difference == nil {
		return err
	}
	for _, d := range v.Difference.Samples {
		if err := a.printf("%s\n", d.Kind); err != nil {
			return err
		}
		for _, side := range []struct {
			sign string
			rows []map[string]json.RawMessage
		}{{"-", d.Old}, {"+", d.New}} {
			for _, row := range side.rows {
				if err := a.printf("  %s %s\n", side.sign, cellText.Replace(rowText(row))); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// rowText gives a row on one line, its columns by name.
func rowText(row map[string]json.RawMessage) string {
	names := make([]string, 0, len(row))
	for name := range row {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = name + "=" + string(row[name])
	}
	return strings.Join(names, " ")
}
