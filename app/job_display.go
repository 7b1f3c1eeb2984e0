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

// phaseWidth is how wide the bar of a phase is.
const phaseWidth = 20

// jobDisplay shows how a job gets on, phase by phase: on a terminal a bar for each, of
// which those of finished phases stay; elsewhere a line now and then, and always one when
// its phase, its state or what it waits for changes.
type jobDisplay struct {
	a      *app
	logger *slog.Logger // writes above the bars
	bars   *mpb.Progress
	// joined says that the job may have been in its phase for long when it is first shown.
	joined bool

	mu      sync.Mutex
	phase   *shownPhase // nil until something is shown
	said    string      // phase, state and reason for holding, as last said
	shownAt time.Time
	closed  bool
}

// shownPhase is a phase of a job as it is shown.
type shownPhase struct {
	name  string
	began time.Time // zero: not known
	done  uint64
	of    string                 // what done counts
	bar   *mpb.Bar               // on a terminal
	text  atomic.Pointer[string] // read while the bar is drawn, which mu must not wait for
}

func (a *app) newJobDisplay() *jobDisplay {
	d := &jobDisplay{a: a, logger: a.logger}
	logs, level := a.stderr, a.cfg.Log.Level
	if level == "info" {
		level = "warn" // what it shows says the rest
	}
	if a.errTerminal {
		d.bars = mpb.New(mpb.WithOutput(a.stderr), mpb.WithRefreshRate(displayEvery), mpb.WithAutoRefresh())
		logs = d.bars
	}
	if logger, err := telemetry.NewLogger(logs, telemetry.LogOptions{Level: level, Format: a.cfg.Log.Format, Terminal: a.errTerminal}); err == nil {
		d.logger = logger
	}
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
	d.enter(p.Phase)
	d.phase.done, d.phase.of = p.Done, p.Counts()
	text := string(job.State) + "  " + progressText(p)
	if p.Holding != "" {
		text += "  HOLDING: " + p.Holding
	}
	text = cellText.Replace(text)
	d.phase.text.Store(&text)
	if bar := d.phase.bar; bar != nil {
		bar.SetTotal(int64(max(p.Total, p.Done, 1)), false)
		bar.SetCurrent(int64(p.Done))
		return
	}
	said := p.Phase + stateText(job) + p.Holding
	if said == d.said && time.Since(d.shownAt) < progressEvery {
		return
	}
	d.said, d.shownAt = said, time.Now()
	if job.StateReason != "" {
		text += " (" + cellText.Replace(job.StateReason) + ")"
	}
	if p.Phase != "" {
		text = cellText.Replace(p.Phase) + "  " + text
	}
	d.line(text)
}

// enter ends the phase that is shown, and begins another one.
func (d *jobDisplay) enter(name string) {
	was := d.phase
	if was != nil && was.name == name {
		return
	}
	d.phase = &shownPhase{name: name}
	if was != nil || !d.joined {
		d.phase.began = time.Now()
	}
	if was != nil {
		d.finish(was)
	}
	if d.bars != nil {
		d.phase.add(d.bars)
	}
}

// finish shows that a phase is over, and how long it took.
func (d *jobDisplay) finish(was *shownPhase) {
	text := "done"
	if !was.began.IsZero() {
		text += " in " + humanDuration(time.Since(was.began))
		if was.done > 0 {
			text += "  " + humanCount(was.done) + " " + was.of
		}
	}
	switch {
	case was.bar == nil && was.name != "":
		d.line(cellText.Replace(was.name) + "  " + text)
	case was.bar != nil && was.name != "":
		was.text.Store(&text)
		was.bar.SetTotal(int64(max(was.done, 1)), true)
	case was.bar != nil:
		was.bar.Abort(true)
	}
}

func (d *jobDisplay) line(text string) {
	fmt.Fprintf(d.a.stderr, "%s %s\n", time.Now().UTC().Format(time.TimeOnly), text)
}

// add adds the bar of a phase below those that there are.
func (s *shownPhase) add(bars *mpb.Progress) {
	name := ""
	if s.name != "" {
		name = fmt.Sprintf("%-10s", cellText.Replace(s.name)) // as long as any
	}
	s.bar = bars.MustAdd(0, mpb.BarStyle().Build(), mpb.BarWidth(phaseWidth), mpb.PrependDecorators(decor.Name(name)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			if text := s.text.Load(); text != nil {
				return *text
			}
			return ""
		})))
}

// close ends the display, without the phase that is not over; what is written afterwards
// goes to a clean line.
func (d *jobDisplay) close() {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed || d.bars == nil {
		return
	}
	if d.phase != nil {
		d.phase.bar.Abort(true)
	}
	d.bars.Wait()
}
