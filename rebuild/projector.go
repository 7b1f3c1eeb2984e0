package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/redisstream"
)

// ProjectorOptions say which projections are kept live, and how.
type ProjectorOptions struct {
	// Names are the projections; none: all.
	Names []string
	// Worker names this process; it is another one in every process. Required.
	Worker string
	// Batch is how long events are gathered until they are fed, at most; default 500 ms.
	// While many come, batches are full and follow one another.
	Batch time.Duration
	// Poll is how often projections are looked at that are not fed here: whether their
	// worker has died, and whether they are new; default 2 s.
	Poll time.Duration
	// Discover is how often new streams are looked for; default 15 s.
	Discover time.Duration
	// Build creates a rebuild of each projection that was never built.
	Build      bool
	Registerer prometheus.Registerer // of metrics reservoir_projector_…; nil: none
}

func (o *ProjectorOptions) defaults() error {
	if o.Worker == "" {
		return errors.New("projector: ProjectorOptions.Worker is empty: name the process")
	}
	if o.Batch <= 0 {
		o.Batch = 500 * time.Millisecond
	}
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	if o.Discover <= 0 {
		o.Discover = 15 * time.Second
	}
	return nil
}

// Projector keeps projections live: what is published comes into their tables, each
// event once. Any number of projectors may run, anywhere: each projection is fed by one
// of them, and if that one dies, by another.
type Projector struct {
	svc     *Service
	opts    ProjectorOptions
	metrics *projectorMetrics

	mu   sync.Mutex
	said map[string]string          // by projection
	lost map[string]map[string]told // what was said of losses last, by projection and stream
}

// Projector makes a Projector, which does nothing until Run.
func (s *Service) Projector(opts ProjectorOptions) (*Projector, error) {
	if err := opts.defaults(); err != nil {
		return nil, err
	}
	return &Projector{svc: s, opts: opts, metrics: newProjectorMetrics(opts.Registerer), said: map[string]string{}, lost: map[string]map[string]told{}}, nil
}

// Run feeds projections until ctx ends. Then it finishes what is in hand, gives the
// projections back, and returns nil. What fails is logged and tried again.
func (p *Projector) Run(ctx context.Context) error {
	running := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		for _, name := range p.names() {
			mu.Lock()
			busy := running[name]
			running[name] = true
			mu.Unlock()
			if busy {
				continue
			}
			wg.Go(func() {
				p.keep(ctx, name)
				mu.Lock()
				delete(running, name)
				mu.Unlock()
			})
		}
		if err := wait(ctx, p.opts.Poll); err != nil {
			return nil
		}
	}
}

// names gives the projections to be fed.
func (p *Projector) names() []string {
	set, err := p.svc.opts.Definitions()
	if err != nil {
		p.svc.opts.Logger.Error("the projections cannot be read", "error", err)
		return p.opts.Names
	}
	var names []string
	for d := range set.All() {
		if len(p.opts.Names) == 0 || slices.Contains(p.opts.Names, d.Name) {
			names = append(names, d.Name)
		}
	}
	return names
}

// keep feeds a projection for as long as this worker may.
func (p *Projector) keep(ctx context.Context, name string) {
	logger := p.svc.opts.Logger.With("projection", name)
	err := p.feed(ctx, name)
	var swap *swapError
	switch {
	case err == nil, ctx.Err() != nil:
	case errors.As(err, &swap):
		p.metrics.waiting.WithLabelValues(name).Set(1)
		if p.isNews(name, err.Error()) {
			logger.Warn("the projection is not fed: a swap was cut short", "rebuild", swap.job.ID, "error", err)
		}
	case errors.Is(err, projection.ErrHeld), errors.Is(err, projection.ErrFenced):
		p.metrics.waiting.WithLabelValues(name).Set(0)
		logger.Debug("another worker has the projection", "error", err)
	case errors.Is(err, projection.ErrNotBuilt):
		if err := p.build(ctx, name); err != nil {
			logger.Error("the projection cannot be built", "error", err)
		}
	default:
		p.metrics.failures.WithLabelValues(name).Inc()
		p.metrics.waiting.WithLabelValues(name).Set(1)
		logger.Error("the projection cannot be fed", "error", err)
	}
}

