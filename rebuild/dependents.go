package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/projection"
)

// Dependents are made of the rows of a projection's own table, by the numbers of their
// chunks and batches, when those are proved to be there: so whoever finds rows there
// can make what is missing in the dependents, at any time, and no event is needed.

// derived is a dependent table of a generation.
type derived struct {
	name    string // when it is live
	dep     *projection.Dependent
	kind    chstore.Kind
	mark    chstore.Mark
	table   chstore.Table
	columns []string // that its SELECT gives

	expires  bool   // rows leave it, or the own table, by themselves
	base     uint64 // what an adding table holds
	baseRead bool
	batch    uint64 // rows of the batch that was made last
}

// dependents are the dependent tables of a generation.
type dependents struct {
	db   *chstore.Store
	def  *projection.Definition
	own  chstore.Table
	list []*derived
}

// dependentMark is what a dependent bears, beside the mark of the projection's own table.
func dependentMark(own chstore.Mark, name string) chstore.Mark {
	own.Role = dependentRole + name
	return own
}

const dependentRole = "dependent "

// findDependents gives the dependents of the generation whose own table bears a mark,
// whatever their names are.
func findDependents(ctx context.Context, db *chstore.Store, d *projection.Definition, own chstore.Table, mark chstore.Mark) (*dependents, error) {
	out := &dependents{db: db, def: d, own: own}
	for i := range d.Dependents {
		dep := &d.Dependents[i]
		t := &derived{name: dep.Table.Name, dep: dep, mark: dependentMark(mark, dep.Table.Name), kind: dep.Table.Kind(), expires: expires(d, dep)}
		var err error
		if t.table, err = db.Bearing(ctx, "", t.mark); err != nil {
			return nil, fmt.Errorf("dependent table %s: %w", t.name, err)
		}
		columns, err := db.DescribeSelect(ctx, dep.Over(d, own, ""))
		if err != nil {
			return nil, fmt.Errorf("dependent table %s: %w", t.name, err)
		}
		for _, c := range columns {
			t.columns = append(t.columns, c.Name)
		}
		out.list = append(out.list, t)
	}
	return out, nil
}

// expires says whether rows of a dependent, or those that it is made of, leave their table
// by themselves: then there may be fewer than were put there.
func expires(d *projection.Definition, dep *projection.Dependent) bool {
	return dep.Table.TTL != "" || d.Table.TTL != ""
}

// bases gives what the adding ones hold before a batch; they are asked once.
func (d *dependents) bases(ctx context.Context) (map[string]uint64, error) {
	var out map[string]uint64
	for _, t := range d.list {
		if t.kind != chstore.Adding {
			continue
		}
		if !t.baseRead || t.expires {
			base, err := d.db.Added(ctx, t.table)
			if err != nil {
				return nil, err //nolint:wrapcheck // it says what
			}
			t.base, t.baseRead = base, true
		}
		if out == nil {
			out = map[string]uint64{}
		}
		out[t.name] = t.base
	}
	return out, nil
}

// taken gives the rows of the batch that was made last, by name, once.
func (d *dependents) taken() map[string]uint64 {
	out := map[string]uint64{}
	for _, t := range d.list {
		if t.batch > 0 {
			out[t.name], t.batch = t.batch, 0
		}
	}
	return out
}

// derivation is the making of the rows of all dependents for one batch, which is in the
// projection's own table.
type derivation struct {
	*dependents
	p *projection.Pending
	// fresh says that nothing was issued before.
	fresh bool
	// term is since it was sure that this is the one who feeds, and confirm makes sure
	// again.
	term    term
	confirm confirmation
	pace    *pace
}

func (d *derivation) run(ctx context.Context) error {
	if err := d.inPlace(ctx); err != nil {
		return err
	}
	for _, t := range d.list {
		if err := d.one(ctx, t); err != nil {
			return fmt.Errorf("dependent table %s: %w", t.name, err)
		}
	}
	return nil
}

// inPlace says whether the tables still have their names. Where rows are kept the
// statement itself finds out.
func (d *dependents) inPlace(ctx context.Context) error {
	if !slices.ContainsFunc(d.list, func(t *derived) bool { return t.kind != chstore.Keeping }) {
		return nil
	}
	there, err := d.db.Marked(ctx, "", d.def.Name)
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	for _, t := range d.list {
		if !slices.ContainsFunc(there, func(i chstore.Info) bool { return i.Table == t.table && i.Mark == t.mark }) {
			return fmt.Errorf("table %s is not %s any more: %w", t.table.Name, t.mark, errNotThere)
		}
	}
	return nil
}

