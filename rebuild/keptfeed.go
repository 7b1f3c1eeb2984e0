package rebuild

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/redisstream"
)

// keptLedger is the ledger of a previous generation: the projection's document too.
type keptLedger struct {
	hold       *projection.Hold
	generation uint64
}

// kept is the generation; an empty one when it was dropped: then nothing can be announced.
func (l keptLedger) kept() *projection.Previous {
	if kept := l.hold.Document().Kept(l.generation); kept != nil {
		return kept
	}
	return &projection.Previous{}
}

func (l keptLedger) places() map[string]place     { return l.kept().Positions }
func (l keptLedger) batch() uint64                { return l.kept().Batch }
func (l keptLedger) pending() *projection.Pending { return l.kept().Pending }

func (l keptLedger) settle(done bool, _ map[string]uint64) { l.hold.SettleKept(l.generation, done) }

func (l keptLedger) confirm(ctx context.Context, within time.Duration) error {
	return l.hold.ExtendKept(ctx, l.generation, within) //nolint:wrapcheck // it names the projection
}

func (l keptLedger) intend(ctx context.Context, p projection.Pending) error {
	return l.hold.IntendKept(ctx, l.generation, p) //nolint:wrapcheck // it names the projection
}

// keptFeed is the feeding of a previous generation, beside the live one. What fails here
// is logged and tried again later: the live one must not wait for it.
type keptFeed struct {
	l          *liveFeed
	generation uint64
	logger     *slog.Logger
	cancel     context.CancelFunc
	opening    chan error // until there is a feeder
	feeder     *feeder
	sub        *subject
	letters    *liveLetters
	said       string
	failed     time.Time
	waited     time.Time // when it last had to wait
	looked     time.Time
}

// keepFed begins to feed the previous generations that are to be fed, and ends with those
// that are not kept any more.
func (l *liveFeed) keepFed(ctx context.Context) error {
	doc := l.hold.Document()
	for generation, k := range l.kept {
		if kept := doc.Kept(generation); kept != nil && fedNow(kept) && (k.failed.IsZero() || time.Since(k.failed) < keptRetry) {
			continue
		}
		delete(l.kept, generation)
		if err := k.close(); err != nil {
			return err
		}
	}
	for i := range doc.Previous {
		p := &doc.Previous[i]
		if !fedNow(p) || l.kept[p.Generation.Generation] != nil {
			continue
		}
		l.kept[p.Generation.Generation] = l.openKept(ctx, p)
	}
	return nil
}

// fedNow says whether a previous generation is to be fed: not when it may be dropped.
func fedNow(p *projection.Previous) bool { return p.Feed && time.Now().Before(p.DropAfter) }

// keptRetry is how long a previous generation is left alone that could not be fed.
const keptRetry = time.Minute

// openKept begins to feed a previous generation. To get ready may take long: the states of
// a fold may have to be made again.
func (l *liveFeed) openKept(ctx context.Context, p *projection.Previous) *keptFeed {
	k := &keptFeed{
		l: l, generation: p.Generation.Generation, opening: make(chan error, 1),
		logger: l.p.svc.opts.Logger.With("projection", l.name, "generation", p.Generation.Generation),
	}
	ctx, k.cancel = context.WithCancel(ctx)
	go func() { k.opening <- k.open(ctx, p) }()
	return k
}

