package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// liveJob is in whose name the live table of a projection is fed, by whatever worker:
// one that takes over kills what the one before it has left running.
func liveJob(name string) string { return "projector-" + name }

// seized is the right to write to a projection's live table, with nothing in flight.
type seized struct{ *projection.Hold }

// seize takes the live table of a projection from its projector, settles what that has in
// flight, and calls do, all of it as the holder. The context of do ends when somebody
// else is that.
func (s *Service) seize(ctx context.Context, name, by string, do func(context.Context, *seized) error) error {
	hold, err := s.acquire(ctx, name, projection.Claim{Worker: by, Kind: projection.Rebuilder, TTL: s.opts.TTL})
	if err != nil {
		return err
	}
	since := time.Now()
	return s.held(ctx, hold, func(ctx context.Context) error {
		err := undisturbed(ctx, func() error {
			if err := fenceOff(ctx, s.opts.ClickHouse.As(liveJob(name)), name); err != nil {
				return err
			}
			return s.settleOld(ctx, hold, by, since)
		})
		if err != nil {
			return err
		}
		return do(ctx, &seized{hold})
	})
}

// undisturbed does something in the name of a live table, and again where that was killed:
// a feeder that does not know yet that it has lost its place kills what runs in its name,
// once, when it begins (see chstore.Store.Kill). There may be several such.
func undisturbed(ctx context.Context, do func() error) error {
	err := do()
	for delay := disturbedDelay; errors.Is(err, chstore.ErrKilled) && delay < disturbedDelay<<settleAttempts; delay *= 2 {
		if waitErr := wait(ctx, delay); waitErr != nil {
			return fmt.Errorf("%w: %w", waitErr, err)
		}
		err = do()
	}
	return err
}

// disturbedDelay is how long is waited at first when a statement was killed.
const disturbedDelay = 50 * time.Millisecond

// held does something as the holder, and gives the hold back.
func (s *Service) held(ctx context.Context, hold *projection.Hold, do func(context.Context) error) error {
	held, stop := stay(ctx, hold, s.opts.TTL)
	err := lost(ctx, held, do(held))
	stop()
	return releaseAfter(ctx, hold, err)
}

// fenceOff takes away the names of tables that only an exchange knows that somebody
// before has begun (see chstore.Store.Exchange). Should that one go on, it finds nothing
// to exchange: else it would put a table in place that is behind what is fed from now on.
func fenceOff(ctx context.Context, db *chstore.Store, name string) error {
	tables, err := db.Marked(ctx, "", name)
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	for _, t := range tables {
		live, _, aside := strings.Cut(t.Table.Name, "__")
		if !aside || t.Mark.Generation == 0 || t.Mark.Role != "" && !strings.HasPrefix(t.Mark.Role, dependentRole) {
			continue
		}
		if err := db.Aside(ctx, chstore.Table{Database: t.Table.Database, Name: live}, t.Mark); err != nil {
			return err //nolint:wrapcheck // it says what
		}
	}
	return nil
}

// acquireEvery is how often a holder is looked at.
const acquireEvery = 200 * time.Millisecond

// acquire waits for a hold, for as long as the holder of now may live and a little more.
func (s *Service) acquire(ctx context.Context, name string, claim projection.Claim) (*projection.Hold, error) {
	for began := time.Now(); ; {
		hold, err := s.documents.Acquire(ctx, name, claim)
		if err == nil || !errors.Is(err, projection.ErrHeld) || time.Since(began) > 3*claim.TTL {
			return hold, err //nolint:wrapcheck // it names the projection
		}
		if err := wait(ctx, acquireEvery); err != nil {
			return nil, err
		}
	}
}

// releaseAfter gives a hold back, whatever became of what it was for.
func releaseAfter(ctx context.Context, hold *projection.Hold, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if releaseErr := hold.Release(ctx); releaseErr != nil && !errors.Is(releaseErr, projection.ErrFenced) {
		return errors.Join(err, releaseErr)
	}
	return err
}

