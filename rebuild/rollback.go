package rebuild

import (
	"context"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// Rollback makes the generation live again that was live before, in an instant. It is
// fed from where it was left, by its own definition. by is who asks. After an error it
// may be called again.
func (s *Service) Rollback(ctx context.Context, name, by string) (*projection.Document, error) {
	holder := fmt.Sprintf("rollback by %s", by)
	hold, err := s.seize(ctx, name, holder)
	if err != nil {
		return nil, err
	}
	err = s.rollBack(ctx, hold.Hold, by)
	doc := hold.Document()
	return doc, releaseAfter(ctx, hold.Hold, err)
}

func (s *Service) rollBack(ctx context.Context, hold *projection.Hold, by string) error {
	doc := hold.Document()
	if doc.Live.Generation == 0 || len(doc.Previous) == 0 {
		return remedy.Wrapf(fmt.Errorf("%w: no previous generation of %s is kept", ErrInvalid, doc.Name), "Rebuild the projection by the definition that you want.")
	}
	back := doc.Previous[0]
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
	if err := s.exchangeAll(ctx, db, hold, tablesOf(db, def, own.Mark), doc.Live.Generation); err != nil {
		return err
	}
	left, err := s.generationTable(ctx, db, doc.Name, doc.Live.Generation)
	if err != nil {
		return err
	}
	old := projection.Retired{Table: left.Name, Keep: max(time.Until(back.DropAfter), projection.DefaultKeep), Feed: back.Feed}
	return hold.RollBack(ctx, back.Generation.Generation, old, by) //nolint:wrapcheck // it names the projection
}
