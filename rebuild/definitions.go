package rebuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
)

// kept is a definition as it was when a generation was built: that one goes on being
// fed by it, whatever the definition is by now.
type kept struct {
	Definition *projection.Definition `json:"definition"`
	Reasons    []string               `json:"reasons,omitempty"` // of Require
}

func keep(d *projection.Definition) *kept {
	k := &kept{Definition: d}
	for _, q := range d.Require {
		k.Reasons = append(k.Reasons, q.Reason)
	}
	return k
}

// definition gives the definition back.
func (k *kept) definition() *projection.Definition {
	for i := range k.Definition.Require {
		if i < len(k.Reasons) {
			k.Definition.Require[i].Reason = k.Reasons[i]
		}
	}
	return k.Definition
}

// definitionFile is where a job keeps its definition, among its files.
const definitionFile = "definition.json"

// definitionKey is where the definition of a live or previous generation is kept.
func definitionKey(name, digest string) string {
	return "definitions/" + name + "/" + strings.ReplaceAll(digest, "+", "-") + ".json"
}

// putOnce writes a JSON document that is the same whoever writes it.
func putOnce(ctx context.Context, to objectstore.Store, key string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	if _, err := to.Put(ctx, key, bytes.NewReader(text), objectstore.IfAbsent); err != nil && !errors.Is(err, objectstore.ErrPrecondition) {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// putAnew writes a JSON document over what is there.
func putAnew(ctx context.Context, to objectstore.Store, key string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	if _, err := to.Put(ctx, key, bytes.NewReader(text), objectstore.Always); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// keptDefinition gives the definition of a generation that was built.
func (s *Service) keptDefinition(ctx context.Context, name, digest string) (*projection.Definition, error) {
	var k kept
	if err := readFile(ctx, s.opts.Objects, definitionKey(name, digest), &k); err != nil {
		return nil, fmt.Errorf("read the definition of the live table of %s: %w", name, err)
	}
	return k.definition(), nil
}

// subject is a projection as it is built and fed: a definition, and what follows
// from it.
type subject struct {
	def     *projection.Definition
	set     *projection.Set // of the functions in Go
	digest  string
	kind    chstore.Kind
	spec    chstore.TableSpec
	columns []string // that the SELECT gives, in its order
	build   string   // the rebuild that makes, or has made, what is fed
}

// subject asks the server what a definition's SELECT gives.
func (s *Service) subject(ctx context.Context, d *projection.Definition, set *projection.Set, digest string) (*subject, error) {
	out := &subject{def: d, set: set, digest: digest, spec: d.Table.Spec()}
	var err error
	if out.kind, err = out.spec.Kind(); err != nil {
		return nil, fmt.Errorf("projection %s: %w", d.Name, err)
	}
	if d.Kind != projection.SQL {
		out.columns = out.spec.Names()
		return out, nil
	}
	given, err := s.opts.ClickHouse.Describe(ctx, d.Select)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", d.Name, err)
	}
	for _, c := range given {
		if _, ok := d.Table.Column(c.Name); !ok {
			return nil, fmt.Errorf("%w: the SELECT of %s gives %q, and the table has no column of that name", ErrInvalid, d.Name, c.Name)
		}
		out.columns = append(out.columns, c.Name)
	}
	return out, nil
}

// keptSubject is the subject of a generation that was built, which goes on being fed. It is
// an error when its upcasters are others by now: rows of the same events would differ.
func (s *Service) keptSubject(ctx context.Context, name, digest string) (*subject, error) {
	d, err := s.keptDefinition(ctx, name, digest)
	if err != nil {
		return nil, err
	}
	if _, built, _ := strings.Cut(digest, "+"); d.Upcast && built != s.opts.Upcasters.Digest() {
		return nil, remedy.Wrapf(fmt.Errorf("projection %s: %w", name, errUpcasters),
			"Rebuild the projection with the upcasters as they are now, or put them back.")
	}
	set, err := s.opts.Definitions()
	if err != nil {
		return nil, fmt.Errorf("read the projections: %w", err)
	}
	return s.subject(ctx, d, set, digest)
}

// errUpcasters is that a table would get rows made by other rules than those it has.
var errUpcasters = errors.New("the upcasters are not those that its table was built with")

// rows makes a maker of rows for a generation, which one goroutine uses.
func (s *Service) rows(sub *subject, generation uint64, scope *Scope, wanted func(stream string, at place, within bool) bool) (rowMaker, error) {
	sel, err := newSelector(sub.def, s.opts.Mapping, s.opts.Upcasters)
	if err != nil {
		return nil, err
	}
	if scope != nil && !scope.IsZero() {
		sel.scope, sel.wanted = scope, wanted
	}
	switch sub.def.Kind {
	case projection.Map:
		return newMapRows(sub, sel)
	case projection.Fold:
		return newFoldRows(s, sub, generation, sel)
	default:
		return newSQLRows(s.opts.ClickHouse, sub.def, sub.columns, sel)
	}
}

// closeRows gives back what a maker of rows holds.
func closeRows(rows rowMaker) error {
	if r, ok := rows.(*foldRows); ok {
		return r.close()
	}
	return nil
}
