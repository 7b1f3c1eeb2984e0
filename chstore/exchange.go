package chstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// ErrChangedByHand is wrapped when a table is not what it was left as: another one has
// its name, or its columns were changed.
var ErrChangedByHand = errors.New("table was changed by hand")

// Of names the table of a generation while it is not live.
func (t Table) Of(generation int) Table {
	return Table{Database: t.Database, Name: t.Name + "__g" + number(uint64(generation))} //nolint:gosec // from 1
}

// Exchange makes the table that bears the mark want, whatever its name is, the one that
// is called live, in an instant, and gives the one that was live the name of its own
// generation (Table.Of). It looks first: where live bears the mark already, nothing is
// exchanged, so it may be issued again after any error. Where there is no live table, the
// other is renamed.
//
// EXCHANGE TABLES issued twice exchanges back, and whoever issued it may be stopped
// just before and go on much later. So the table is first given a name that nobody else
// knows, and the statement names that one: when another process has taken over, or the
// exchange was made, the name is gone, and a late statement fails.
//
// expect is the mark that the live table bears now. A live table with another mark, or
// none, is ErrChangedByHand. On a cluster it returns when every server has exchanged its
// tables, or ErrMixed.
func (s *Store) Exchange(ctx context.Context, live Table, want, expect Mark) error {
	return s.ExchangeIf(ctx, live, want, expect, func(context.Context) error { return nil })
}

// ExchangeIf is Exchange for one of several that may exchange the table. confirm says, with
// an error, that it is no longer this one's to do. It is called when the table has the name
// that nobody else knows: so whoever takes over after it was called, and takes that name
// away, has nothing to fear of this one, however late it goes on.
func (s *Store) ExchangeIf(ctx context.Context, live Table, want, expect Mark, confirm func(context.Context) error) error {
	now, err := s.markOf(ctx, live)
	if err != nil {
		return err
	}
	if now == nil || *now != want {
		err := s.exchange(ctx, live, want, expect, confirm)
		// One that goes on late may take the name away, too: once.
		for try := 1; errors.Is(err, ErrNoTable) && try < exchangeTries; try++ {
			err = s.exchange(ctx, live, want, expect, confirm)
		}
		if err != nil {
			return err
		}
	}
	if err := s.everywhere(ctx, live, want); err != nil {
		return err
	}
	return s.Aside(ctx, live, expect)
}

// exchangeTries is how often an exchange is tried whose table is not found.
const exchangeTries = 3

func (s *Store) exchange(ctx context.Context, live Table, want, expect Mark, confirm func(context.Context) error) error {
	next, err := s.fence(ctx, live, want)
	if err == nil {
		err = confirm(ctx)
	}
	if err != nil {
		return err
	}
	// From here on no statement of anyone before has an effect; until here it might have.
	now, err := s.markOf(ctx, live)
	if err != nil {
		return err
	}
	switch {
	case now == nil:
		return s.exec(ctx, &statement{what: "exchange", doing: "rename " + next.Name + " to " + live.Name, text: s.renameText(next, live)})
	case *now == want:
		return nil
	case *now != expect || now.IsZero():
		return changed(fmt.Errorf("make %s live: %s is %s and not %s: %w", want, live.Name, now, expect, ErrChangedByHand))
	}
	return s.exec(ctx, &statement{what: "exchange", doing: "exchange " + next.Name + " and " + live.Name, text: s.exchangeText(next, live)})
}

// fence gives the table that bears a mark a name that only this call knows.
func (s *Store) fence(ctx context.Context, live Table, mark Mark) (Table, error) {
	table, err := s.Bearing(ctx, live.Database, mark)
	if err != nil || table == live {
		return table, err
	}
	return s.hide(ctx, table, live.Of(mark.Generation))
}

// hide renames a table to a name that begins as another one and that nobody knows.
func (s *Store) hide(ctx context.Context, table, like Table) (Table, error) {
	once := like
	once.Name += "__" + strings.ToLower(rand.Text()[:12])
	return once, s.exec(ctx, &statement{what: "exchange", doing: "rename " + table.Name, text: s.renameText(table, once)})
}

