package rebuild

import (
	"fmt"
	"slices"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// foldScopable says whether a part of a fold's table can be rebuilt: whole aggregates
// only, since a state is made of all events of its aggregate.
func foldScopable(scope *Scope, d *projection.Definition) error {
	if !scope.From.IsZero() || !scope.To.IsZero() {
		return remedy.Wrapf(fmt.Errorf("%w: %s is a fold, and a row of it is made of all events of its aggregate, not of those of some time", ErrInvalid, d.Name),
			"Rebuild it by tenant or aggregate, or as a whole.")
	}
	for _, part := range []struct {
		set    bool
		column string
	}{{len(scope.Tenants) > 0, d.Scope.Tenant}, {len(scope.Aggregates) > 0, d.Scope.Aggregate}} {
		if !part.set {
			continue
		}
		if c, _ := d.Table.Column(part.column); c.Type != "String" && c.Type != "LowCardinality(String)" {
			return remedy.Wrapf(fmt.Errorf("%w: %s is a fold, and a part of it can be told by a String only: column %s is %s", ErrInvalid, d.Name, part.column, c.Type),
				"Rebuild it as a whole.")
		}
	}
	return nil
}

// prunable is what of a scope may leave segments out of a plan. A fold takes all events
// to their aggregates, whatever the scope: its table is fed from their states. What is
// empty as a column may be something else in the archive.
func (s *Scope) prunable(d *projection.Definition) event.Filter {
	var f event.Filter
	if d.Kind == projection.Fold || d.Upcast {
		return f
	}
	if !slices.Contains(s.Tenants, "") {
		f.Tenants = s.Tenants
	}
	if !slices.Contains(s.Aggregates, "") {
		f.Aggregates = s.Aggregates
	}
	return f
}