// settleOld finds out of every generation that is fed whether its table has the batch in
// flight as a whole, or makes that nothing of it is there. It is not issued again. The
// one who announced it may be alive, and just about to issue it: that is waited for.
func (s *Service) settleOld(ctx context.Context, hold *projection.Hold, by string, since time.Time) error {
	doc := hold.Document()
	done, damage, err := s.settleGeneration(ctx, doc.Name, &doc.Live, doc.Pending, since, hold.Extend)
	if err != nil {
		return err
	}
	if damage != "" {
		if err := hold.Damage(ctx, damage, by); err != nil {
			return err //nolint:wrapcheck // it names the projection
		}
	}
	hold.Settle(done)
	for i := range doc.Previous {
		kept := &doc.Previous[i]
		if kept.Pending == nil {
			continue
		}
		confirm := keptLedger{hold, kept.Generation.Generation}.confirm
		done, damage, err := s.settleGeneration(ctx, doc.Name, &kept.Generation, kept.Pending, since, confirm)
		if errors.Is(err, chstore.ErrNoTable) {
			done, damage, err = false, "its table is gone", nil
		}
		if err != nil {
			return err
		}
		if damage != "" {
			if err := hold.DamageKept(ctx, kept.Generation.Generation, damage, by); err != nil {
				return err //nolint:wrapcheck // it names the projection
			}
		}
		hold.SettleKept(kept.Generation.Generation, done)
	}
	return nil
}

// settleGeneration says whether the tables of a generation have the batch in flight.
func (s *Service) settleGeneration(ctx context.Context, name string, g *projection.Generation, p *projection.Pending, since time.Time, confirm confirmation) (done bool, damage string, err error) {
	if p == nil || p.Rows == 0 {
		return true, "", nil
	}
	db := s.opts.ClickHouse.As(liveJob(name))
	info, err := s.generationInfo(ctx, db, name, g.Generation)
	if err != nil {
		return false, "", err
	}
	there, err := s.await(ctx, db, info, p, since, confirm)
	if err != nil {
		return false, "", err
	}
	switch there {
	case some:
		if def, err := s.keptDefinition(ctx, name, g.Digest); err == nil && def.Table.TTL != "" {
			return false, fmt.Sprintf("whether batch %d is there cannot be said: the one who fed it died, and rows expire", p.Batch), nil
		}
		return false, fmt.Sprintf("batch %d is there in part, and the one who fed it died", p.Batch), nil
	case all:
		err := s.completeDependents(ctx, name, g, info, p, since, confirm)
		if err != nil && !passes(err) && ctx.Err() == nil && !errors.Is(err, projection.ErrFenced) {
			return true, fmt.Sprintf("batch %d is not in all of its tables: %v", p.Batch, err), nil
		}
		return true, "", err
	}
	return false, "", nil
}

// completeDependents makes what the dependents lack of a batch that the own table has:
// the one who fed them may be about to, and that is waited for.
func (s *Service) completeDependents(ctx context.Context, name string, g *projection.Generation, own chstore.Info, p *projection.Pending, since time.Time, confirm confirmation) error {
	def, err := s.keptDefinition(ctx, name, g.Digest)
	if err != nil || len(def.Dependents) == 0 {
		return err
	}
	db := s.opts.ClickHouse.As(liveJob(name))
	list, err := findDependents(ctx, db, def, own.Table, own.Mark)
	if err != nil {
		return err
	}
	d := &derivation{dependents: list, p: p, confirm: confirm, pace: &pace{}}
	for {
		if there, err := d.there(ctx); err != nil || there {
			return err
		}
		if over, err := comesNoMore(ctx, db, p, since); err != nil {
			return err
		} else if over {
			break
		}
	}
	if err := db.Kill(ctx, ""); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	return patiently(ctx, nil, func(ctx context.Context) error { return d.pace.refused(d.run(ctx)) })
}

// lets is how long a statement of a batch in flight may still run when its feeder has lost
// its place, until it is killed.
const lets = 30 * time.Second

