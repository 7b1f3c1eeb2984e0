package replay

import (
	"context"
	"math"
	"time"
)

const (
	// paceBurst bounds how much is sent ahead of the rate: in any span of time no
	// more events are sent than the rate allows for that span and paceBurst more,
	// or one event. What could not be sent in time for longer than that, because
	// the target was slow or the replay was held, is not caught up with.
	paceBurst = 50 * time.Millisecond
	// paceTick is how much of a rate is sent at once: what is due in that time, or
	// one event.
	paceTick = 10 * time.Millisecond
	// paceSlack is by how much a factor may send events early, to send them with
	// the ones before.
	paceSlack = 2 * time.Millisecond
)

// pacer says how many events may be sent when. The zero pacer lets everything
// pass at once.
type pacer struct {
	pace Pace

	due time.Time // rate: of the next event; zero before the first one

	begun  bool
	last   uint64    // factor: the milliseconds of the event sent last
	lastAt time.Time // when that was due
}

// next returns how many of the next events, at least one, may be sent together,
// and how long to wait until then. ms gives their milliseconds.
func (p *pacer) next(now time.Time, n int, ms func(i int) uint64) (count int, wait time.Duration) {
	count = n
	if p.pace.Rate > 0 {
		count, wait = p.rated(now, count)
	}
	if p.pace.Factor > 0 {
		timed, until := p.timed(now, count, ms)
		if until > wait {
			wait = until
		}
		count = min(count, timed)
	}
	return count, wait
}

// longPace is how long the pace must make a replay wait for it to say so.
const longPace = time.Second

// wait waits until the next events are due, and returns how many of n.
func (p *pacer) wait(ctx context.Context, n int, ms func(i int) uint64, holds func(reason string)) (int, error) {
	for {
		count, delay := p.next(time.Now(), n, ms)
		if delay <= 0 {
			holds("")
			return count, nil
		}
		if delay > longPace {
			holds("the next event is due at " + time.Now().Add(delay).UTC().Format(time.RFC3339))
		}
		if err := wait(ctx, delay); err != nil {
			return 0, err
		}
	}
}

// sent says that so many events were handed to the sink, after the wait that
// next asked for.
func (p *pacer) sent(now time.Time, count int, ms func(i int) uint64) {
	if p.pace.Rate > 0 {
		p.due = p.due.Add(time.Duration(float64(count) / p.pace.Rate * float64(time.Second)))
	}
	if p.pace.Factor > 0 {
		p.begin(now, ms(0))
		at := p.lastAt
		for i := range count {
			at = at.Add(p.silence(p.last, ms(i)))
			if early := now.Add(-paceBurst); at.Before(early) {
				at = early
			}
			p.last = ms(i)
		}
		p.lastAt = at
	}
}

// rated is next for a rate.
func (p *pacer) rated(now time.Time, n int) (count int, wait time.Duration) {
	if early := now.Add(-paceBurst); p.due.IsZero() {
		p.due = now
	} else if p.due.Before(early) {
		p.due = early
	}
	tick := max(1, int(math.Min(p.pace.Rate*paceTick.Seconds(), maxBatchEvents)))
	return min(n, tick), p.due.Sub(now)
}

// timed is next for a factor.
func (p *pacer) timed(now time.Time, n int, ms func(i int) uint64) (count int, wait time.Duration) {
	p.begin(now, ms(0))
	at := p.lastAt.Add(p.silence(p.last, ms(0)))
	if at.Before(now) {
		at = now
	}
	together := at.Add(paceSlack)
	for due := at; ; {
		if count++; count == n {
			break
		}
		if due = due.Add(p.silence(ms(count-1), ms(count))); due.After(together) {
			break
		}
	}
	return count, at.Sub(now)
}

// begin takes the first event for due now.
func (p *pacer) begin(now time.Time, ms uint64) {
	if !p.begun {
		p.begun, p.last, p.lastAt = true, ms, now
	}
}

// silence is how long to wait between events of these milliseconds.
func (p *pacer) silence(from, to uint64) time.Duration {
	const long = float64(math.MaxInt64 / 4)
	gap := float64(to-min(to, from)) * float64(time.Millisecond)
	if p.pace.MaxSilence > 0 {
		gap = math.Min(gap, float64(p.pace.MaxSilence))
	}
	return time.Duration(math.Min(gap/p.pace.Factor, long))
}

// hold says that the replay was held by something else than its pace: it goes on
// from now, and catches up with nothing.
func (p *pacer) hold(now time.Time) {
	if p.due.Before(now) {
		p.due = now
	}
	if p.lastAt.Before(now) {
		p.lastAt = now
	}
}