func (k *keptFeed) open(ctx context.Context, p *projection.Previous) error {
	s := k.l.p.svc
	var err error
	if k.sub, err = s.keptSubject(ctx, k.l.name, p.Digest); err != nil {
		return err
	}
	d := k.sub.def
	k.letters = s.liveLetters(d, &p.Generation)
	if err := k.letters.settle(ctx, p.Batch, p.Pending); err != nil {
		return err
	}
	db := s.opts.ClickHouse.As(liveJob(k.l.name))
	into, err := s.generationInfo(ctx, db, k.l.name, k.generation)
	if err != nil {
		return err
	}
	deps, err := findDependents(ctx, db, d, into.Table, into.Mark)
	if err != nil {
		return err
	}
	rows, err := s.rows(k.sub, k.generation, nil, nil)
	if err != nil {
		return err
	}
	if fold, ok := rows.(*foldRows); ok {
		if err := fold.warm(ctx, p.Positions, func([]Letter) error { return nil }, func(ctx context.Context, _ int) error { return ctx.Err() }); err != nil {
			return errors.Join(err, fold.close())
		}
	}
	reader := newReader(s.opts.Archive, s.opts.Redis, s.opts.Mapping, maps.Clone(p.Positions))
	reader.only(&d.Source)
	reader.knows(k.l.p.losses(fmt.Sprintf("%s, generation %d", k.l.name, k.generation)))
	reader.lost = func(stream string, loss redisstream.Loss) {
		k.logger.Error("entries were lost before they were read", "stream", stream, "loss", lossText(loss))
	}
	k.feeder = &feeder{
		db: db, into: into.Table, kind: k.sub.kind, rows: rows, reader: reader, ledger: keptLedger{k.l.hold, k.generation},
		aside: k.aside, waiting: k.waiting, mark: into.Mark, expires: k.sub.spec.TTL != "", dependents: deps, fed: fedBy(rows),
		once: true,
	}
	return k.discover(ctx)
}

// discover follows streams that are new.
func (k *keptFeed) discover(ctx context.Context) error {
	names, err := k.l.p.svc.streams(ctx, k.sub.def)
	for _, name := range names {
		k.feeder.reader.follow(name, place{})
	}
	return err
}

// ready says whether it can be fed by now.
func (k *keptFeed) ready() bool {
	if k.opening != nil {
		select {
		case err := <-k.opening:
			k.opening = nil
			k.fail(err)
		default:
			return false
		}
	}
	return k.feeder != nil && k.failed.IsZero()
}

func (k *keptFeed) fail(err error) {
	if err != nil {
		k.failed = time.Now()
		k.logger.Error("a previous generation cannot be fed", "error", err)
	}
}

// step feeds one batch. The error is one that ends the feeding of the live table too.
func (k *keptFeed) step(ctx context.Context) (events int, err error) {
	if !k.ready() || time.Since(k.waited) < retryMaxDelay {
		return 0, nil
	}
	if time.Since(k.looked) >= k.l.p.opts.Discover {
		k.looked = time.Now()
		if err := k.discover(ctx); err != nil && ctx.Err() == nil {
			k.waiting(err.Error())
			return 0, nil
		}
	}
	n, err := k.feeder.step(ctx)
	switch {
	case err == nil:
		k.waiting("")
	case ctx.Err() != nil || errors.Is(err, projection.ErrFenced):
		return n, err
	case waits(err):
		k.waited = time.Now()
		k.waiting(err.Error())
	default:
		k.fail(err)
	}
	return n, nil
}

// stepKept feeds one batch to each previous generation that is fed.
func (l *liveFeed) stepKept(ctx context.Context) (events int, err error) {
	for _, k := range l.kept {
		n, err := k.step(ctx)
		if err != nil {
			return n, err
		}
		events = max(events, n)
	}
	return events, nil
}

// waiting logs why the table cannot be fed, when that changes.
func (k *keptFeed) waiting(reason string) {
	if reason != k.said && reason != "" {
		k.logger.Warn("a previous generation waits", "reason", reason)
	}
	k.said = reason
}

// aside keeps events that cannot be used, as far as the definition lets it.
func (k *keptFeed) aside(ctx context.Context, number uint64, letters []Letter) error {
	return k.letters.aside(ctx, number, letters)
}

// close gives back what it holds.
func (k *keptFeed) close() error {
	k.cancel()
	if k.opening != nil {
		if err := <-k.opening; err != nil && !errors.Is(err, context.Canceled) {
			k.fail(err)
		}
		k.opening = nil
	}
	if k.feeder == nil {
		return nil
	}
	return k.feeder.close()
}

// closeKept ends with all of them.
func (l *liveFeed) closeKept() error {
	var errs []error
	for _, k := range l.kept {
		errs = append(errs, k.close())
	}
	return errors.Join(errs...)
}
