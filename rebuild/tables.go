package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
)

// named is a table of a generation, with the name that it has when that is live.
type named struct {
	live chstore.Table
	mark chstore.Mark
}

// tablesOf gives the tables of a generation: the dependents, and last its own.
func tablesOf(db *chstore.Store, d *projection.Definition, own chstore.Mark) []named {
	var out []named
	for i := range d.Dependents {
		name := d.Dependents[i].Table.Name
		out = append(out, named{db.Table(name), dependentMark(own, name)})
	}
	return append(out, named{db.Table(d.Table.Name), own})
}

// isLive says whether a name is one that readers know: no projection or table may have
// two underscores in its name, and all others that are made here do.
func isLive(t chstore.Table) bool { return !strings.Contains(t.Name, "__") }

// occupied gives the tables of a projection that have names that readers know.
func occupied(ctx context.Context, db *chstore.Store, name string) ([]chstore.Info, error) {
	tables, err := db.Marked(ctx, "", name)
	return slices.DeleteFunc(tables, func(t chstore.Info) bool {
		return !isLive(t.Table) || t.Mark.Generation == 0 || t.Mark.Role != "" && !strings.HasPrefix(t.Mark.Role, dependentRole)
	}), err //nolint:wrapcheck // it says what
}

// synced waits until all replicas have all of the tables. Nothing is done by then, so it may
// be tried again, but for what is not allowed.
func synced(ctx context.Context, db *chstore.Store, tables []named) error {
	for _, n := range tables {
		switch err := db.Synced(ctx, n.live, n.mark); {
		case err == nil:
		case passes(err), errors.Is(err, chstore.ErrDenied), ctx.Err() != nil:
			return err //nolint:wrapcheck // it says what
		default:
			return jobs.Retry(err)
		}
	}
	return nil
}

// exchangeAll makes the tables of one generation the live ones in place of those of
// another, each in an instant; what is done of it already is left as it is. Readers may
// see the dependents of one and the own table of the other in between. What the other
// had and this one has not goes out of sight.
func (s *Service) exchangeAll(ctx context.Context, db *chstore.Store, hold *projection.Hold, next []named, from uint64) error {
	there, err := occupied(ctx, db, hold.Document().Name)
	if err != nil {
		return err
	}
	there = slices.DeleteFunc(there, func(t chstore.Info) bool { return uint64(t.Mark.Generation) != from }) //nolint:gosec // from 1
	// All before the first exchange: what lies between two of them is to be short.
	if err := synced(ctx, db, next); err != nil {
		return err
	}
	for _, n := range next {
		var expect chstore.Mark
		if i := slices.IndexFunc(there, func(t chstore.Info) bool { return t.Table == n.live }); i >= 0 {
			expect = there[i].Mark
		}
		if err := s.whileHeld(ctx, hold, func(ctx context.Context) error { return db.ExchangeIf(ctx, n.live, n.mark, expect, hold.Renew) }); err != nil {
			return err
		}
	}
	for _, t := range there {
		if slices.ContainsFunc(next, func(n named) bool { return n.live == t.Table }) {
			continue
		}
		if err := s.whileHeld(ctx, hold, func(ctx context.Context) error { return db.Park(ctx, t.Table, t.Mark) }); err != nil {
			return err
		}
	}
	return nil
}

// exchangeWithin is how long one exchange may take: on a cluster all servers have to make
// it.
const exchangeWithin = 4 * time.Minute

// whileHeld does something that may take so long, and makes sure of the hold before; to
// stay the holder meanwhile is the caller's.
func (s *Service) whileHeld(ctx context.Context, hold *projection.Hold, do func(context.Context) error) error {
	if err := hold.Renew(ctx); err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	bounded, cancel := context.WithTimeout(ctx, exchangeWithin)
	defer cancel()
	err := do(bounded)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return jobs.Retry(fmt.Errorf("the exchange took too long: %w", err))
	}
	return err
}

// generationTable gives the own table of a generation, whatever its name is.
func (s *Service) generationTable(ctx context.Context, db *chstore.Store, name string, generation uint64) (chstore.Table, error) {
	info, err := s.generationInfo(ctx, db, name, generation)
	return info.Table, err
}

// generationInfo is generationTable with its mark and engine.
func (s *Service) generationInfo(ctx context.Context, db *chstore.Store, name string, generation uint64) (chstore.Info, error) {
	tables, err := db.Marked(ctx, "", name)
	if err != nil {
		return chstore.Info{}, err //nolint:wrapcheck // it says what
	}
	for _, t := range tables {
		if uint64(t.Mark.Generation) == generation && t.Mark.Role == "" { //nolint:gosec // from 1
			return t, nil
		}
	}
	return chstore.Info{}, remedy.Wrapf(fmt.Errorf("generation %d of %s: %w", generation, name, chstore.ErrNoTable),
		"Somebody has dropped or renamed it. Rename it back, or rebuild the projection as a whole.")
}