// isNews says whether it was not the last thing said of a projection.
func (p *Projector) isNews(name, text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.said[name]
	p.said[name] = text
	return was != text
}

// losses is what was said last of what a projection's streams lost: places move
// with events only, so whoever opens the projection again meets the same losses again. One
// at a time feeds the projection, and the map is that one's.
func (p *Projector) losses(name string) map[string]told {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost[name] == nil {
		p.lost[name] = map[string]told{}
	}
	return p.lost[name]
}

// build creates the first rebuild of a projection, if that is wished.
func (p *Projector) build(ctx context.Context, name string) error {
	if !p.opts.Build {
		return nil
	}
	_, _, digest, err := p.svc.definition(name)
	if err != nil {
		return err
	}
	for job, err := range p.svc.opts.Jobs.List(ctx, jobs.Query{Kinds: []string{Kind}, Target: Target(name)}) {
		if err != nil {
			return err //nolint:wrapcheck // it says what
		}
		if !job.State.Ended() || job.State == jobs.Failed {
			return nil // one is under way, or a person has to look at it
		}
	}
	_, err = p.svc.Create(ctx, Spec{Projection: name, Approval: projection.Automatic}, CreateOptions{
		By: p.opts.Worker, Reason: "it was never built", IdempotencyKey: "first-" + name + "-" + digest[:16],
	})
	return err
}

// feed feeds one projection until its hold ends.
func (p *Projector) feed(ctx context.Context, name string) (err error) {
	doc, err := p.svc.documents.Get(ctx, name)
	if err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	if doc.Live.Generation == 0 {
		return fmt.Errorf("projection %s: %w", name, projection.ErrNotBuilt)
	}
	hold, err := p.svc.documents.Acquire(ctx, name, projection.Claim{Worker: p.opts.Worker, Kind: projection.Projector, TTL: p.svc.opts.TTL})
	if err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	l := &liveFeed{p: p, name: name, hold: hold, since: time.Now(), kept: map[uint64]*keptFeed{}}
	return p.svc.held(ctx, hold, func(ctx context.Context) error {
		err := l.run(ctx)
		var swap *swapError
		if err == nil || ctx.Err() != nil || errors.Is(err, projection.ErrFenced) || errors.As(err, &swap) {
			return err
		}
		if waitErr := hold.Wait(ctx, err.Error()); waitErr != nil && !errors.Is(waitErr, projection.ErrFenced) {
			err = errors.Join(err, waitErr)
		}
		return err
	})
}

// liveFeed is the feeding of one live table, for as long as a hold lasts.
type liveFeed struct {
	p       *Projector
	name    string
	hold    *projection.Hold
	feeder  *feeder
	sub     *subject
	since   time.Time // when it was taken
	looked  time.Time
	letters *liveLetters
	said    string
	waits   time.Time            // since when it waits
	kept    map[uint64]*keptFeed // previous generations, by number
}

// holdLedger is the ledger of a live table: the projection's document.
type holdLedger struct{ hold *projection.Hold }

func (l holdLedger) places() map[string]place     { return l.hold.Document().Live.Positions }
func (l holdLedger) batch() uint64                { return l.hold.Document().Batch }
func (l holdLedger) pending() *projection.Pending { return l.hold.Document().Pending }

func (l holdLedger) settle(done bool, _ map[string]uint64) { l.hold.Settle(done) }

func (l holdLedger) confirm(ctx context.Context, within time.Duration) error {
	return l.hold.Extend(ctx, within) //nolint:wrapcheck // it names the projection
}

func (l holdLedger) intend(ctx context.Context, p projection.Pending) error {
	return l.hold.Intend(ctx, p) //nolint:wrapcheck // it names the projection
}

func (l *liveFeed) run(ctx context.Context) error {
	if err := l.open(ctx); err != nil {
		if l.feeder != nil {
			err = errors.Join(err, l.feeder.close())
		}
		return err
	}
	err := l.keepFed(ctx)
	if err == nil {
		err = l.loop(ctx)
	}
	return errors.Join(err, l.closeKept(), l.feeder.close())
}

