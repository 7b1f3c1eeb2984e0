package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
)

// reportEvery is how often progress and checkpoint are handed to the job.
const reportEvery = 200 * time.Millisecond

// Engine returns what runs the jobs of Kind.
func (s *Service) Engine() jobs.Engine { return &engine{s} }

type engine struct{ svc *Service }

// Run implements jobs.Engine.
func (e *engine) Run(ctx context.Context, h *jobs.Handle) error {
	var b *build
	said := ""
	holds := func(reason string) {
		if reason != said { // nothing is reported before it is known what was done
			said = reason
			h.Report(func(p *jobs.Progress) { p.Holding = reason })
		}
	}
	err := patiently(ctx, holds, func(ctx context.Context) (err error) {
		b, err = e.prepare(ctx, h)
		return err
	})
	if err != nil {
		return asJob(ctx, err)
	}
	return asJob(ctx, b.run(ctx))
}

// Cancel implements jobs.Engine: it drops the shadow and what belongs to it.
func (e *engine) Cancel(ctx context.Context, h *jobs.Handle) error {
	b, err := e.prepare(ctx, h)
	if err != nil {
		return err
	}
	if b.cp.Generation == 0 || b.cp.Phase == PhaseDone {
		return nil
	}
	if err := b.db.Kill(ctx, ""); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if b.cp.Phase != PhaseHandOver {
		return b.dropTables(ctx)
	}
	hold, err := e.svc.acquire(ctx, b.name(), projection.Claim{Worker: b.job.ID, Kind: projection.Rebuilder, TTL: e.svc.opts.TTL})
	if err != nil {
		return err
	}
	return e.svc.held(ctx, hold, func(ctx context.Context) error { return b.undo(ctx, hold) })
}

// undo takes back what a hand-over that was cut short has made live, and drops it.
// While this one has the hold nobody else can make it live; what was live is kept.
func (b *build) undo(ctx context.Context, hold *projection.Hold) error {
	if b.wasLive(hold.Document()) {
		return nil // it was live before it could be cancelled
	}
	since := time.Now()
	err := undisturbed(ctx, func() error { return fenceOff(ctx, b.svc.opts.ClickHouse.As(liveJob(b.name())), b.name()) })
	if err != nil {
		return err
	}
	there, err := occupied(ctx, b.db, b.name())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(there, func(t chstore.Info) bool { return t.Mark.Rebuild == b.job.ID }) {
		if err := undisturbed(ctx, func() error { return b.svc.settleOld(ctx, hold, b.job.ID, since) }); err != nil {
			return err
		}
		if err := b.unswapHeld(ctx, hold, there); err != nil {
			return err
		}
	}
	return b.dropTables(ctx)
}

func (b *build) unswapHeld(ctx context.Context, hold *projection.Hold, there []chstore.Info) error {
	doc := hold.Document()
	var want []named
	if doc.Live.Generation != 0 {
		def, err := b.svc.keptDefinition(ctx, b.name(), doc.Live.Digest)
		if err != nil {
			return err
		}
		own, err := b.svc.generationInfo(ctx, b.db, b.name(), doc.Live.Generation)
		if err != nil {
			return err
		}
		want = tablesOf(b.db, def, own.Mark)
	}
	return b.svc.takeBack(ctx, b.db, hold, want, slices.DeleteFunc(there, func(t chstore.Info) bool { return t.Mark.Rebuild != b.job.ID }))
}

// asJob makes an error one that says to the runner what to do with the job.
func asJob(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case cause != nil && !errors.Is(err, cause):
		return fmt.Errorf("%w (%w)", cause, err)
	case cause != nil:
		return err
	case passes(err), errors.Is(err, projection.ErrHeld), errors.Is(err, projection.ErrFenced), errors.Is(err, errNotThere):
		return jobs.Retry(err)
	}
	return err
}

