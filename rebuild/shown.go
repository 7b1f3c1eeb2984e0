package rebuild

import (
	"context"
	"errors"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/jobs"
)

// shown is what the progress shows of a chunk before the journal has it: how many of its
// events the try has read that runs.
type shown struct {
	try    int // 0: none runs
	events uint64
}

// shows says how many events of the chunk a try has read, which may have ended since.
func (c *chunkLoad) shows(try int, events uint64) {
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	events = min(events, c.chunk.Events) // a statement may read more than the chunk
	if c.shown.try != try || events <= c.shown.events {
		return
	}
	b.begun += events - c.shown.events
	c.shown.events = events
	if time.Since(b.reported) >= reportEvery {
		b.reported = time.Now()
		b.show()
	}
}

// turn takes back what the try before this one has shown; 0: no other one comes. b.mu is
// held.
func (c *chunkLoad) turn(try int) {
	c.b.begun -= c.shown.events
	c.shown = shown{try: try}
}

// takeBack takes back at once what is shown of a chunk that the journal does not have.
func (c *chunkLoad) takeBack() {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	was := c.shown.events
	c.turn(0)
	if was > 0 {
		c.b.show()
	}
}

// show reports how far the phase is. b.mu is held, or nothing else runs.
func (b *build) show() {
	done := b.events + b.begun
	if b.total > 0 {
		done = max(min(done, b.total), b.events)
	}
	b.h.Report(func(p *jobs.Progress) { p.Done, p.Begun, p.Total = done, done-b.events, b.total })
}

// unit is what the progress of a phase counts, "" for events.
func unit(phase string) string {
	switch phase {
	case PhaseCarry, PhasePour, PhaseVerify:
		return "rows"
	}
	return ""
}

// reading gives what shows how many rows a statement has read, beside those that the
// statements of the phase before it have.
func (b *build) reading() func(chstore.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.begun // these are done when the phase is
	return func(p chstore.Progress) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.begun, b.total = before+p.ReadRows, max(b.total, before+p.TotalRows)
		if time.Since(b.reported) >= reportEvery {
			b.reported = time.Now()
			b.show()
		}
	}
}

// compares makes what the verification reads of tables known as the total of its progress,
// as far as it is known before: a part of a table is not.
func (b *build) compares(ctx context.Context) error {
	b.begun, b.total = 0, 0
	if b.cp.Base == 0 || !b.spec.Scope.IsZero() {
		return nil
	}
	for _, n := range tablesOf(b.db, b.sub.def, b.mark()) {
		live, err := b.db.Inspect(ctx, n.live)
		if errors.Is(err, chstore.ErrNoTable) {
			continue // it is compared with nothing
		}
		if err != nil {
			return err //nolint:wrapcheck // it says what
		}
		shadow, err := b.db.Inspect(ctx, n.live.Of(b.mark().Generation))
		if err != nil {
			return err //nolint:wrapcheck // it says what
		}
		b.total += live.Rows + shadow.Rows
	}
	return nil
}
