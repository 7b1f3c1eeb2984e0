package rebuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
)

// carryOver takes, in a scoped rebuild, what is outside of the scope from the live
// table: as it is at an exact position, for which its feeding stops for a moment, while
// its parts are linked into a table of their own.
func (b *build) carryOver(ctx context.Context) error {
	if b.spec.Scope.IsZero() || b.cp.Carried {
		return nil
	}
	if b.cp.Snapshot == nil {
		if err := b.freeze(ctx); err != nil {
			return err
		}
	}
	if b.sub.kind == chstore.Adding {
		return nil // together with the chunks, see pour
	}
	rows, err := b.carryRest(ctx)
	if err != nil {
		return err
	}
	if err := b.noteCarried(ctx); err != nil {
		return err
	}
	b.cp.Rows, b.cp.Carried = rows, true
	return nil
}

// carriedNote tells what the shadow was when all was carried over: a statement of a worker
// that was stopped before it, and comes late, would undo what is loaded from then on.
type carriedNote struct {
	Seal      chstore.Seal `json:"seal"`
	Mutations int          `json:"mutations"` // but for Clean's
}

const carriedFile = "carried.json" // among the files of a job

func (b *build) noteCarried(ctx context.Context) error {
	now, err := b.carriedNow(ctx)
	if err != nil {
		return err
	}
	if now.Seal, err = b.db.SealLeft(ctx, b.shadow()); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	return putAnew(ctx, b.h.Files(), carriedFile, now)
}

func (b *build) carriedNow(ctx context.Context) (n carriedNote, err error) {
	if n.Seal, err = b.db.Seal(ctx, b.shadow()); err != nil {
		return n, err //nolint:wrapcheck // it says what
	}
	commands, err := b.db.Mutations(ctx, b.shadow())
	n.Mutations = len(commands)
	return n, err //nolint:wrapcheck // it says what
}

// asCarried says whether what was carried over is as it was, and nothing else of earlier
// generations is there.
func (b *build) asCarried(ctx context.Context) error {
	if b.spec.Scope.IsZero() || b.sub.kind == chstore.Adding {
		return nil
	}
	var then carriedNote
	switch err := readFile(ctx, b.h.Files(), carriedFile, &then); {
	case errors.Is(err, objectstore.ErrNotFound):
		return nil // an older program was here
	case err != nil:
		return fmt.Errorf("read what was carried over: %w", err)
	}
	now, err := b.carriedNow(ctx)
	if err != nil {
		return err
	}
	if broken := then.Seal.Missing(now.Seal); broken != "" && b.sub.spec.TTL == "" {
		return b.tampered(b.shadow(), "after rows were carried over, "+broken)
	}
	if now.Mutations > then.Mutations {
		return b.tampered(b.shadow(), "rows were changed after they were carried over")
	}
	// Where rows of all parts are masked, parts cannot tell.
	rows, err := b.db.CountWhere(ctx, b.shadow(), chstore.Identifier(chstore.ChunkColumn)+fmt.Sprintf(" < %d", b.number(0)), b.spec.Scope.rows(b.sub.def))
	if err == nil && rows > 0 {
		err = b.tampered(b.shadow(), fmt.Sprintf("%d rows of the scope were carried over late", rows))
	}
	return err //nolint:wrapcheck // it says what
}

// What the tables are for, by their marks, that a rebuild makes beside its shadow and does
// not need afterwards. Those that parts are linked from have names of the attempt: what a
// worker that was stopped does later meets its own.
const (
	stagingRole = "staging"
	frozenRole  = "frozen"
	cutRole     = "cut"
)

func isScaffold(m chstore.Mark) bool {
	return m.Role == stagingRole || m.Role == frozenRole || m.Role == cutRole
}

// frozen is the table that has the live one's parts, once they were linked.
func (b *build) frozen() chstore.Table { return b.db.Table(b.cp.Frozen) }

// scaffold is a table of this attempt, and its mark.
func (b *build) scaffold(role string) (chstore.Table, chstore.Mark) {
	mark := b.mark()
	mark.Role = role
	return b.db.Table(fmt.Sprintf("%s__%s%d", b.shadow().Name, role, b.h.Epoch())), mark
}

// carryRest puts what is outside of the scope into the shadow, which has nothing else
// yet. Where the definition has not changed the table, parts are linked without the rows
// of the scope: other rows stay byte for byte as they are, and none is written. Else they
// are copied. Rows that expire may leave the shadow at once.
func (b *build) carryRest(ctx context.Context) (uint64, error) {
	scope, expires := b.spec.Scope.rows(b.sub.def), b.sub.spec.TTL != ""
	alike, err := b.db.Alike(ctx, b.frozen(), b.shadow())
	if err != nil {
		return 0, err //nolint:wrapcheck // it says what
	}
	if alike {
		cut, mark := b.scaffold(cutRole) // in which the rows of the scope are deleted
		if err := b.dropCuts(ctx); err != nil {
			return 0, err
		}
		if err := b.db.CreateTable(ctx, cut, b.sub.spec.Quiet(), mark); err != nil {
			return 0, err //nolint:wrapcheck // it says what
		}
		rows, err := b.db.LinkExcept(ctx, chstore.Links{
			From: b.frozen(), Via: cut, To: b.shadow(), Kind: b.sub.kind, Except: scope, ByKey: b.spec.Scope.ofKey(b.sub.def), Expires: expires,
		})
		if err != nil {
			return 0, err //nolint:wrapcheck // it says what
		}
		b.h.Log("info", fmt.Sprintf("carried %d rows over as they are", rows))
		return rows, b.db.DropTable(ctx, cut) //nolint:wrapcheck // it says what
	}
	if b.sub.kind != chstore.Adding {
		if err := b.db.Clean(ctx, b.shadow(), b.carried()); err != nil {
			return 0, err //nolint:wrapcheck // it says what
		}
	}
	rows, err := b.db.CopyExcept(ctx, b.frozen(), b.shadow(), b.sub.spec.Names(), scope, b.carried(), expires, b.reading())
	if err != nil {
		return 0, err //nolint:wrapcheck // it says what
	}
	b.h.Log("info", fmt.Sprintf("carried %d rows over into another table", rows))
	return rows, nil
}