// build is one attempt at a rebuild.
type build struct {
	svc  *Service
	h    *jobs.Handle
	job  jobs.Job
	spec frozenSpec
	sub  *subject
	plan *Plan
	db   *chstore.Store // in the name of the job

	mu       sync.Mutex // of what is below, while chunks are loaded
	cp       *checkpoint
	journal  *journal
	letters  *letterBook // nil until there are some
	events   uint64      // read in this phase
	begun    uint64      // of the chunks that are being loaded, see shown
	total    uint64
	holding  string
	reported time.Time

	tempo *tempo

	sealing sync.Mutex    // of what is below
	parts   *chstore.Seal // of the table while it is loaded, see stillThere
}

func (b *build) name() string { return b.sub.def.Name }

// prepare reads what the job says.
func (e *engine) prepare(ctx context.Context, h *jobs.Handle) (*build, error) {
	b := &build{svc: e.svc, h: h, job: h.Job()}
	if err := json.Unmarshal(b.job.Spec, &b.spec); err != nil {
		return nil, fmt.Errorf("read the spec of the rebuild: %w", err)
	}
	var err error
	if b.cp, err = readCheckpoint(b.job.Checkpoint); err != nil {
		return nil, err
	}
	if b.plan, err = readPlan(ctx, h.Files()); err != nil {
		return nil, err
	}
	if b.journal, err = decodeJournal(b.cp.Journal, len(b.plan.Chunks)); err != nil {
		return nil, err
	}
	var k kept
	if err := readFile(ctx, h.Files(), definitionFile, &k); err != nil {
		return nil, fmt.Errorf("read the definition of the rebuild: %w", err)
	}
	set, err := e.svc.definitions()
	if err != nil {
		return nil, err
	}
	b.tempo = newTempo(b.spec.Rate)
	b.db = e.svc.opts.ClickHouse.As(b.job.ID).With(b.spec.Scope.values())
	def := k.definition()
	if now, with, digest, err := e.svc.definition(b.spec.Projection); err == nil && digest == b.spec.Digest {
		def, set = now, with // with its checks
	}
	if b.sub, err = e.svc.subject(ctx, def, set, b.spec.Digest); err != nil {
		return nil, err
	}
	b.sub.build = b.job.ID
	return b, nil
}

// unchanged says whether the definition is still the one that the rebuild was created
// with.
func (b *build) unchanged() error {
	_, _, digest, err := b.svc.definition(b.spec.Projection)
	if err != nil {
		return err
	}
	if digest != b.spec.Digest {
		return remedy.Wrapf(fmt.Errorf("the definition of %s has changed since the rebuild was created", b.name()),
			"Cancel the rebuild and create a new one, or put the definition back and retry it.")
	}
	return nil
}

// run goes through the phases from where the job is.
func (b *build) run(ctx context.Context) error {
	if b.cp.Phase != PhaseDone && !b.cp.Swapped {
		if err := b.unchangedYet(ctx); err != nil {
			return err
		}
	}
	// What a worker before this one has left running must not have an effect any more.
	if err := b.killOld(ctx); err != nil {
		return err
	}
	steps := map[string]func(context.Context) error{
		PhasePlan: b.look, PhaseShadow: b.makeShadow, PhaseCarry: b.carryOver, PhaseLoad: b.load, PhasePour: b.pourAll,
		PhaseCatchUp: b.catchUp, PhaseVerify: b.proved, PhaseApproval: b.approve, PhaseHandOver: b.handOver, PhaseDone: b.retire,
	}
	for {
		phase := b.cp.Phase
		b.begin(phase)
		if err := b.enter(ctx, phase, steps[phase]); err != nil {
			b.mu.Lock() // a statement that was interrupted may still say how far it is
			defer b.mu.Unlock()
			return errors.Join(err, b.report())
		}
		if phase == PhaseDone {
			b.events, b.total = b.plan.Events, b.plan.Events // not of this phase, but of all
			return b.report()
		}
		b.cp.Phase = b.after(phase)
		if err := b.save(ctx); err != nil {
			return err
		}
	}
}

// enter goes through a phase. While ClickHouse cannot be reached it waits, for that is
// no failure of the rebuild, and then begins the phase again as after a crash. The load
// waits by itself, chunk by chunk.
func (b *build) enter(ctx context.Context, phase string, step func(context.Context) error) error {
	if phase == PhaseLoad {
		return step(ctx)
	}
	again := false
	return patiently(ctx, b.holds, func(ctx context.Context) error {
		if again {
			if err := b.db.Kill(ctx, ""); err != nil {
				return err //nolint:wrapcheck // it says what
			}
			b.mu.Lock()
			b.begun = 0
			b.mu.Unlock()
		}
		again = true
		return step(ctx)
	})
}

