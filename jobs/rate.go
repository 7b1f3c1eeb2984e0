package jobs

import "time"

const (
	rateWindow = 30 * time.Second
	rateStep   = time.Second // between two samples
)

// rate measures how fast a number grows: over the last rateWindow, or since the
// first sample where that is later. Where the number falls, what was taken back has
// not been there.
type rate struct {
	samples []sample // oldest first
}

type sample struct {
	at   time.Time
	done uint64
}

func (r *rate) add(done uint64) {
	at := time.Now()
	for n := len(r.samples); n > 0 && r.samples[n-1].done > done; n-- {
		r.samples = r.samples[:n-1]
	}
	if n := len(r.samples); n > 0 && at.Sub(r.samples[n-1].at) < rateStep {
		return
	}
	r.samples = append(r.samples, sample{at, done})
	// The oldest one kept is the last that is as old as the window.
	old := 0
	for old+1 < len(r.samples) && at.Sub(r.samples[old+1].at) >= rateWindow {
		old++
	}
	r.samples = r.samples[:copy(r.samples, r.samples[old:])]
}

// fill computes Rate and Left.
func (r *rate) fill(p *Progress) {
	p.Rate, p.Left = 0, 0
	if len(r.samples) == 0 {
		return
	}
	first := r.samples[0]
	took := time.Since(first.at)
	if took < rateStep || p.Done <= first.done {
		return
	}
	p.Rate = float64(p.Done-first.done) / took.Seconds()
	if p.Total > p.Done {
		left := float64(p.Total-p.Done) / p.Rate
		p.Left = time.Duration(min(left, (10000*time.Hour).Seconds()) * float64(time.Second)).Round(time.Millisecond)
	}
}