// comesNoMore waits a moment, and says whether it is sure by now that nothing of a batch
// in flight comes any more by itself: its term is over, and none of its statements runs.
func comesNoMore(ctx context.Context, db *chstore.Store, p *projection.Pending, since time.Time) (bool, error) {
	if err := wait(ctx, awaitEvery); err != nil {
		return false, err
	}
	over := time.Since(since) - sureAfter(p)
	if over < 0 {
		return false, nil
	}
	running, err := db.Running(ctx, fmt.Sprintf("chunk/%d", p.Batch))
	return len(running) == 0 || over > lets, err //nolint:wrapcheck // it says what
}

// awaitEvery is how often a batch in flight is looked for.
const awaitEvery = 20 * time.Millisecond

// await waits until a table has a batch, or until it is sure that it will not have it.
// Where rows replace each other it is enough that some of it came: it is fed again.
func (s *Service) await(ctx context.Context, db *chstore.Store, table chstore.Info, p *projection.Pending, since time.Time, confirm confirmation) (presence, error) {
	for {
		there, err := seen(ctx, db, table.Table, table.Kind, p)
		if err != nil || there == all {
			return there, err
		}
		if table.Kind == chstore.Replacing {
			rows, err := db.Prove(ctx, table.Table, p.Batch)
			if err != nil {
				return none, err //nolint:wrapcheck // it says what
			}
			if rows > 0 {
				break
			}
		}
		if over, err := comesNoMore(ctx, db, p, since); err != nil {
			return none, err
		} else if over {
			break
		}
	}
	if err := db.Kill(ctx, ""); err != nil {
		return none, err //nolint:wrapcheck // it says what
	}
	return look(ctx, db, table.Table, table.Kind, p, sureAfter(p)-sureMargin, confirm)
}

// handOver brings the shadow to where the live table is, exchanges them, and makes that
// known: first without disturbing the projector, then in its place.
func (b *build) handOver(ctx context.Context) error {
	if b.cp.Swapped {
		return nil
	}
	if err := putOnce(ctx, b.svc.opts.Objects, definitionKey(b.name(), b.sub.digest), keep(b.sub.def)); err != nil {
		return err
	}
	// Once it is live its projector feeds it.
	switch doc, err := b.svc.documents.Get(ctx, b.name()); {
	case err != nil:
		return err //nolint:wrapcheck // it names the projection
	case b.wasLive(doc):
		b.cp.Swapped = true
		return b.save(ctx)
	}
	if err := b.db.Aside(ctx, b.live(), b.mark()); err != nil { // an exchange that was begun
		return err //nolint:wrapcheck // it says what
	}
	if err := b.asVerified(ctx); err != nil {
		return err
	}
	f, err := b.feeder(ctx)
	if err != nil {
		return err
	}
	return errors.Join(b.handOverTo(ctx, f), f.close())
}

// wasLive says whether the swap is over: somebody may have rolled back since, and that is
// not to be undone.
func (b *build) wasLive(doc *projection.Document) bool {
	return doc.Live.Generation == b.cp.Generation || doc.Kept(b.cp.Generation) != nil
}