// pourAll makes the tables that are made of others.
func (b *build) pourAll(ctx context.Context) error {
	if err := b.scopeOnly(ctx); err != nil {
		return err
	}
	if err := b.pour(ctx); err != nil {
		return err
	}
	return b.derive(ctx)
}

// killDelay is how long a statement may be on its way that a dead worker has sent.
const killDelay = 300 * time.Millisecond

// killOld ends what a worker before this one has sent, also what is on its way.
func (b *build) killOld(ctx context.Context) error {
	kill := func(ctx context.Context) error { return b.db.Kill(ctx, "") }
	if err := patiently(ctx, b.holds, kill); err != nil || b.h.Epoch() < 2 {
		return err
	}
	if err := wait(ctx, killDelay); err != nil {
		return err
	}
	return patiently(ctx, b.holds, kill)
}

// after gives the phase that comes after one.
func (b *build) after(phase string) string {
	list := phases()
	for i := range list {
		if list[i] == phase {
			return list[i+1]
		}
	}
	return PhaseDone
}

// begin shows a phase.
func (b *build) begin(phase string) {
	b.events, b.begun, b.total = 0, 0, 0
	// What an attempt before this one has done is no speed.
	switch {
	case phase == PhaseLoad && b.sub.def.Kind == projection.Fold:
		b.total = b.plan.Events
		if was := &b.job.Progress; was.Phase == phase {
			b.events = min(was.Done, b.total) // until it is known where its states are
		}
	case phase == PhaseLoad:
		b.events, b.total = b.loadedEvents(), b.plan.Events
	case phase == PhaseCatchUp:
		b.events = b.cp.Feed.Events
	}
	b.h.Log("info", "phase "+phase)
	b.h.Report(func(p *jobs.Progress) {
		p.Phase, p.Unit, p.Holding, p.Done, p.Begun, p.Total, p.Selected, p.Exact = phase, unit(phase), "", b.events, 0, b.total, 0, false
	})
}

// progress reports now and then. b.mu is held.
func (b *build) progress() error {
	if time.Since(b.reported) < reportEvery {
		return nil
	}
	return b.report()
}

// report hands the job its progress and its checkpoint. b.mu is held, or nothing else
// runs.
func (b *build) report() error {
	b.reported = time.Now()
	b.show()
	b.h.Report(func(p *jobs.Progress) {
		p.Holding = b.holding
		p.Selected = b.journal.total()
		p.DeadLetters = b.cp.Letters
	})
	b.cp.Journal = b.journal.encode()
	if err := b.h.SetCheckpoint(b.cp); err != nil {
		return fmt.Errorf("set the checkpoint of the rebuild: %w", err)
	}
	return nil
}

// holds tells the job why it waits, "" when it does not.
func (b *build) holds(reason string) {
	if reason == b.holding {
		return
	}
	b.holding = reason
	if reason != "" {
		b.h.Log("warn", reason)
	}
	b.h.Report(func(p *jobs.Progress) { p.Holding = reason })
}

// save writes the job's document.
func (b *build) save(ctx context.Context) error {
	if err := b.report(); err != nil {
		return err
	}
	if err := b.h.Save(ctx); err != nil {
		if errors.Is(err, jobs.ErrLeaseLost) || context.Cause(ctx) != nil {
			return fmt.Errorf("save the rebuild: %w", err)
		}
		return jobs.Retry(fmt.Errorf("save the rebuild: %w", err))
	}
	return nil
}

// warn notes what a person has to know before the swap.
func (b *build) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, w := range b.cp.Warnings {
		if w == text {
			return
		}
	}
	if len(b.cp.Warnings) < maxWarnings {
		b.cp.Warnings = append(b.cp.Warnings, text)
	}
	b.h.Log("warn", text)
}

// maxWarnings bounds checkpoint.Warnings.
const maxWarnings = 50
