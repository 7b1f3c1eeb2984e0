package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// printHead begins to show a job: what both kinds have, and more rows between these and
// the spec.
func (a *app) printHead(k *jobKind, job *jobs.Job, more func(row func(name, value string))) error {
	t := a.table()
	row := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	p := &job.Progress
	row(k.name, job.ID)
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
	row("read", bytesText(p))
	row("position", p.Position)
	if f := job.LastError; f != nil {
		row("last error", f.Message+" ("+timeText(f.Time)+")")
		row("remedy", f.Remedy)
	}
	row("spec", string(replay.Redact(job.Spec)))
	more(row)
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

// createdText is when a job was created, in lists.
func createdText(job *jobs.Job) string { return job.CreatedAt.UTC().Format(time.DateTime) }

// speedTexts give the rate and the time left of a job that runs.
func speedTexts(job *jobs.Job) (rate, left string) {
	if job.State != jobs.Running {
		return "", ""
	}
	return humanCount(job.Progress.Rate) + "/s", leftText(&job.Progress)
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
	parts := []string{humanCount(p.Done) + " " + p.Counts()}
	if p.Total > 0 {
		of := humanCount(p.Total)
		if !p.Exact {
			of = "at most " + of
		}
		parts[0] = fmt.Sprintf("%s of %s %s", humanCount(p.Done), of, p.Counts())
	}
	if p.Unit == "" && p.Selected != p.Done { // of rows of tables none are selected
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