// wanted is what a dependent has to have of the batch.
func (d *derivation) wanted(ctx context.Context, t *derived) (*projection.Pending, error) {
	if t.kind == chstore.Replacing { // rows that come twice are one
		return &projection.Pending{Batch: d.p.Batch, Rows: 1}, nil
	}
	rows, err := d.db.CountSelect(ctx, d.selection(t))
	return &projection.Pending{Batch: d.p.Batch, Rows: rows, Base: d.p.Dependents[t.name]}, err //nolint:wrapcheck // it says what
}

func (d *derivation) selection(t *derived) string {
	return t.dep.Over(d.def, d.own, chstore.OfChunk(d.p.Batch))
}

func (d *derivation) one(ctx context.Context, t *derived) error {
	want, err := d.wanted(ctx, t)
	if err != nil {
		return err
	}
	if want.Rows == 0 {
		return nil
	}
	if t.kind != chstore.Replacing {
		t.batch = want.Rows
	}
	for try := range settleAttempts {
		attempt := try
		if !d.fresh || try > 0 {
			there, err := look(ctx, d.db, t.table, t.kind, want, d.pace.now(), d.confirm)
			if err != nil {
				return err
			}
			if there == all {
				t.base = want.Base + want.Rows
				return nil
			}
			if there == some {
				attempt = 0 // what is there of it is left out by the token
			}
		}
		rows, err := d.issue(ctx, t, attempt)
		if err != nil {
			return err
		}
		if t.kind == chstore.Replacing || t.expires && (d.fresh || try > 0) || d.fresh && (t.kind == chstore.Adding || rows == want.Rows) {
			t.base = want.Base + want.Rows
			return nil
		}
	}
	return fmt.Errorf("batch %d was issued %d times: %w", d.p.Batch, settleAttempts, errNotThere)
}

func (d *derivation) issue(ctx context.Context, t *derived, attempt int) (uint64, error) {
	if !d.term.left() {
		next, err := d.pace.term(ctx, d.db)
		if err != nil {
			return 0, err
		}
		if err := d.confirm(ctx, next.within); err != nil {
			return 0, err
		}
		d.term = next
	}
	load := chstore.Load{
		Into: t.table, Columns: t.columns, Select: d.selection(t), Chunk: d.p.Batch, Attempt: contentOf(d.p) + attempt,
		Adding: t.kind == chstore.Adding, Guard: t.kind == chstore.Keeping, Fence: d.term.fence(t.mark),
	}
	return d.db.LoadSelect(ctx, load) //nolint:wrapcheck // it says what
}

// there says whether all of them have the batch; of those that replace rows that is not
// known.
func (d *derivation) there(ctx context.Context) (bool, error) {
	for _, t := range d.list {
		want, err := d.wanted(ctx, t)
		if err != nil {
			return false, err
		}
		if want.Rows == 0 {
			continue
		}
		if there, err := seen(ctx, d.db, t.table, t.kind, want); err != nil || there != all {
			return false, err
		}
	}
	return true, nil
}

