package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

const replayEstimateHelp = `Say what a replay would do, and write nothing: how many events by stream, type, tenant and day, how much is read, how long it takes, the
first and last events, what is lost in the range, and what the target says.

Counts come from the commit logs where these tell, and are exact then. Where they do not, up to 200,000 events are read: what is small is then
counted, what is large extrapolated, and it is said which. --sample=false reads none, and gives upper bounds. --into is optional.`

const replayEstimateExample = `  reservoir replay estimate --stream 'shop:*' --from '2h ago'
  reservoir replay estimate --stream shop:payments --tenant acme --where 'payload.amount > 100' --into 'redis:{stream}:replay' --rate 500`

func newReplayEstimateCmd(app *app) *cobra.Command {
	c := creation{dryRun: true}
	opts := replay.EstimateOptions{}
	cmd := &cobra.Command{
		Use:     "estimate",
		Short:   "Say what a replay would do, without doing it",
		Long:    replayEstimateHelp,
		Example: replayEstimateExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd.Context(), app, cmd, true, func(b backend, spec replay.Spec) error {
				return app.estimate(cmd.Context(), b, spec, opts, c.asJSON)
			})
		},
	}
	c.replayFlags.register(cmd.Flags())
	cmd.Flags().BoolVar(&opts.Sample, "sample", true, "read some events where the commit logs do not tell")
	cmd.Flags().IntVar(&opts.Events, "events", 3, "how many of the first and of the last `events` to show; -1: none")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "print JSON")
	return remotely(cmd)
}

// estimate prints an estimate.
func (a *app) estimate(ctx context.Context, b replayBackend, spec replay.Spec, opts replay.EstimateOptions, asJSON bool) error {
	est, err := b.estimateReplay(ctx, spec, opts)
	if err != nil {
		return refused(err)
	}
	if asJSON {
		return a.printJSON(est)
	}
	a.warnAll(est.Warnings)
	return a.printEstimate(est, &spec)
}

func (a *app) printEstimate(est *replay.Estimate, spec *replay.Spec) error {
	t := a.table()
	limited := ""
	if est.Limited {
		limited = ", by the limit"
	}
	t.row("events", countText(est.Total)+limited)
	if est.Segments > 0 {
		t.row("to read", fmt.Sprintf("%d segments, %s", est.Segments, humanBytes(est.Bytes)))
	}
	switch d := est.Duration; {
	case spec.Follow:
		t.row("takes", "until it is cancelled: it follows")
	case d != nil:
		t.row("takes", fmt.Sprintf("%s%s (%s)", precisionSign(d.Precision), humanDuration(d.Expected), d.Basis))
	}
	if est.Target != nil {
		t.row("into", est.Target.Description)
		t.row("guarantee", string(est.Target.Guarantee))
	}
	if est.GapCount > 0 {
		t.row("lost", fmt.Sprintf("%d entries or more, in %d gaps: they are not in the archive", est.Lost, est.GapCount))
	}
	if err := t.flush(); err != nil {
		return err
	}
	return errors.Join(
		a.printStreamEstimates(est.Streams),
		a.printBreakdown("TYPE", est.Types),
		a.printBreakdown("TENANT", est.Tenants),
		a.printBreakdown("DAY", est.Days),
		a.printEnds(est),
	)
}

// shownStreams is how many streams an estimate prints.
const shownStreams = 20

func (a *app) printStreamEstimates(streams []replay.StreamEstimate) error {
	if len(streams) == 0 {
		return nil
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	t := a.table("STREAM", "EVENTS", "SEGMENTS", "BYTES", "UP TO")
	for i, s := range streams {
		if i == shownStreams {
			t.row(fmt.Sprintf("and %d more", len(streams)-i))
			break
		}
		t.row(s.Stream, countText(s.Count), fmt.Sprint(s.Segments), humanBytes(s.Bytes), s.Head.String())
	}
	return t.flush()
}

func (a *app) printBreakdown(what string, b replay.Breakdown) error {
	if len(b.Buckets) == 0 && b.Other == nil {
		return nil
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	t := a.table(what, "EVENTS")
	for _, bucket := range b.Buckets {
		name := bucket.Name
		if name == "" {
			name = "(none)"
		}
		t.row(name, countText(bucket.Count))
	}
	if b.Other != nil {
		t.row("(others)", countText(*b.Other))
	}
	return t.flush()
}

// printEnds shows the first and last events.
func (a *app) printEnds(est *replay.Estimate) error {
	if len(est.First) == 0 {
		return nil
	}
	title := "\nFIRST\tID\tTYPE\tTENANT\tPAYLOAD"
	if est.Partial {
		title = "\nAMONG THE FIRST\tID\tTYPE\tTENANT\tPAYLOAD"
	}
	for _, views := range [][]event.View{est.First, est.Last} {
		if err := a.printf("\n"); err != nil {
			return err
		}
		t := a.table(strings.Split(strings.TrimPrefix(title, "\n"), "\t")...)
		for i := range views {
			v := &views[i]
			t.row(v.Stream, v.ID.String(), v.Type, v.Tenant, cut(compact(v.Payload), 80))
		}
		if err := t.flush(); err != nil {
			return err
		}
		title = strings.Replace(title, "FIRST", "LAST", 1)
	}
	return nil
}

func compact(raw json.RawMessage) string { return strings.Join(strings.Fields(string(raw)), " ") }

// cut shortens a text to so many characters.
func cut(text string, limit int) string {
	if r := []rune(text); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return text
}

// countText gives a count with its precision: 12,345, ~ 1.23M, ≤ 50.0k.
func countText(c replay.Count) string {
	if c.Precision == replay.Exact {
		return grouped(c.Events)
	}
	return precisionSign(c.Precision) + humanCount(c.Events)
}

// grouped gives a number with commas between thousands.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func precisionSign(p replay.Precision) string {
	switch p {
	case replay.AtMost:
		return "≤ "
	case replay.Estimated:
		return "~ "
	default:
		return ""
	}
}
