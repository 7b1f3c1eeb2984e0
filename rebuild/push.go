package rebuild

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// source is a chunk as ClickHouse reads it, before what is not selected is left out.
func (b *build) source(c *Chunk) chstore.Source {
	p := &b.svc.opts.Pushdown
	s := chstore.Source{Stream: string(b.plan.Streams[c.Stream].Stream), Incarnation: c.Incarnation, S3: p.S3, Range: rangeOf(c)}
	for _, key := range c.Objects {
		if p.S3 != nil {
			key = path.Join(p.Prefix, key)
		} else {
			key = filepath.Join(p.Dir, filepath.FromSlash(key))
		}
		s.Keys = append(s.Keys, key)
	}
	return s
}

// selected is the condition, over the relation events, that selects the events of a
// projection and of a scope.
func selected(d *projection.Definition, scope *Scope) string {
	var parts []string
	if types := d.Source.TypeCondition("type"); types != "1" {
		parts = append(parts, types)
	}
	parts = append(parts, scope.conditions("tenant", "aggregate_id", "occurred_at")...)
	return strings.Join(parts, " AND ")
}

// The names of the values that the conditions of a scope are bound with.
const (
	tenantsValue    = "reservoir_tenants"
	aggregatesValue = "reservoir_aggregates"
)

// values are those that the conditions name; times are numbers, and are written out.
func (s *Scope) values() map[string]any {
	return map[string]any{tenantsValue: s.Tenants, aggregatesValue: s.Aggregates}
}

// conditions are those of SQL on columns that hold what a scope speaks of.
func (s *Scope) conditions(tenant, aggregate, occurred string) []string {
	var parts []string
	if len(s.Tenants) > 0 {
		parts = append(parts, tenant+" IN {"+tenantsValue+":Array(String)}")
	}
	if len(s.Aggregates) > 0 {
		parts = append(parts, aggregate+" IN {"+aggregatesValue+":Array(String)}")
	}
	if !s.From.IsZero() {
		parts = append(parts, fmt.Sprintf("%s >= fromUnixTimestamp64Micro(%d, 'UTC')", occurred, s.From.UnixMicro()))
	}
	if !s.To.IsZero() {
		parts = append(parts, fmt.Sprintf("%s < fromUnixTimestamp64Micro(%d, 'UTC')", occurred, s.To.UnixMicro()))
	}
	return parts
}

// rows is the condition for the rows of a table that a scope is made of.
func (s *Scope) rows(d *projection.Definition) string {
	return strings.Join(s.conditions(chstore.Identifier(d.Scope.Tenant), chstore.Identifier(d.Scope.Aggregate), chstore.Identifier(d.Scope.Time)), " AND ")
}

// push has ClickHouse read the objects of a chunk itself.
func (c *chunkLoad) push(ctx context.Context) (uint64, error) {
	b, source := c.b, c.b.source(c.chunk)
	source.Alone = c.tries > 1 // another server of the cluster may be down, which the error does not say
	if err := c.countObjects(ctx, source); err != nil {
		return 0, err
	}
	if err := c.pushStrays(ctx, source); err != nil {
		return 0, err
	}
	source.Where = selected(b.sub.def, &b.spec.Scope)
	if len(b.sub.def.Require) > 0 {
		if err := c.unusable(ctx, source); err != nil {
			return 0, err
		}
		usable := "(" + b.sub.def.Usable() + "\n)"
		if source.Where != "" {
			usable = source.Where + " AND " + usable
		}
		source.Where = usable
	}
	rows, err := b.db.LoadFiles(ctx, source, c.load())
	if err == nil {
		err = c.asWritten(rows)
	}
	return rows, err //nolint:wrapcheck // it says what
}

// countObjects counts the events of the objects that a chunk is made of, or is a part of,
// against the commit log.
func (c *chunkLoad) countObjects(ctx context.Context, source chstore.Source) error {
	want := c.chunk.Events
	if !c.chunk.Whole {
		source.Range = event.Range{}
		_, want = c.planned()
	}
	n, err := c.b.db.Count(ctx, source, "SELECT 1 AS x FROM events")
	if err == nil && n != want {
		err = fmt.Errorf("the segments hold %d events, and the commit log says %d: run `reservoir verify`", n, want)
	}
	return err //nolint:wrapcheck // it says what
}

// errManyUnusable is that a chunk has more events that cannot be used than are listed at once.
var errManyUnusable = errors.New("many of its events cannot be used")

// unusable takes note of the events that do not meet what the definition requires.
func (c *chunkLoad) unusable(ctx context.Context, source chstore.Source) error {
	n, err := c.b.db.Count(ctx, source, "SELECT 1 AS x FROM events WHERE NOT ("+c.b.sub.def.Usable()+"\n)")
	if err != nil || n == 0 {
		return err //nolint:wrapcheck // it says what
	}
	if n > tooManyLetters {
		return fmt.Errorf("%w: %d", errManyUnusable, n)
	}
	rows, err := c.b.db.PreviewFiles(ctx, source, unusable(c.b.sub.def), tooManyLetters)
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	letters, err := unusableLetters(rows)
	if err != nil {
		return err
	}
	if uint64(len(letters)) < n {
		return fmt.Errorf("%d events cannot be used, the first of them: %s", n, &letters[0])
	}
	c.letters = letters
	return nil
}
