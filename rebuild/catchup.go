package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/redisstream"
)

// caughtUp is how few events a look at all streams gives when a shadow has caught up.
const caughtUp = 2000

// jobLedger is the ledger of a shadow: in its job's checkpoint.
type jobLedger struct{ b *build }

func (l jobLedger) places() map[string]place     { return l.b.cp.Feed.Places }
func (l jobLedger) batch() uint64                { return l.b.cp.Feed.Batch }
func (l jobLedger) pending() *projection.Pending { return l.b.cp.Feed.Pending }

func (l jobLedger) intend(ctx context.Context, p projection.Pending) error {
	l.b.cp.Feed.Pending = &p
	if err := l.b.save(ctx); err != nil {
		l.b.cp.Feed.Pending = nil
		return err
	}
	return nil
}

func (l jobLedger) confirm(ctx context.Context, within time.Duration) error {
	if p := l.b.cp.Feed.Pending; p != nil {
		p.Within = max(p.Within, within)
	}
	return l.b.save(ctx)
}

func (l jobLedger) settle(done bool, derived map[string]uint64) {
	f := &l.b.cp.Feed
	if p := f.Pending; p != nil && done {
		maps.Copy(f.Places, p.Positions)
		f.Batch, f.Rows = p.Batch, f.Rows+p.Rows
		for name, rows := range derived {
			if f.Derived == nil {
				f.Derived = map[string]uint64{}
			}
			f.Derived[name] += rows
		}
	}
	f.Pending = nil
}

// catchUp feeds the shadow with what was archived since, and with what is live, until
// there is little left.
func (b *build) catchUp(ctx context.Context) error {
	if !b.cp.Sealed {
		if err := b.stillThere(ctx, b.shadow(), b.sub.kind); err != nil {
			return err
		}
		tables, err := b.tables(ctx)
		if err != nil {
			return err
		}
		if err := b.seal(ctx, tables, loadedFile); err != nil {
			return err
		}
		b.cp.Sealed = true
	}
	f, err := b.feeder(ctx)
	if err != nil {
		return err
	}
	b.total = 0
	return errors.Join(b.drain(ctx, f, caughtUp), f.close())
}

// archivedSince counts what the archive has that the shadow has not, if that can be known.
// What is live only comes on top.
func (b *build) archivedSince(ctx context.Context) (events uint64, known bool) {
	for stream, at := range b.cp.Feed.Places {
		spec := archive.PlanSpec{Stream: stream, Incarnation: max(at.Incarnation, 1), Range: event.Range{From: at.ID.Next()}, Format: b.spec.Format}
		plan, err := b.svc.opts.Archive.Plan(ctx, spec)
		if err != nil { // it is for display only
			b.h.Log("info", fmt.Sprintf("how much there is left is not known: %v", err))
			return 0, false
		}
		events += plan.Totals.Events
	}
	return events, true
}

// drain feeds until a batch has fewer events than that, or it cannot get closer: each
// batch has what came while the one before was fed, and no less than that.
func (b *build) drain(ctx context.Context, f *feeder, below int) error {
	for last := math.MaxInt; ; {
		if err := b.tempo.keep(ctx); err != nil {
			return err
		}
		n, err := b.step(ctx, f)
		if err != nil {
			return err
		}
		b.tempo.spend(uint64(n)) //nolint:gosec // a count
		if n < below || n < batchEvents/2 && n > last/4*3 {
			return nil
		}
		if last == math.MaxInt { // there is more than can be looked up in passing
			if left, known := b.archivedSince(ctx); known {
				b.total = b.events + b.begun + left
			}
		}
		last = n
	}
}

// fed notes that a batch had so many events. In a hand-over they only show: there is always
// something live, and to have fed it is not to have got on.
func (b *build) fed(events uint64) {
	b.cp.Feed.Events += events
	if b.cp.Phase == PhaseHandOver {
		b.begun += events
	} else {
		b.events += events
	}
	if b.events+b.begun > b.total {
		b.total = 0 // what is live only has no end that is known
	}
}

