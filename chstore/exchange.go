package chstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// ErrChangedByHand is wrapped when a table is not what it was left as: another one has
// its name, or its columns were changed.
var ErrChangedByHand = errors.New("table was changed by hand")

// Exchange makes the table that bears the mark want the one that is called live, and
// leaves the one that was live under the name of the other. It looks first: where live
// bears the mark already it does nothing, so it may be issued again after any error (a
// statement of a dead process is to be killed before). Where there is no live table,
// the other is renamed and leaves no name behind.
//
// expect is the mark that the live table bears now. A live table with another mark,
// or none, is ErrChangedByHand; a shadow that does not bear want too. On a cluster it
// returns when every server has exchanged its tables, or ErrMixed.
func (s *Store) Exchange(ctx context.Context, live, shadow Table, want, expect Mark) error {
	now, err := s.markOf(ctx, live)
	if err != nil {
		return err
	}
	if now != nil && *now == want {
		return s.everywhere(ctx, live, want)
	}
	next, err := s.markOf(ctx, shadow)
	switch {
	case err != nil:
		return err
	case next == nil:
		return fmt.Errorf("make %s live: %s: %w", want, shadow.Name, ErrNoTable)
	case *next != want:
		return changed(fmt.Errorf("make %s live: %s is %s: %w", want, shadow.Name, next, ErrChangedByHand))
	case now == nil:
		err = s.exec(ctx, &statement{what: "exchange", doing: "rename " + shadow.Name + " to " + live.Name, text: s.renameText(shadow, live)})
	case *now != expect:
		return changed(fmt.Errorf("make %s live: %s is %s and not %s: %w", want, live.Name, now, expect, ErrChangedByHand))
	default:
		err = s.exec(ctx, &statement{what: "exchange", doing: "exchange " + shadow.Name + " and " + live.Name, text: s.exchangeText(shadow, live)})
	}
	if err != nil {
		return err
	}
	return s.everywhere(ctx, live, want)
}

// everywhere waits until all servers of a cluster agree.
func (s *Store) everywhere(ctx context.Context, live Table, want Mark) error {
	if s.config.Cluster == "" {
		return nil
	}
	return s.settled(ctx, live, want, 3*time.Minute)
}

func changed(err error) error {
	return remedy.Wrap(err, "Find out who renamed or replaced the table. Rename what is there now, then rebuild the projection.")
}

func (s *Store) exchangeText(a, b Table) string {
	return "EXCHANGE TABLES " + a.String() + " AND " + b.String() + s.onCluster()
}

func (s *Store) renameText(from, to Table) string {
	return "RENAME TABLE " + from.String() + " TO " + to.String() + s.onCluster()
}

// markOf returns the mark of a table; nil: there is no such table.
func (s *Store) markOf(ctx context.Context, table Table) (*Mark, error) {
	info, err := s.inspect(ctx, table, "name = "+Literal(table.Name))
	if err != nil || len(info) == 0 {
		return nil, err
	}
	return &info[0].Mark, nil
}