// Aside gives the table that bears a mark the name of its generation, if it has
// neither that nor the name of live, and that is free. Where it is renamed or dropped by
// another one meanwhile, that is left as it is.
func (s *Store) Aside(ctx context.Context, live Table, mark Mark) error {
	if mark.IsZero() {
		return nil
	}
	table, err := s.Bearing(ctx, live.Database, mark)
	if errors.Is(err, ErrNoTable) {
		return nil
	}
	if err != nil || table == live || table.Name == live.Of(mark.Generation).Name {
		return err
	}
	err = s.rename(ctx, table, live.Of(mark.Generation))
	if errors.Is(err, ErrNoTable) {
		return nil // its name is gone, and whoever knew it finds nothing
	}
	return err
}

// Park takes the name live from the table that bears a mark, and gives it the name of its
// generation. Where another table is live, or none, nothing happens.
func (s *Store) Park(ctx context.Context, live Table, mark Mark) error {
	now, err := s.markOf(ctx, live)
	if err != nil || now == nil || *now != mark {
		return err
	}
	return s.rename(ctx, live, live.Of(mark.Generation))
}

// Discard drops the table that bears a mark, whatever its name is; without one nothing
// happens, and one that is live is ErrLive. Like Exchange it gives the table a name that
// nobody else knows, so that an exchange in between cannot make it drop the other one.
// Somebody may take that name away (Aside): then it begins again, and returns nil only
// when there is no such table. One that is never left alone is ErrBusy.
func (s *Store) Discard(ctx context.Context, live Table, mark Mark) error {
	missed := 0
	for range discardTries {
		table, err := s.Bearing(ctx, live.Database, mark)
		if err == nil {
			missed = 0
			if err = s.discard(ctx, table, live, mark); err == nil {
				return nil
			}
		} else if missed++; errors.Is(err, ErrNoTable) && missed == discardLooks {
			return nil
		}
		if !errors.Is(err, ErrNoTable) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drop the table of %s: %w", mark, ctx.Err())
		case <-time.After(discardPause):
		}
	}
	return fmt.Errorf("drop the table of %s: it is renamed again and again: %w", mark, ErrBusy)
}

// A table is looked for so often, at most, to drop it. It is gone when it was not found so
// often in a row: while it is renamed it is not to be seen.
const (
	discardTries = 20
	discardLooks = 4
	discardPause = 10 * time.Millisecond
)

// discard drops a table that bore a mark when it was looked for. ErrNoTable says that it
// was renamed meanwhile, or dropped.
func (s *Store) discard(ctx context.Context, table, live Table, mark Mark) error {
	if table == live {
		return fmt.Errorf("drop %s, which is %s: %w", live.Name, mark, ErrLive)
	}
	once, err := s.hide(ctx, table, live.Of(mark.Generation))
	if err != nil {
		return err
	}
	now, err := s.markOf(ctx, once)
	switch {
	case err != nil:
		return err
	case now == nil:
		return fmt.Errorf("table %s: %w", once.Name, ErrNoTable)
	case *now != mark: // they were exchanged between the look and the name
		err := fmt.Errorf("drop %s: %s has its name now: %w", mark, now, ErrLive)
		return errors.Join(err, s.Aside(ctx, live, *now))
	}
	return s.drop(ctx, once, "")
}

// ErrLive is wrapped when a table is not dropped since readers see it.
var ErrLive = errors.New("the table is live")

// rename leaves a table its name where the other one is taken.
func (s *Store) rename(ctx context.Context, from, to Table) error {
	err := s.exec(ctx, &statement{what: "exchange", doing: "rename " + from.Name + " to " + to.Name, text: s.renameText(from, to)})
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// Bearing returns the table of a database (of the connection, if "") that bears a mark,
// whatever its name is; without one the error is ErrNoTable.
func (s *Store) Bearing(ctx context.Context, database string, mark Mark) (Table, error) {
	if database == "" {
		database = s.server.Database
	}
	table := Table{Database: database}
	err := s.query(ctx, &statement{ // of what Marked asks for, the server has to look some up in all parts
		what: "inspect", doing: "look for the table of " + mark.String(),
		text: "SELECT name, comment FROM system.tables WHERE database = " + Literal(database) + " AND " + marked + " ORDER BY name DESC",
	}, func(rows driver.Rows) error {
		var name, comment string
		if err := rows.Scan(&name, &comment); err != nil {
			return err
		}
		if ParseMark(comment) == mark {
			table.Name = name
		}
		return nil
	})
	if err == nil && table.Name == "" {
		err = fmt.Errorf("the table of %s: %w", mark, ErrNoTable)
	}
	if err != nil {
		return Table{}, err
	}
	return table, nil
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