// dropCuts drops the tables that earlier attempts have linked from: a worker that was
// stopped when it had made one then has nothing to link into the shadow.
func (b *build) dropCuts(ctx context.Context) error {
	tables, err := b.db.Marked(ctx, "", b.name())
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	_, mark := b.scaffold(cutRole)
	return b.dropAside(ctx, slices.DeleteFunc(tables, func(t chstore.Info) bool {
		_, attempt, _ := strings.Cut(t.Table.Name, "__"+cutRole)
		epoch, err := strconv.ParseUint(attempt, 10, 64)
		return t.Mark != mark || err != nil || epoch >= b.h.Epoch()
	}))
}

// ofKey says whether a scope is told by columns of the table's key: then all rows of a key
// are within it, or none.
func (s *Scope) ofKey(d *projection.Definition) bool {
	key := d.Table.OrderBy
	return (len(s.Tenants) == 0 || slices.Contains(key, d.Scope.Tenant)) && (len(s.Aggregates) == 0 || slices.Contains(key, d.Scope.Aggregate)) &&
		(s.From.IsZero() && s.To.IsZero() || slices.Contains(key, d.Scope.Time))
}

// freeze links the live table's parts into one of its own, with nobody writing, and
// takes note of its positions.
func (b *build) freeze(ctx context.Context) error {
	return b.svc.seize(ctx, b.name(), b.job.ID, b.freezeHeld)
}

// beside says whether the generation is live that this one is made beside.
func (b *build) beside(doc *projection.Document) error {
	if doc.Live.Generation == b.cp.Base {
		return nil
	}
	return remedy.Wrapf(fmt.Errorf("generation %d of %s became live while this rebuild ran, and it was made beside generation %d", doc.Live.Generation, b.name(), b.cp.Base),
		"Cancel this rebuild, and create a new one if it is still needed.")
}

func (b *build) freezeHeld(ctx context.Context, hold *seized) error {
	doc := hold.Document()
	if err := b.beside(doc); err != nil { // another one's rows are not those that are rebuilt in part
		return err
	}
	table, err := b.svc.generationTable(ctx, b.db, b.name(), doc.Live.Generation)
	if err != nil {
		return err
	}
	old, err := b.svc.keptDefinition(ctx, b.name(), doc.Live.Digest)
	if err != nil {
		return err
	}
	frozen, mark := b.scaffold(frozenRole)
	if err := b.db.CreateTable(ctx, frozen, old.Table.Spec().Quiet(), mark); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if err := b.db.Clone(ctx, table, frozen); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if err := hold.Renew(ctx); err != nil {
		return err //nolint:wrapcheck // it names the projection
	}
	b.cp.Frozen, b.cp.Snapshot = frozen.Name, maps.Clone(doc.Live.Positions)
	if b.cp.Snapshot == nil {
		b.cp.Snapshot = map[string]place{}
	}
	return b.save(ctx)
}

// pour puts the chunks, and in a scoped rebuild what is carried over, into the shadow
// of a table that adds rows up, in one go: what fails is begun anew.
func (b *build) pour(ctx context.Context) error {
	if b.sub.kind != chstore.Adding || b.cp.Carried {
		return nil
	}
	// Whatever an attempt before this one has put there.
	if err := b.db.DropTable(ctx, b.shadow()); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if err := b.db.CreateTable(ctx, b.shadow(), b.sub.spec, b.mark()); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if !b.spec.Scope.IsZero() {
		carried, err := b.carryRest(ctx)
		if err != nil {
			return err
		}
		b.cp.Rows = carried
	}
	expires := b.sub.spec.TTL != ""
	rows, err := b.db.Pour(ctx, b.staging(), b.shadow(), b.sub.spec.Names(), b.reading())
	if err != nil && !(expires && errors.Is(err, chstore.ErrUnproved)) { // some have expired already
		return err //nolint:wrapcheck // it says what
	}
	if want := b.journal.total(); rows != want {
		return fmt.Errorf("the staging table has %d rows, and its chunks gave %d: %w", rows, want, chstore.ErrUnproved)
	}
	// Nothing else may be in it, such as what a statement of a dead worker has put there.
	added, err := b.db.Added(ctx, b.shadow())
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if added != rows+b.cp.Rows && !(expires && added < rows+b.cp.Rows) {
		return jobs.Retry(fmt.Errorf("table %s holds %d rows, and %d were put there: %w", b.shadow().Name, added, rows+b.cp.Rows, chstore.ErrUnproved))
	}
	b.cp.Carried = true
	return nil
}
