package app

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/telemetry"
)

const (
	lagInterval  = time.Minute            // otherwise
	displayEvery = 200 * time.Millisecond // on a terminal
	rateWindow   = 3 * time.Second        // over which rates are averaged
)

// display shows an archiver's progress: on a terminal a bar with rates, lag and
// time left below the logs, otherwise a log line a minute.
type display struct {
	logger *slog.Logger // writes above the bar
	bars   *mpb.Progress
	ends   bool // there is an end to come closer to
	done   chan struct{}
	wg     sync.WaitGroup
	closed sync.Once
}

func (a *app) newDisplay(ends bool) *display {
	d := &display{logger: a.logger, ends: ends, done: make(chan struct{})}
	if !a.errTerminal {
		return d
	}
	d.bars = mpb.New(mpb.WithOutput(a.stderr), mpb.WithRefreshRate(displayEvery), mpb.WithWidth(32), mpb.WithAutoRefresh())
	logger, err := telemetry.NewLogger(d.bars, telemetry.LogOptions{Level: a.cfg.Log.Level, Format: a.cfg.Log.Format, Terminal: true})
	if err == nil {
		d.logger = logger
	}
	return d
}

// show follows progress until close.
func (d *display) show(progress func() archiver.Progress) {
	d.wg.Go(func() {
		if d.bars == nil {
			d.log(progress)
		} else {
			d.draw(progress)
		}
	})
}

func (d *display) log(progress func() archiver.Progress) {
	tick := time.NewTicker(lagInterval)
	defer tick.Stop()
	for {
		select {
		case <-d.done:
			return
		case <-tick.C:
			p := progress()
			d.logger.Info("progress", "events", p.Events, "pending", p.Pending, "stored_bytes", p.StoredBytes, "lost", p.Lost)
		}
	}
}

func (d *display) draw(progress func() archiver.Progress) {
	var text string
	filler := mpb.BarStyle().Rbound("] ").Build()
	if !d.ends {
		filler = mpb.NopStyle().Build() // nothing to be complete
	}
	bar := d.bars.MustAdd(0, filler, mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return text })))
	rates := &meter{}
	tick := time.NewTicker(displayEvery)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-d.done:
			running = false
		case <-tick.C:
		}
		p := progress()
		eventRate, byteRate := rates.update(time.Now(), p)
		text = statusText(p, eventRate, byteRate)
		bar.SetTotal(int64(p.Read+p.Pending), false)
		bar.SetCurrent(int64(p.Read))
	}
	bar.SetTotal(-1, true)
}

// close ends the display; what is written afterwards goes to a clean line.
func (d *display) close() {
	d.closed.Do(func() {
		close(d.done)
		d.wg.Wait()
		if d.bars != nil {
			d.bars.Wait()
		}
	})
}

func statusText(p archiver.Progress, eventRate, byteRate float64) string {
	text := fmt.Sprintf("%s events  %s/s  %s/s  lag %s", humanCount(p.Read), humanCount(eventRate), humanBytes(byteRate), humanCount(p.Pending))
	if p.Pending > 0 && eventRate >= 1 {
		text += "  " + humanDuration(time.Duration(float64(p.Pending)/eventRate*float64(time.Second))) + " left"
	}
	if p.Lost > 0 {
		text += fmt.Sprintf("  LOST %d", p.Lost)
	}
	return text
}

// meter turns counts into rates over the last moments.
type meter struct {
	samples []sample
}

type sample struct {
	at     time.Time
	events uint64
	bytes  int64
}

func (m *meter) update(now time.Time, p archiver.Progress) (events, bytes float64) {
	m.samples = append(m.samples, sample{now, p.Read, p.ReadBytes})
	for len(m.samples) > 2 && now.Sub(m.samples[0].at) > rateWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	span := now.Sub(first.at).Seconds()
	if span <= 0 {
		return 0, 0
	}
	return float64(p.Read-first.events) / span, float64(p.ReadBytes-first.bytes) / span
}
