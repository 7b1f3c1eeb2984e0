package rebuild

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// ErrLive is wrapped by Drop for the generation that is live.
var ErrLive = errors.New("the generation is live")

// Drop drops the tables of a generation that is kept, for good: nobody can go back to it
// after that. by is who asks. The error wraps ErrLive for the live generation,
// projection.ErrNotKept for one that is not kept, and projection.ErrHeld while somebody
// else holds the projection. After another error it may be called again.
func (s *Service) Drop(ctx context.Context, name string, generation uint64, by string) error {
	if _, err := s.documents.Get(ctx, name); errors.Is(err, projection.ErrNotBuilt) { // to hold it would make a document
		return fmt.Errorf("%s was never built: %w", name, projection.ErrNotKept)
	} else if err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	// Nobody may go back to it meanwhile: whoever does must hold the projection.
	hold, err := s.documents.Acquire(ctx, name, projection.Claim{Worker: "drop by " + by, Kind: projection.Rebuilder, TTL: s.opts.TTL})
	if err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	return s.held(ctx, hold, func(ctx context.Context) error {
		doc := hold.Document()
		switch {
		case doc.Live.Generation == generation:
			return remedy.Wrapf(fmt.Errorf("generation %d of %s: %w", generation, name, ErrLive), "Make another one live first: reservoir rebuild rollback %s", name)
		case doc.Kept(generation) == nil:
			return fmt.Errorf("generation %d of %s: %w", generation, name, projection.ErrNotKept)
		}
		tables, err := s.opts.ClickHouse.Marked(ctx, "", name)
		if err == nil {
			err = s.dropGeneration(ctx, tables, generation)
		}
		if err != nil {
			return err //nolint:wrapcheck // it says what
		}
		return s.documents.Dropped(ctx, name, generation, by) //nolint:wrapcheck // it names the projection
	})
}