// step feeds one batch, and waits where streams cannot be read.
func (b *build) step(ctx context.Context, f *feeder) (int, error) {
	for {
		n, err := f.step(ctx)
		b.fed(uint64(n)) //nolint:gosec // a count
		if err == nil {
			b.holds("")
			return n, b.progress()
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if errors.Is(err, jobs.ErrLeaseLost) || !waits(err) {
			return 0, err
		}
		b.holds(err.Error())
		if err := wait(ctx, retryMaxDelay); err != nil {
			return 0, err
		}
	}
}

// waits says whether a stream may be readable later.
func waits(err error) bool {
	return passes(err) || errors.Is(err, redisstream.ErrUnreachable) || errors.Is(err, redisstream.ErrLoading) || errors.Is(err, errReplaced)
}

// feeder makes the feeder of the shadow, wherever that is: before the exchange under
// its own name, and after it under the live one.
func (b *build) feeder(ctx context.Context) (*feeder, error) {
	into, err := b.find(ctx, b.mark())
	if err != nil {
		return nil, err
	}
	deps, err := findDependents(ctx, b.db, b.sub.def, into, b.mark())
	if err != nil {
		return nil, err
	}
	feed := &b.cp.Feed
	if feed.Places == nil {
		feed.Places, feed.Batch = b.firstPlaces(), b.carried()
	}
	last := feed.Batch
	if feed.Pending != nil {
		last = feed.Pending.Batch
	}
	if err := dropLetters(ctx, b.h.Files(), "", last, math.MaxUint64); err != nil {
		return nil, err
	}
	b.letters = nil
	streams, err := b.svc.streams(ctx, b.sub.def)
	if err != nil {
		return nil, err
	}
	for _, name := range streams {
		if _, ok := feed.Places[name]; !ok {
			feed.Places[name] = b.cp.Snapshot[name]
		}
	}
	rows, err := b.svc.rows(b.sub, b.cp.Generation, &b.spec.Scope, b.wanted())
	if err != nil {
		return nil, err
	}
	if fold, ok := rows.(*foldRows); ok {
		if err := fold.warm(ctx, feed.Places, func([]Letter) error { return nil }, func(ctx context.Context, n int) error {
			b.tempo.spend(uint64(n)) //nolint:gosec // a count
			return b.tempo.keep(ctx)
		}); err != nil {
			return nil, errors.Join(err, fold.close())
		}
	}
	r := newReader(b.svc.opts.Archive, b.svc.opts.Redis, b.svc.opts.Mapping, feed.Places)
	r.only(&b.sub.def.Source)
	r.lost = func(stream string, loss redisstream.Loss) {
		b.warn("stream %q lost entries before they were read: %s", stream, lossText(loss))
	}
	return &feeder{
		db: b.db, into: into, kind: b.sub.kind, rows: rows, reader: r, ledger: jobLedger{b}, aside: b.asideBatch, waiting: b.holds,
		mark: b.mark(), expires: b.sub.spec.TTL != "", dependents: deps, fed: fedBy(rows),
	}, nil
}

// asideBatch is aside for a batch, which may have no letters any more.
func (b *build) asideBatch(ctx context.Context, number uint64, letters []Letter) error {
	if len(letters) > 0 {
		return b.aside(ctx, number, letters)
	}
	if _, err := b.noteLetters(ctx, number, nil); err != nil {
		return err
	}
	return putAnew(ctx, b.h.Files(), letterKey(number), []Letter{})
}

// firstPlaces is where the shadow is fed from: where its chunks end, and in a scoped
// rebuild also where the rows end that were carried over. Streams that the definition has
// not any more keep their places in what was carried over, for one that has them again.
func (b *build) firstPlaces() map[string]place {
	places := b.plan.heads()
	if b.spec.Scope.IsZero() {
		return places
	}
	for name, at := range b.cp.Snapshot {
		head, ok := places[name]
		if !ok || at.Compare(head) < 0 {
			places[name] = at
		}
	}
	for name := range places {
		if _, ok := b.cp.Snapshot[name]; !ok {
			places[name] = place{} // nothing of it was carried over
		}
	}
	return places
}

// wanted says, in a scoped rebuild, which events beyond firstPlaces are not yet in the
// shadow: within the scope those beyond the chunks, and outside of it those beyond the
// rows that were carried over.
func (b *build) wanted() func(stream string, at place, within bool) bool {
	if b.spec.Scope.IsZero() {
		return nil
	}
	heads := b.plan.heads()
	return func(stream string, at place, within bool) bool {
		if within {
			return at.Compare(heads[stream]) > 0
		}
		return at.Compare(b.cp.Snapshot[stream]) > 0
	}
}

// find gives the table that bears a mark, whatever its name is.
func (b *build) find(ctx context.Context, mark chstore.Mark) (chstore.Table, error) {
	return b.db.Bearing(ctx, "", mark) //nolint:wrapcheck // it says what
}