func (l *liveFeed) loop(ctx context.Context) error {
	for ctx.Err() == nil {
		began := time.Now()
		n, err := l.feeder.step(ctx)
		switch {
		case err == nil:
			if err := l.goesOn(ctx); err != nil {
				return err
			}
		case ctx.Err() != nil:
			continue
		case !waits(err):
			return err
		default:
			l.waiting(ctx, err.Error())
		}
		l.measure(n)
		more, err := l.stepKept(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err := l.tidy(ctx); err != nil {
			return err
		}
		if max(n, more) >= batchEvents {
			continue
		}
		if rest := l.p.opts.Batch - time.Since(began); rest > 0 {
			if err := wait(ctx, rest); err != nil {
				return nil //nolint:nilerr // it was asked to stop
			}
		}
	}
	return nil
}

// open finds the live table and settles what is in flight.
func (l *liveFeed) open(ctx context.Context) error {
	s, doc := l.p.svc, l.hold.Document()
	if doc.Damaged != "" {
		return fmt.Errorf("projection %s: %w: %s", l.name, projection.ErrDamaged, doc.Damaged)
	}
	var err error
	if l.sub, err = s.keptSubject(ctx, l.name, doc.Live.Digest); err != nil {
		return err
	}
	d := l.sub.def
	l.sub.build = doc.Live.Rebuild
	l.letters = s.liveLetters(d, &doc.Live)
	if err := l.letters.settle(ctx, doc.Batch, doc.Pending); err != nil {
		return err
	}
	db := s.opts.ClickHouse.As(liveJob(l.name))
	if err := l.unsent(ctx, doc); err != nil {
		return err
	}
	if err := db.Kill(ctx, ""); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	into := db.Table(d.Table.Name)
	var mark chstore.Mark
	var deps *dependents
	err = undisturbed(ctx, func() error {
		err := fenceOff(ctx, db, l.name)
		if err == nil {
			mark, err = s.inPlace(ctx, db, l.hold, d)
		}
		if err == nil {
			deps, err = findDependents(ctx, db, d, into, mark)
		}
		return err
	})
	if err != nil {
		return err
	}
	rows, err := s.rows(l.sub, doc.Live.Generation, nil, nil)
	if err != nil {
		return err
	}
	if fold, ok := rows.(*foldRows); ok {
		none := func([]Letter) error { return nil }
		if err := fold.warm(ctx, doc.Live.Positions, none, func(ctx context.Context, _ int) error { return ctx.Err() }); err != nil {
			return errors.Join(err, fold.close())
		}
	}
	reader := newReader(s.opts.Archive, s.opts.Redis, s.opts.Mapping, maps.Clone(doc.Live.Positions))
	reader.only(&d.Source)
	reader.knows(l.p.losses(l.name))
	reader.lost = func(stream string, loss redisstream.Loss) {
		s.opts.Logger.Error("entries were lost before they were read", "projection", l.name, "stream", stream, "loss", lossText(loss))
		l.p.metrics.lost.WithLabelValues(l.name).Add(float64(loss.Lost))
	}
	l.feeder = &feeder{
		fed: fedBy(rows), dependents: deps,
		db: db, into: into, kind: l.sub.kind, rows: rows, reader: reader, ledger: holdLedger{l.hold}, aside: l.aside, waiting: func(reason string) { l.waiting(ctx, reason) }, mark: mark, expires: l.sub.spec.TTL != "",
	}
	return l.discover(ctx)
}

// unsent waits until nothing is sent any more of what the feeder before has announced. Who
// has taken its place has seen nothing of it for the TTL, which is mostly enough.
func (l *liveFeed) unsent(ctx context.Context, doc *projection.Document) error {
	rest := func(p *projection.Pending) time.Duration {
		if p == nil {
			return 0
		}
		return sureAfter(p) - l.p.svc.opts.TTL - time.Since(l.since)
	}
	most := rest(doc.Pending)
	for i := range doc.Previous {
		most = max(most, rest(doc.Previous[i].Pending))
	}
	return wait(ctx, most)
}

// discover follows streams that are new.
func (l *liveFeed) discover(ctx context.Context) error {
	l.looked = time.Now()
	names, err := l.p.svc.streams(ctx, l.sub.def)
	if err != nil {
		if ctx.Err() == nil && waits(err) {
			return nil
		}
		return err
	}
	for _, name := range names {
		l.feeder.reader.follow(name, place{})
	}
	return nil
}

// tidy does what is to be done now and then.
func (l *liveFeed) tidy(ctx context.Context) error {
	if time.Since(l.looked) >= l.p.opts.Discover {
		if err := l.discover(ctx); err != nil {
			return err
		}
		if err := l.keepFed(ctx); err != nil {
			return err
		}
		if err := l.p.svc.Sweep(ctx, l.name); err != nil && ctx.Err() == nil {
			l.p.svc.opts.Logger.Warn("old generations cannot be dropped", "projection", l.name, "error", err)
		}
	}
	return nil
}

// sayAfter is how long a table waits before the projection's document says why: most
// reasons pass before anybody looks.
const sayAfter = 5 * time.Second

// waiting logs why the table cannot be fed, when that changes, and notes it when it lasts.
func (l *liveFeed) waiting(ctx context.Context, reason string) {
	if reason == "" {
		return // it goes on when a step has ended well
	}
	logger := l.p.svc.opts.Logger.With("projection", l.name)
	if l.said == "" {
		l.waits = time.Now()
		l.p.metrics.waiting.WithLabelValues(l.name).Set(1)
	}
	if reason != l.said {
		l.said = reason
		logger.Warn("the projection waits", "reason", reason)
	}
	if there := l.hold.Document().Waiting; time.Since(l.waits) < sayAfter || there != nil && there.Reason == reason {
		return
	}
	if err := l.hold.Wait(ctx, reason); err != nil && ctx.Err() == nil {
		logger.Warn("why the projection waits cannot be noted", "error", err)
	}
}

// goesOn takes note that the table is fed, or that there is nothing to feed it with.
func (l *liveFeed) goesOn(ctx context.Context) error {
	l.p.metrics.waiting.WithLabelValues(l.name).Set(0)
	noted := l.hold.Document().Waiting != nil
	if l.said != "" || noted {
		l.said = ""
		l.p.svc.opts.Logger.Info("the projection is fed again", "projection", l.name)
	}
	if !noted {
		return nil
	}
	return errors.Join(l.hold.Wait(ctx, ""), l.hold.Renew(ctx))
}

// aside keeps events that cannot be used, as far as the definition lets it.
func (l *liveFeed) aside(ctx context.Context, number uint64, letters []Letter) error {
	if err := l.letters.aside(ctx, number, letters); err != nil {
		return err
	}
	l.p.metrics.letters.WithLabelValues(l.name).Add(float64(len(letters)))
	return nil
}

// measure shows how far the table is.
func (l *liveFeed) measure(events int) {
	m := l.p.metrics
	m.events.WithLabelValues(l.name).Add(float64(events))
	var last uint64
	for _, at := range l.hold.Document().Live.Positions {
		last = max(last, at.ID.Ms)
	}
	m.position.WithLabelValues(l.name).Set(float64(last) / 1000)
	lag := 0.0
	if events > 0 && last > 0 {
		lag = max(0, float64(time.Now().UnixMilli())-float64(last)) / 1000
	}
	m.lag.WithLabelValues(l.name).Set(lag)
}

// projectorMetrics are the metrics of a Projector.
type projectorMetrics struct {
	events, letters, lost, failures *prometheus.CounterVec
	position, lag, waiting          *prometheus.GaugeVec
}

func newProjectorMetrics(reg prometheus.Registerer) *projectorMetrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "reservoir", Subsystem: "projector", Name: name, Help: help}, []string{"projection"})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "reservoir", Subsystem: "projector", Name: name, Help: help}, []string{"projection"})
	}
	m := &projectorMetrics{
		events:   counter("events_total", "Events read and fed."),
		letters:  counter("dead_letters_total", "Events that could not be used and were put aside."),
		lost:     counter("lost_total", "Entries that were gone before they were read, at the least."),
		failures: counter("failures_total", "Times that a projection could not be fed."),
		position: gauge("position_seconds", "Time of the newest event in the table, by its ID, since 1970."),
		waiting:  gauge("waiting", "1 while the projection cannot be fed: its document and the log say why."),
		lag:      gauge("lag_seconds", "Age of the newest event of the last batch when it was in the table; 0 when nothing was new."),
	}
	if reg != nil {
		reg.MustRegister(m.events, m.letters, m.lost, m.failures, m.position, m.lag, m.waiting)
	}
	return m
}
