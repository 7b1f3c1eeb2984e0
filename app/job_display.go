package app

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/telemetry"
)

// progressEvery is how often progress is logged where there is no terminal.
const progressEvery = 10 * time.Second

// jobDisplay shows how a job gets on: a bar on a terminal, elsewhere a
// line now and then, and always one when its state or what it waits for changes.
type jobDisplay struct {
	a      *app
	logger *slog.Logger // writes above the bar
	bars   *mpb.Progress
	bar    *mpb.Bar

	text atomic.Pointer[string] // read while the bar is drawn, which mu must not wait for

	mu      sync.Mutex
	said    string // state and reason for holding, as last said
	shownAt time.Time
	closed  bool
}

func (a *app) newJobDisplay() *jobDisplay {
	d := &jobDisplay{a: a, logger: a.logger}
	logs, level := a.stderr, a.cfg.Log.Level
	if level == "info" {
		level = "warn" // what it shows says the rest
	}
	if a.errTerminal {
		d.bars = mpb.New(mpb.WithOutput(a.stderr), mpb.WithRefreshRate(displayEvery), mpb.WithWidth(32), mpb.WithAutoRefresh())
		logs = d.bars
	}
	if logger, err := telemetry.NewLogger(logs, telemetry.LogOptions{Level: level, Format: a.cfg.Log.Format, Terminal: a.errTerminal}); err == nil {
		d.logger = logger
	}
	if d.bars == nil {
		return d
	}
	d.bar = d.bars.MustAdd(0, mpb.BarStyle().Rbound("] ").Build(), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			if text := d.text.Load(); text != nil {
				return *text
			}
			return ""
		})))
	return d
}

// show takes in a revision of the job.
func (d *jobDisplay) show(job *jobs.Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	p := &job.Progress
	text := string(job.State) + "  " + progressText(p)
	if p.Holding != "" {
		text += "  HOLDING: " + p.Holding
	}
	text = cellText.Replace(text)
	d.text.Store(&text)
	if d.bar != nil {
		d.bar.SetTotal(int64(max(p.Total, p.Done, 1)), false)
		d.bar.SetCurrent(int64(p.Done))
		return
	}
	said := stateText(job) + p.Holding
	if said == d.said && time.Since(d.shownAt) < progressEvery {
		return
	}
	d.said, d.shownAt = said, time.Now()
	if job.StateReason != "" {
		text += " (" + cellText.Replace(job.StateReason) + ")"
	}
	fmt.Fprintf(d.a.stderr, "%s %s\n", time.Now().UTC().Format(time.TimeOnly), text)
}

// close ends the display; what is written afterwards goes to a clean line.
func (d *jobDisplay) close() {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if !closed && d.bars != nil {
		d.bar.SetTotal(-1, true)
		d.bars.Wait()
	}
}