// inPlace makes sure that the tables under the live names are those of the generation
// that the document says, and gives the mark of its own one. They are others when a swap
// was cut short: whoever began it ends it, and if nobody will, it is taken back. The
// caller is the one who feeds.
func (s *Service) inPlace(ctx context.Context, db *chstore.Store, hold *projection.Hold, d *projection.Definition) (chstore.Mark, error) {
	doc := hold.Document()
	own, err := s.generationInfo(ctx, db, doc.Name, doc.Live.Generation)
	if errors.Is(err, chstore.ErrNoTable) {
		// A table is not to be seen while it is renamed: by one who took this one's place?
		err = errors.Join(hold.Renew(ctx), err)
	}
	if err != nil {
		return chstore.Mark{}, err
	}
	there, err := occupied(ctx, db, doc.Name)
	if err != nil {
		return own.Mark, err
	}
	want := tablesOf(db, d, own.Mark)
	strangers := slices.DeleteFunc(slices.Clone(there), func(t chstore.Info) bool {
		return slices.Contains(want, named{t.Table, t.Mark})
	})
	if len(strangers) == 0 && len(there) == len(want) {
		return own.Mark, nil
	}
	for _, t := range strangers {
		if job, err := s.opts.Jobs.Get(ctx, t.Mark.Rebuild); err == nil && goesOn(job) && t.Mark.Rebuild != own.Mark.Rebuild {
			return own.Mark, &swapError{table: t.Table.Name, mark: t.Mark, job: job}
		}
	}
	return own.Mark, s.takeBack(ctx, db, hold, want, strangers)
}

// takeBack undoes a swap that was cut short.
func (s *Service) takeBack(ctx context.Context, db *chstore.Store, hold *projection.Hold, want []named, strangers []chstore.Info) error {
	s.opts.Logger.Warn("a swap that was cut short is taken back", "projection", hold.Document().Name)
	if len(strangers) == 0 {
		return s.exchangeAll(ctx, db, hold, want, 0)
	}
	for _, t := range strangers {
		if err := s.exchangeAll(ctx, db, hold, want, uint64(t.Mark.Generation)); err != nil { //nolint:gosec // from 1
			return err
		}
	}
	return nil
}

// Sweep drops the previous generations of a projection that were kept long enough, and
// what cancelled rebuilds and trials have left.
func (s *Service) Sweep(ctx context.Context, name string) error {
	doc, err := s.documents.Get(ctx, name)
	if errors.Is(err, projection.ErrNotBuilt) {
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	tables, err := s.opts.ClickHouse.Marked(ctx, "", name)
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	for _, p := range doc.Previous {
		if time.Now().Before(p.DropAfter) {
			continue
		}
		if err := s.dropGeneration(ctx, tables, p.Generation.Generation); err != nil {
			return err
		}
		if err := s.documents.Dropped(ctx, name, p.Generation.Generation, "kept long enough"); err != nil {
			return err //nolint:wrapcheck // it names the projection
		}
	}
	return errors.Join(s.dropOrphans(ctx, doc, tables), projection.DropLeft(ctx, s.opts.ClickHouse, tables))
}

// dropGeneration drops the tables of a generation that is not live.
func (s *Service) dropGeneration(ctx context.Context, tables []chstore.Info, generation uint64) error {
	for _, t := range tables {
		if uint64(t.Mark.Generation) != generation || isLive(t.Table) { //nolint:gosec // from 1
			continue
		}
		// By its mark: somebody may exchange it just now, and then its name is another's.
		live, _, _ := strings.Cut(t.Table.Name, "__")
		if err := s.opts.ClickHouse.Discard(ctx, chstore.Table{Database: t.Table.Database, Name: live}, t.Mark); err != nil {
			return err //nolint:wrapcheck // it says what
		}
	}
	return nil
}

// dropOrphans drops tables of rebuilds that were cancelled, and taken back after that.
func (s *Service) dropOrphans(ctx context.Context, doc *projection.Document, tables []chstore.Info) error {
	for _, t := range tables {
		generation := uint64(t.Mark.Generation) //nolint:gosec // from 1
		if generation == 0 || generation == doc.Live.Generation || doc.Kept(generation) != nil || t.Mark.Rebuild == "" {
			continue
		}
		job, err := s.opts.Jobs.Get(ctx, t.Mark.Rebuild)
		if err != nil || job.State != jobs.Cancelled {
			continue // nobody knows what it is for
		}
		if err := s.dropGeneration(ctx, tables, generation); err != nil {
			return err
		}
	}
	return nil
}