// asVerified says whether the shadow is still what was verified: the approval may have
// taken days.
func (b *build) asVerified(ctx context.Context) error {
	table, err := b.find(ctx, b.mark())
	if err != nil || table.Name == b.live().Name {
		return err // an exchange that was not noted is gone on with
	}
	tables, err := b.tables(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(b.untouched(ctx), b.sealed(ctx, tables, verifiedFile, b.cp.Feed.Batch == b.cp.Verified && b.cp.Feed.Pending == nil)); err != nil {
		return err
	}
	again, err := b.recount(ctx)
	if err != nil || !again {
		return err
	}
	return remedy.Wrapf(fmt.Errorf("table %s: %w: it has not the rows any more that were verified", table.Name, chstore.ErrChangedByHand),
		"Cancel the rebuild and create a new one.")
}

// stillIntact looks a last time, at the definition too, unless the exchange was begun
// already.
func (b *build) stillIntact(ctx context.Context) error {
	table, err := b.find(ctx, b.mark())
	if err != nil || isLive(table) {
		return err
	}
	if err := b.unchangedYet(ctx); err != nil {
		return err
	}
	tables, err := b.tables(ctx)
	if err != nil {
		return err
	}
	return errors.Join(b.sealed(ctx, tables, verifiedFile, false), b.intact(ctx, tables))
}

// errBehind says that a shadow could not be brought to where the live table is in the
// time for which that may stand still.
var errBehind = errors.New("the new table was not brought to where the live one is in time")

// The live table stands still for so long at first, and at most, while a shadow is brought
// to where it is.
const (
	reachFirst = 10 * time.Second
	reachMost  = 5 * time.Minute
)

func (b *build) handOverTo(ctx context.Context, f *feeder) error {
	for within := reachFirst; ; within = min(2*within, reachMost) {
		if err := b.drain(ctx, f, caughtUp); err != nil {
			return err
		}
		// Most of it is waited for while the live table is fed.
		if err := patiently(ctx, b.holds, b.synced); err != nil {
			return err
		}
		err := b.svc.seize(ctx, b.name(), b.job.ID, func(ctx context.Context, hold *seized) error { return b.swap(ctx, hold, f, within) })
		if !errors.Is(err, errBehind) || errors.Is(err, projection.ErrFenced) || ctx.Err() != nil {
			return err
		}
		// Its projector feeds it again, and the next try is given more time.
		b.h.Log("warn", fmt.Sprintf("%v: it stood still for %v, and is fed again meanwhile", err, within))
	}
}

// swap is the part of the hand-over in which nobody else feeds.
func (b *build) swap(ctx context.Context, hold *seized, f *feeder, within time.Duration) error {
	doc := hold.Document()
	switch {
	case b.wasLive(doc): // it was swapped, and the answer was lost
		b.cp.Swapped = true
		return b.save(ctx)
	case doc.Live.Generation != b.cp.Base:
		return remedy.Wrapf(fmt.Errorf("generation %d of %s became live while this rebuild ran, and it was made beside generation %d", doc.Live.Generation, b.name(), b.cp.Base),
			"Cancel this rebuild, and create a new one if it is still needed.")
	}
	if err := b.reach(ctx, hold, f, within); err != nil {
		return err
	}
	if err := b.stillApproved(ctx); err != nil {
		return err
	}
	if err := hold.Renew(ctx); err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	if err := b.stillIntact(ctx); err != nil {
		return err
	}
	// Both rights are renewed, so that the exchange is this worker's to make.
	if err := b.save(ctx); err != nil {
		return err
	}
	whole, cancel := outlast(ctx, b.svc.opts.TTL)
	defer cancel()
	if err := b.makeLive(whole, hold.Hold); err != nil {
		return err
	}
	b.cp.Swapped = true
	return b.save(ctx)
}

// byDefinition is in checkpoint.Approved where no person was asked.
const byDefinition = "the definition"

// stillApproved goes back to the approval where entries were lost since: with warnings a
// person decides, unless the exchange was begun already.
func (b *build) stillApproved(ctx context.Context) error {
	if b.cp.Approved != byDefinition || len(b.cp.Warnings) == 0 {
		return nil
	}
	if begun, err := b.exchanging(ctx); err != nil || begun {
		return err
	}
	b.cp.Phase, b.cp.Approved = PhaseApproval, ""
	if err := b.save(ctx); err != nil {
		return err
	}
	if err := b.approve(ctx); err != nil {
		return err
	}
	b.cp.Phase = PhaseHandOver // what is to be undone from here on goes by it
	return b.save(ctx)
}

// exchanging says whether a table of this rebuild is a live one already: then the others
// are to follow.
func (b *build) exchanging(ctx context.Context) (bool, error) {
	there, err := occupied(ctx, b.db, b.name())
	return slices.ContainsFunc(there, func(t chstore.Info) bool { return t.Mark.Rebuild == b.job.ID }), err
}

// unchangedYet is unchanged until the exchange has begun.
func (b *build) unchangedYet(ctx context.Context) error {
	changed := b.unchanged()
	if changed == nil {
		return nil
	}
	begun, err := b.exchanging(ctx)
	if err == nil && !begun {
		err = changed
	}
	return err
}

// makeLive exchanges the tables, and makes that known.
func (b *build) makeLive(ctx context.Context, hold *projection.Hold) error {
	live := hold.Document().Live.Generation
	if err := b.exchange(ctx, hold); err != nil {
		return err
	}
	next := projection.Generation{Generation: b.cp.Generation, Digest: b.sub.digest, Rebuild: b.job.ID, Positions: maps.Clone(b.cp.Feed.Places)}
	old := projection.Retired{Keep: b.sub.def.Retention.Keep, Feed: b.sub.def.Retention.Feed}
	if live != 0 {
		table, err := b.svc.generationTable(ctx, b.db, b.name(), live)
		if err != nil {
			return err
		}
		old.Table = table.Name
	}
	return hold.HandOver(ctx, next, b.cp.Feed.Batch, old, "rebuild "+b.job.ID) //nolint:wrapcheck // it names the projection
}

// exchange makes the shadow the live table, in an instant, and its dependents one after
// the other.
func (b *build) exchange(ctx context.Context, hold *projection.Hold) error {
	if b.cp.Base != 0 {
		if _, err := b.svc.generationTable(ctx, b.db, b.name(), b.cp.Base); err != nil {
			return err
		}
	}
	return b.svc.exchangeAll(ctx, b.db, hold, tablesOf(b.db, b.sub.def, b.mark()), b.cp.Base)
}

// reach feeds the shadow until it is at least where the live table is, in every
// stream. That takes so long at most, or is errBehind.
func (b *build) reach(ctx context.Context, hold *seized, f *feeder, within time.Duration) error {
	bounded, cancel := context.WithTimeoutCause(ctx, within, errBehind)
	defer cancel()
	for {
		if _, err := b.step(bounded, f); err != nil {
			return behindOr(bounded, err)
		}
		if err := f.settle(bounded); err != nil {
			return behindOr(bounded, err)
		}
		behind := b.behind(f, hold.Document().Live.Positions)
		b.holds(behind)
		if behind == "" {
			return behindOr(bounded, b.synced(bounded))
		}
		if err := wait(bounded, retryDelay); err != nil {
			return fmt.Errorf("%w: %s", err, behind)
		}
	}
}

// synced waits until all replicas have all of the shadow.
func (b *build) synced(ctx context.Context) error {
	return synced(ctx, b.db, tablesOf(b.db, b.sub.def, b.mark()))
}

// behindOr says of an error that came because time was up that it did.
func behindOr(bounded context.Context, err error) error {
	if cause := context.Cause(bounded); err != nil && errors.Is(cause, errBehind) && !errors.Is(err, errBehind) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// behind says in which stream the shadow is not where the live table is; "": in none.
func (b *build) behind(f *feeder, live map[string]place) string {
	f.follow(live)
	for stream, at := range live {
		if b.cp.Feed.Places[stream].Compare(at) < 0 && b.sub.def.Source.MatchesStream(stream) { // else the definition has it no more
			return fmt.Sprintf("the live table is made of stream %q up to %s, and the new one up to %s", stream, showPlace(at), showPlace(b.cp.Feed.Places[stream]))
		}
	}
	return ""
}

// retire removes what was made for the load, and generations that were kept long enough.
func (b *build) retire(ctx context.Context) error {
	tables, err := b.db.Marked(ctx, "", b.name())
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	scaffolds := slices.DeleteFunc(tables, func(t chstore.Info) bool { return !isScaffold(t.Mark) })
	if err := b.dropAside(ctx, scaffolds); err != nil {
		return err
	}
	return b.svc.Sweep(ctx, b.name())
}
