package rebuild

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

// What nobody but this rebuild may touch is sealed when it was loaded, and again when it
// was verified: its approval may take days. Where rows are merged away their number
// proves nothing, but parts do.

const (
	loadingFile  = "loading.json"  // the seal of the table after the last chunk, where stillThere makes one
	loadedFile   = "loaded.json"   // seals, among the files of a job
	verifiedFile = "verified.json" // the same, later
)

// tables gives the tables that are built, by the names that they have now.
func (b *build) tables(ctx context.Context) (map[named]chstore.Info, error) {
	marked, err := b.db.Marked(ctx, "", b.name())
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what
	}
	out := map[named]chstore.Info{}
	for _, n := range tablesOf(b.db, b.sub.def, b.mark()) {
		for _, t := range marked {
			if t.Mark == n.mark {
				out[n] = t
			}
		}
		if _, ok := out[n]; !ok {
			return nil, b.tampered(n.live.Of(b.mark().Generation), "somebody has dropped it")
		}
	}
	return out, nil
}

// seal notes what the tables are made of.
func (b *build) seal(ctx context.Context, tables map[named]chstore.Info, file string) (err error) {
	seals := map[string]chstore.Seal{}
	for n, t := range tables {
		if seals[n.live.Name], err = b.db.SealLeft(ctx, t.Table); err != nil {
			return err //nolint:wrapcheck // it says what
		}
	}
	return putAnew(ctx, b.h.Files(), file, seals)
}

// stillThere says, after each chunk and for good, whether all parts are there that were
// there after the ones before, where the number of rows cannot tell.
func (b *build) stillThere(ctx context.Context, into chstore.Table, kind chstore.Kind) error {
	if kind != chstore.Replacing || b.sub.spec.TTL != "" {
		return nil
	}
	b.sealing.Lock()
	defer b.sealing.Unlock()
	if b.parts == nil {
		b.parts = &chstore.Seal{}
		if err := readFile(ctx, b.h.Files(), loadingFile, b.parts); err != nil && !errors.Is(err, objectstore.ErrNotFound) {
			return fmt.Errorf("read the seal of the table: %w", err)
		}
	}
	now, err := b.db.Seal(ctx, into)
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if gone := b.parts.Missing(now); gone != "" {
		return b.tampered(into, "while it was loaded, "+gone)
	}
	b.parts = &now
	return putAnew(ctx, b.h.Files(), loadingFile, now)
}

// sealed says whether the tables are still made of what they were made of when they were
// sealed, and, if asked for, of nothing else.
func (b *build) sealed(ctx context.Context, tables map[named]chstore.Info, file string, nothingElse bool) error {
	seals := map[string]chstore.Seal{}
	switch err := readFile(ctx, b.h.Files(), file, &seals); {
	case errors.Is(err, objectstore.ErrNotFound):
		return nil // an older program was here
	case err != nil:
		return fmt.Errorf("read the seals of the rebuild: %w", err)
	}
	for n, t := range tables {
		now, err := b.db.Seal(ctx, t.Table)
		if err != nil {
			return err //nolint:wrapcheck // it says what
		}
		broken := ""
		switch {
		case b.expires(n):
		case nothingElse:
			broken = seals[n.live.Name].Broken(now)
		default:
			broken = seals[n.live.Name].Missing(now)
		}
		if broken != "" {
			return b.tampered(t.Table, broken)
		}
	}
	return nil
}

// intact says whether the tables hold what this rebuild has put there, and were changed
// by nobody else.
func (b *build) intact(ctx context.Context, tables map[named]chstore.Info) error {
	for n, t := range tables {
		commands, err := b.db.Mutations(ctx, t.Table)
		if err != nil {
			return err //nolint:wrapcheck // it says what
		}
		if len(commands) > 0 {
			return b.tampered(t.Table, "somebody has changed its rows: "+commands[0])
		}
		if err := b.strangers(ctx, t); err != nil {
			return err
		}
		if err := b.counted(ctx, n, t); err != nil {
			return err
		}
	}
	return nil
}

// strangers looks for rows that no chunk and no batch has brought.
func (b *build) strangers(ctx context.Context, t chstore.Info) error {
	first, last := b.number(0), max(b.cp.Feed.Batch, b.carried())
	if !b.spec.Scope.IsZero() {
		first = 0 // rows that are carried over have the numbers of earlier generations
	}
	rows, err := b.db.Strangers(ctx, t, first, last)
	if err == nil && rows > 0 {
		err = b.tampered(t.Table, fmt.Sprintf("%d rows of it were put there by somebody else", rows))
	}
	return err //nolint:wrapcheck // it says what
}

// counted says whether there are as many rows as were put there, where that can be said.
func (b *build) counted(ctx context.Context, n named, t chstore.Info) error {
	if t.Kind == chstore.Replacing || b.cp.Feed.Pending != nil {
		return nil
	}
	there, err := b.db.Holds(ctx, t.Table, t.Kind)
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	want := b.journal.total() + b.cp.Rows + b.cp.Feed.Rows
	if n.mark.Role != "" {
		want = b.cp.Derived[n.live.Name] + b.cp.Feed.Derived[n.live.Name]
	}
	if there == want || there < want && b.expires(n) {
		return nil
	}
	return b.tampered(t.Table, fmt.Sprintf("it holds %d rows, and %d were put there", there, want))
}

func (b *build) tampered(t chstore.Table, what string) error {
	return remedy.Wrapf(fmt.Errorf("table %s: %w: %s", t.Name, chstore.ErrChangedByHand, what),
		"Cancel the rebuild and create a new one. Change the definition, not the table.")
}

// proved is the verification with the proofs that nobody else has touched the tables.
func (b *build) proved(ctx context.Context) error {
	if err := b.verify(ctx); err != nil {
		if b.cp.Phase == PhaseLoad { // chunks are loaded again
			b.cp.Sealed = false
			return errors.Join(err, b.save(ctx))
		}
		return err
	}
	tables, err := b.tables(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(b.sealed(ctx, tables, loadedFile, false), b.intact(ctx, tables)); err != nil {
		return err
	}
	b.cp.Verified = b.cp.Feed.Batch
	return b.seal(ctx, tables, verifiedFile)
}

// expires says whether rows of a table are deleted by themselves.
func (b *build) expires(n named) bool {
	for i := range b.sub.def.Dependents {
		if dep := &b.sub.def.Dependents[i]; dep.Table.Name == n.live.Name {
			return dep.Table.TTL != ""
		}
	}
	return b.sub.spec.TTL != ""
}
