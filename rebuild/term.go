package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/projection"
)

const (
	// issueWithin is how soon after its announcement a batch is at the server with all of its
	// rows, or not at all: the server refuses it. Where that was too soon the next one gets
	// more time, up to issueMost, so that a slow machine or network gets on too.
	issueWithin = time.Second
	issueMost   = 2 * time.Minute
	// sureMargin is for clocks of servers that differ.
	sureMargin = 500 * time.Millisecond
)

// sureAfter is when it is sure, since somebody has taken the place of the one who has
// announced a batch, that nothing of it comes any more that is not running.
func sureAfter(p *projection.Pending) time.Duration {
	return max(issueWithin, p.Within) + sureMargin
}

// confirmation makes sure that this is still the one who feeds, see ledger.
type confirmation = func(ctx context.Context, within time.Duration) error

// term is how long a feeder may issue what it has announced. It begins before the
// announcement.
type term struct {
	began  time.Time // by the clock here
	until  time.Time // by that of the server
	within time.Duration
}

// left says whether there is enough left of it to issue another statement.
func (t term) left() bool { return time.Since(t.began) <= t.within/2 }

// fence keeps a statement within the term, and away from other tables.
func (t term) fence(mark chstore.Mark) *chstore.Fence {
	return &chstore.Fence{Mark: mark, Until: t.until}
}

// pace is how long the terms of a feeder are. The zero pace is that of a fast machine.
type pace struct{ within time.Duration }

func (p *pace) now() time.Duration { return max(issueWithin, p.within) }

// term begins one.
func (p *pace) term(ctx context.Context, db *chstore.Store) (t term, err error) {
	t.began, t.within = time.Now(), p.now()
	now, err := db.Clock(ctx)
	t.until = now.Add(t.within)
	return t, err //nolint:wrapcheck // it says what
}

// refused gives the next term more time where an error says that this one was too short,
// and says so.
func (p *pace) refused(err error) error {
	if !errors.Is(err, chstore.ErrLate) {
		return err
	}
	was := p.now()
	p.within = min(2*was, issueMost)
	return fmt.Errorf("%w: it was not at the server within %v, and gets %v now", err, was, p.within)
}

// went takes note that what was issued in a term has ended well: terms that are much too
// long become shorter again.
func (p *pace) went(t term) {
	if time.Since(t.began) < p.now()/4 {
		p.within = max(issueWithin, p.now()/2)
	}
}
