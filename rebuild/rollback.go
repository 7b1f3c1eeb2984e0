package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
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
	if _, err := s.keptDefinition(ctx, doc.Name, back.Digest); err != nil {
		return err
	}
	db := s.opts.ClickHouse.As("rollback-" + doc.Name)
	if err := db.Kill(ctx, ""); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	_, want, err := s.generationMark(ctx, db, doc.Name, back.Generation.Generation)
	if err != nil {
		return err
	}
	_, expect, err := s.generationMark(ctx, db, doc.Name, doc.Live.Generation)
	if err != nil {
		return err
	}
	live, err := s.liveTable(ctx, doc)
	if err != nil {
		return err
	}
	if err := hold.Renew(ctx); err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.TTL/2)
	defer cancel()
	if err := db.Exchange(ctx, db.Table(live), db.Table(back.Table), want, expect); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	keep := max(time.Until(back.DropAfter), projection.DefaultKeep)
	return hold.RollBack(ctx, back.Generation.Generation, keep, by) //nolint:wrapcheck // it names the projection
}

// liveTable gives the name under which readers know a projection's table.
func (s *Service) liveTable(ctx context.Context, doc *projection.Document) (string, error) {
	d, err := s.keptDefinition(ctx, doc.Name, doc.Live.Digest)
	if err != nil {
		return "", err
	}
	return d.Table.Name, nil
}

// Sweep drops the previous generations of a projection that were kept long enough.
func (s *Service) Sweep(ctx context.Context, name string) error {
	doc, err := s.documents.Get(ctx, name)
	if errors.Is(err, projection.ErrNotBuilt) {
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	for _, p := range doc.Previous {
		if time.Now().Before(p.DropAfter) {
			continue
		}
		if err := s.dropGeneration(ctx, doc.Name, p.Generation.Generation); err != nil {
			return err
		}
		if err := s.documents.Dropped(ctx, name, p.Generation.Generation, "kept long enough"); err != nil {
			return err //nolint:wrapcheck // it names the projection
		}
	}
	return nil
}

func (s *Service) dropGeneration(ctx context.Context, name string, generation uint64) error {
	db := s.opts.ClickHouse
	table, err := s.generationTable(ctx, db, name, generation)
	if errors.Is(err, chstore.ErrNoTable) {
		return nil
	}
	if err != nil {
		return err
	}
	return db.DropTable(ctx, table) //nolint:wrapcheck // it says what
}