// derive makes the dependents of all that was loaded, each in one statement: what fails
// is begun anew.
func (b *build) derive(ctx context.Context) error {
	for i := range b.sub.def.Dependents {
		dep := &b.sub.def.Dependents[i]
		if _, done := b.cp.Derived[dep.Table.Name]; done {
			continue
		}
		rows, err := b.deriveAll(ctx, dep)
		if err != nil {
			return fmt.Errorf("dependent table %s: %w", dep.Table.Name, err)
		}
		if b.cp.Derived == nil {
			b.cp.Derived = map[string]uint64{}
		}
		b.cp.Derived[dep.Table.Name] = rows
		b.h.Log("info", fmt.Sprintf("dependent table %s has %d rows", dep.Table.Name, rows))
		if err := b.save(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) deriveAll(ctx context.Context, dep *projection.Dependent) (uint64, error) {
	table := b.db.Table(dep.Table.Name).Of(b.mark().Generation)
	if err := errors.Join(b.db.DropTable(ctx, table), b.makeDependent(ctx, dep)); err != nil {
		return 0, err
	}
	selection := dep.Over(b.sub.def, b.shadow(), "")
	want, err := b.db.CountSelect(ctx, selection)
	if err != nil {
		return 0, err //nolint:wrapcheck // it says what
	}
	columns, err := b.db.DescribeSelect(ctx, selection)
	if err != nil {
		return 0, err //nolint:wrapcheck // it says what
	}
	load := chstore.Load{
		Into: table, Select: selection, Chunk: b.carried(), Adding: dep.Table.Kind() == chstore.Adding,
		Attempt: int(b.h.Epoch()) * attemptsPerEpoch, Wide: b.spec.Concurrency, Progress: b.reading(), //nolint:gosec // small
	}
	for _, c := range columns {
		load.Columns = append(load.Columns, c.Name)
	}
	if _, err := b.db.LoadSelect(ctx, load); err != nil {
		return 0, err //nolint:wrapcheck // it says what
	}
	if dep.Table.Kind() == chstore.Replacing {
		return want, nil
	}
	// Nothing else may be in it, such as what a statement of a dead worker has put there.
	there, err := b.db.Holds(ctx, table, dep.Table.Kind())
	if err == nil && there != want && !(there < want && expires(b.sub.def, dep)) {
		err = fmt.Errorf("it holds %d rows, and the SELECT gives %d: %w", there, want, chstore.ErrUnproved)
	}
	return there, err //nolint:wrapcheck // it says what
}

// makeDependent makes the shadow of a dependent.
func (b *build) makeDependent(ctx context.Context, dep *projection.Dependent) error {
	table := b.db.Table(dep.Table.Name).Of(b.mark().Generation)
	return b.db.CreateTable(ctx, table, dep.Table.Spec(), dependentMark(b.mark(), dep.Table.Name)) //nolint:wrapcheck // it says what
}

// DependentVerification is what was found of a dependent table before the swap.
type DependentVerification struct {
	Table string `json:"table"`
	// Rows are those of the SELECT that it is made of, as far as its engine tells.
	Rows uint64 `json:"rows"`
	// Difference is that from the live table; nil where there is none yet.
	Difference *chstore.Diff `json:"difference,omitempty"`
}

// verifyDependents counts the dependents and compares them with the live ones.
func (b *build) verifyDependents(ctx context.Context) ([]DependentVerification, error) {
	var out []DependentVerification
	for i := range b.sub.def.Dependents {
		t := &b.sub.def.Dependents[i].Table
		v := DependentVerification{Table: t.Name}
		live, shadow := b.db.Table(t.Name), b.db.Table(t.Name).Of(b.mark().Generation)
		var err error
		if v.Rows, err = b.db.Holds(ctx, shadow, t.Kind()); err != nil {
			return nil, err //nolint:wrapcheck // it says what
		}
		there, err := b.db.Inspect(ctx, live)
		switch {
		case errors.Is(err, chstore.ErrNoTable):
			out = append(out, v)
			continue
		case err != nil:
			return nil, err //nolint:wrapcheck // it says what
		}
		spec := dependentDiff(t, there, shadow)
		spec.Progress = b.reading()
		diff, err := b.db.Diff(ctx, spec)
		if err != nil {
			return nil, err //nolint:wrapcheck // it says what
		}
		v.Difference = &diff
		b.h.Log("info", fmt.Sprintf("difference of dependent table %s from the live one: %d added, %d removed, %d changed, %d the same", t.Name, diff.Added, diff.Removed, diff.Changed, diff.Same))
		out = append(out, v)
	}
	return out, nil
}

// dependentDiff compares by the key of the table, where that is made of columns that both
// have.
func dependentDiff(t *projection.Table, live chstore.Info, shadow chstore.Table) chstore.DiffSpec {
	spec := chstore.DiffSpec{Old: live.Table, New: shadow}
	both := func(name string) bool {
		_, ok := t.Column(name)
		return ok && slices.ContainsFunc(live.Columns, func(c chstore.Column) bool { return c.Name == name })
	}
	if !slices.ContainsFunc(t.OrderBy, func(key string) bool { return !both(key) }) {
		spec.Keys = t.OrderBy
	}
	for _, c := range t.Columns {
		if both(c.Name) && !slices.Contains(spec.Keys, c.Name) {
			spec.Columns = append(spec.Columns, c.Name)
		}
	}
	return spec
}
