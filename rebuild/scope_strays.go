package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// A scope speaks of events and of rows: its events are loaded, and its rows are those that
// are not carried over. So rows of its events have to be within it, and rows of other
// events outside of it. A column that rounds or shifts times, or makes something else of a
// tenant, breaks that: rows would be lost, or there twice. It is found by the data.

const (
	// strayReach is how far from the ends of a time window other events are looked at: what
	// shifts or rounds times takes the next ones across first.
	strayReach = 24 * time.Hour
	// strayEvents is how many events of a chunk are looked at that are not the scope's and
	// come through this process, where it has no time window.
	strayEvents = 10_000
)

// near is the scope whose events are looked at for rows within s, if they are not within s
// themselves.
func (s *Scope) near() *Scope {
	var n Scope
	if !s.From.IsZero() {
		n.From = s.From.Add(-strayReach)
	}
	if !s.To.IsZero() {
		n.To = s.To.Add(strayReach)
	}
	return &n
}

// strayed is the error of a scope that events and rows do not share.
func (b *build) strayed(rows uint64, what string) error {
	var columns []string
	for _, c := range []string{b.sub.def.Scope.Tenant, b.sub.def.Scope.Aggregate, b.sub.def.Scope.Time} {
		if c != "" {
			columns = append(columns, c)
		}
	}
	return remedy.Wrapf(fmt.Errorf("%w: %s (%d rows): the columns of the scope of %s (%s) do not hold what its events say", ErrInvalid, what, rows, b.name(), strings.Join(columns, ", ")),
		"Rebuild the table as a whole, or narrow the rebuild by something that the SELECT copies as it is.")
}

// scopeOnly says whether all rows that were loaded are within the scope.
func (b *build) scopeOnly(ctx context.Context) error {
	if b.spec.Scope.IsZero() || b.cp.Feed.Places != nil {
		return nil
	}
	into, _ := b.loadInto()
	chunk := chstore.Identifier(chstore.ChunkColumn)
	rows, err := b.db.CountWhere(ctx, into, fmt.Sprintf("%s >= %d AND %s < %d", chunk, b.number(0), chunk, b.carried()),
		"NOT ifNull(toBool("+b.spec.Scope.rows(b.sub.def)+"), false)")
	if err == nil && rows > 0 {
		err = b.strayed(rows, "events of the scope give rows outside of it")
	}
	return err //nolint:wrapcheck // it says what
}

// strays is a SELECT over the relation events of the rows that are within the scope; ""
// where that cannot be said.
func strays(sub *subject, scope *Scope) string {
	var columns []string
	for _, name := range []string{sub.def.Scope.Tenant, sub.def.Scope.Aggregate, sub.def.Scope.Time} {
		if name == "" || slices.ContainsFunc(columns, func(c string) bool { return strings.HasSuffix(c, " AS "+chstore.Identifier(name)) }) {
			continue
		}
		c, _ := sub.def.Table.Column(name)
		if !slices.Contains(sub.columns, name) {
			return ""
		}
		columns = append(columns, "CAST("+chstore.Identifier(name)+", "+chstore.Literal(c.Type)+") AS "+chstore.Identifier(name))
	}
	return "SELECT 1 AS x FROM (SELECT " + strings.Join(columns, ", ") + " FROM (\n" + strings.TrimRight(sub.def.Select, "; \t\r\n") + "\n)) WHERE " + scope.rows(sub.def)
}

// foundStrays makes an error of what was found of events that are not the scope's. One
// that the SELECT fails on is not the rebuild's concern.
func (b *build) foundStrays(rows uint64, err error) error {
	switch {
	case errors.Is(err, chstore.ErrData):
		return nil
	case errors.Is(err, chstore.ErrDefinition):
		b.mu.Lock()
		defer b.mu.Unlock()
		b.warn("whether events outside of the scope give rows within it cannot be said: %v", err)
		return nil
	case err == nil && rows > 0:
		return b.strayed(rows, "events outside of the scope give rows within it")
	}
	return err
}

// pushStrays looks for rows within the scope of events that ClickHouse reads itself.
func (c *chunkLoad) pushStrays(ctx context.Context, source chstore.Source) error {
	b, scope := c.b, &c.b.spec.Scope
	selection := ""
	if !scope.IsZero() {
		selection = strays(b.sub, scope)
	}
	if selection == "" {
		return nil
	}
	conditions := scope.near().conditions("tenant", "aggregate_id", "occurred_at")
	if types := b.sub.def.Source.TypeCondition("type"); types != "1" {
		conditions = append(conditions, types)
	}
	conditions = append(conditions, "("+b.sub.def.Usable()+"\n)", "NOT ("+strings.Join(scope.conditions("tenant", "aggregate_id", "occurred_at"), " AND ")+")")
	source.Where = strings.Join(conditions, " AND ")
	rows, err := b.db.Count(ctx, source, selection)
	return b.foundStrays(rows, err)
}

// strayRows makes a maker of rows of the events that are near a scope and not within it.
func (s *Service) strayRows(sub *subject, scope *Scope) (strayMaker, error) {
	sel, err := newSelector(sub.def, s.opts.Mapping, s.opts.Upcasters)
	if err != nil || scope.IsZero() {
		return nil, err
	}
	sel.scope, sel.near = scope, scope.near()
	if sub.def.Kind == projection.Map {
		return newMapRows(sub, sel)
	}
	return newSQLRows(s.opts.ClickHouse, sub.def, sub.columns, sel)
}

// strayMaker is a blockMaker that can say how many rows of what was taken are within a
// scope.
type strayMaker interface {
	blockMaker
	within(ctx context.Context, db *chstore.Store, sub *subject, scope *Scope) (uint64, error)
}

// within implements strayMaker.
func (r *sqlRows) within(ctx context.Context, db *chstore.Store, sub *subject, scope *Scope) (uint64, error) {
	selection := strays(sub, scope)
	if selection == "" || r.block.Len() == 0 {
		return 0, nil
	}
	return db.CountBlock(ctx, r.block, selection) //nolint:wrapcheck // it says what
}

// within implements strayMaker.
func (r *mapRows) within(ctx context.Context, db *chstore.Store, sub *subject, scope *Scope) (uint64, error) {
	if r.block.Len() == 0 {
		return 0, nil
	}
	return db.CountRows(ctx, r.block.Block(), scope.rows(sub.def)) //nolint:wrapcheck // it says what
}

// takeStrays takes what is near the scope of some events that were read of a chunk, of
// which so many were before, and looks at it when it is a block.
func (c *chunkLoad) takeStrays(ctx context.Context, of run, b *event.Batch, before int) error {
	scope := &c.b.spec.Scope
	if c.strays == nil || scope.From.IsZero() && scope.To.IsZero() && before >= strayEvents {
		return nil
	}
	var ignored []Letter
	if err := c.strays.take(of, b, &ignored); err != nil || !c.strays.full() {
		return err
	}
	return c.lookAtStrays(ctx)
}

func (c *chunkLoad) lookAtStrays(ctx context.Context) error {
	if c.strays == nil {
		return nil
	}
	rows, err := c.strays.within(ctx, c.b.db, c.b.sub, &c.b.spec.Scope)
	c.strays.begin()
	return c.b.foundStrays(rows, err)
}
