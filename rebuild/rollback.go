package rebuild

import (
	"context"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// RollbackOptions say which generation is made live again, and by whom.
type RollbackOptions struct {
	By string // who asks
	// To is the generation, one that is kept; where it is live already nothing happens.
	// 0 is the one that was live before, unless that is newer than the live one: then
	// somebody has rolled back already, and a second call must not undo that.
	To uint64
	// Damaged lets a generation be live that is known to be damaged.
	Damaged bool
}

// Rollback is RollbackTo the generation that was live before. by is who asks.
func (s *Service) Rollback(ctx context.Context, name, by string) (*projection.Document, error) {
	return s.RollbackTo(ctx, name, RollbackOptions{By: by})
}

// RollbackTo makes a generation live again, in an instant. It is fed from where it was
// left, by its own definition. After an error it may be called again: it never goes back
// twice. What cannot be wraps ErrInvalid, and a damaged generation projection.ErrDamaged.
func (s *Service) RollbackTo(ctx context.Context, name string, opts RollbackOptions) (*projection.Document, error) {
	var doc *projection.Document
	err := s.seize(ctx, name, fmt.Sprintf("rollback by %s", opts.By), func(ctx context.Context, hold *seized) error {
		err := s.rollBack(ctx, hold.Hold, opts)
		doc = hold.Document()
		return err
	})
	return doc, err
}

func (s *Service) rollBack(ctx context.Context, hold *projection.Hold, opts RollbackOptions) error {
	doc := hold.Document()
	if opts.To != 0 && opts.To == doc.Live.Generation {
		return nil
	}
	back, err := rollbackTarget(doc, opts)
	if err != nil {
		return err
	}
	def, err := s.keptDefinition(ctx, doc.Name, back.Digest)
	if err != nil {
		return err
	}
	db := s.opts.ClickHouse.As("rollback-" + doc.Name)
	if err := db.Kill(ctx, ""); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	own, err := s.generationInfo(ctx, db, doc.Name, back.Generation.Generation)
	if err != nil {
		return err
	}
	ctx, cancel := outlast(ctx, s.opts.TTL)
	defer cancel()
	if err := s.exchangeAll(ctx, db, hold, tablesOf(db, def, own.Mark), doc.Live.Generation); err != nil {
		return err
	}
	left, err := s.generationTable(ctx, db, doc.Name, doc.Live.Generation)
	if err != nil {
		return err
	}
	old := projection.Retired{Table: left.Name, Keep: max(time.Until(back.DropAfter), projection.DefaultKeep), Feed: back.Feed}
	return hold.RollBack(ctx, back.Generation.Generation, old, opts.By) //nolint:wrapcheck // it names the projection
}

// rollbackTarget is the generation that a rollback makes live.
func rollbackTarget(doc *projection.Document, opts RollbackOptions) (*projection.Previous, error) {
	if doc.Live.Generation == 0 || len(doc.Previous) == 0 {
		return nil, remedy.Wrapf(fmt.Errorf("%w: no previous generation of %s is kept", ErrInvalid, doc.Name), "Rebuild the projection by the definition that you want.")
	}
	back := &doc.Previous[0]
	if opts.To != 0 {
		if back = doc.Kept(opts.To); back == nil {
			return nil, remedy.Wrapf(fmt.Errorf("%w: generation %d of %s is not kept", ErrInvalid, opts.To, doc.Name), "Name one that is: reservoir projections show %s", doc.Name)
		}
	}
	number := back.Generation.Generation
	switch {
	case opts.To == 0 && number > doc.Live.Generation:
		return nil, remedy.Wrapf(fmt.Errorf("%w: %s was rolled back already, from generation %d to %d", ErrInvalid, doc.Name, number, doc.Live.Generation),
			"To make generation %d live again, or another one that is kept, name it: --to %d", number, number)
	case back.Damaged != "" && !opts.Damaged:
		return nil, remedy.Wrapf(fmt.Errorf("generation %d of %s: %w: %s", number, doc.Name, projection.ErrDamaged, back.Damaged),
			"Rebuild the projection by the definition that you want, or accept the damage: --damaged")
	}
	return back, nil
}
