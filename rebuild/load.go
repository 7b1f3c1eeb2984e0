package rebuild

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// number is that of a chunk's rows, in Keeping and Replacing tables.
func (b *build) number(chunk int) uint64 { return numberBase(b.cp.Generation) + 1 + uint64(chunk) } //nolint:gosec // an index

// carried is the number of the rows that are carried over; those of batches come
// after it.
func (b *build) carried() uint64 { return b.number(len(b.plan.Chunks)) }

// mark is what the shadow bears.
func (b *build) mark() chstore.Mark {
	return chstore.Mark{Projection: b.name(), Generation: int(b.cp.Generation), Rebuild: b.job.ID, Digest: b.sub.digest} //nolint:gosec // small
}

func (b *build) shadow() chstore.Table  { return b.db.Table(tableOf(b.sub.def, b.cp.Generation)) }
func (b *build) live() chstore.Table    { return b.db.Table(b.sub.def.Table.Name) }
func (b *build) staging() chstore.Table { return b.db.Table(b.shadow().Name + "__staging") }

// loadInto is the table that chunks are loaded into: where rows add up one that keeps
// them, since it cannot be said of a chunk there whether it is in it.
func (b *build) loadInto() (chstore.Table, chstore.Kind) {
	if b.sub.kind == chstore.Adding {
		return b.staging(), chstore.Keeping
	}
	return b.shadow(), b.sub.kind
}

// look notes what the plan says that people have to know.
func (b *build) look(context.Context) error {
	p := b.plan
	b.h.Log("info", fmt.Sprintf("%d events in %d chunks of %d streams, %d bytes", p.Events, len(p.Chunks), len(p.Streams), p.Bytes))
	for i, g := range p.Named {
		if i == maxNamedGaps {
			b.warn("and %d more losses within the range", p.Gaps-maxNamedGaps)
			break
		}
		b.warn("stream %q lost entries after %s and up to %s before they were archived (%s, %d or more)", g.Stream, g.After, g.UpTo, g.Cause, g.Lost)
	}
	return nil
}

// maxNamedGaps is how many losses are warned of one by one.
const maxNamedGaps = 10

// makeShadow makes the table that is built.
func (b *build) makeShadow(ctx context.Context) error {
	if b.cp.Generation == 0 {
		doc, err := b.svc.documents.Get(ctx, b.name())
		if err != nil && !errors.Is(err, projection.ErrNotBuilt) {
			return err //nolint:wrapcheck // it names the projection
		}
		if doc != nil {
			b.cp.Base = doc.Live.Generation
		}
		if b.cp.Generation, err = b.svc.documents.NextGeneration(ctx, b.name()); err != nil {
			return err //nolint:wrapcheck // it names the projection
		}
		if err := b.save(ctx); err != nil {
			return err
		}
	}
	if err := b.db.CreateTable(ctx, b.shadow(), b.sub.spec, b.mark()); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	if into, _ := b.loadInto(); into != b.shadow() {
		mark := b.mark()
		mark.Role = stagingRole
		return b.db.CreateTable(ctx, into, b.sub.spec.Staging(), mark) //nolint:wrapcheck // it says what
	}
	return nil
}

// dropTables drops everything that was made for the generation that is built.
func (b *build) dropTables(ctx context.Context) error {
	tables, err := b.db.Marked(ctx, "", b.name())
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	for _, n := range tablesOf(b.db, b.sub.def, b.mark()) {
		if err := b.db.Discard(ctx, n.live, n.mark); err != nil {
			return err //nolint:wrapcheck // it says what
		}
		tables = slices.DeleteFunc(tables, func(t chstore.Info) bool { return t.Mark == n.mark })
	}
	return b.dropAside(ctx, tables)
}

// dropAside drops those of the tables that this rebuild has made, under any name that is
// not live. They are none that are exchanged.
func (b *build) dropAside(ctx context.Context, tables []chstore.Info) error {
	for _, t := range tables {
		if t.Mark.Rebuild != b.job.ID || isLive(t.Table) {
			continue
		}
		if err := b.db.DropTable(ctx, t.Table); err != nil {
			return err //nolint:wrapcheck // it says what
		}
	}
	return nil
}

// load loads the chunks that are not loaded yet.
func (b *build) load(ctx context.Context) error {
	if b.sub.def.Kind == projection.Fold {
		return b.fold(ctx)
	}
	into, kind := b.loadInto()
	if err := b.reconcile(ctx, into, kind); err != nil {
		return err
	}
	if b.cp.Way == "" {
		b.cp.Way = b.way()
	}
	hands := make(chan *hand, b.spec.Concurrency)
	for range b.spec.Concurrency {
		rows, err := b.svc.rows(b.sub, b.cp.Generation, &b.spec.Scope, nil)
		if err != nil {
			return err
		}
		strays, err := b.svc.strayRows(b.sub, &b.spec.Scope)
		if err != nil {
			return err
		}
		hands <- &hand{rows: rows.(blockMaker), strays: strays}
	}
	b.events = b.loadedEvents() // some may have been forgotten
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(b.spec.Concurrency)
	for i := range b.plan.Chunks {
		if b.isLoaded(i) {
			continue
		}
		if groupCtx.Err() != nil {
			break // the group says why, or ctx
		}
		group.Go(func() error {
			with := <-hands
			defer func() { hands <- with }()
			return b.loadChunk(groupCtx, &chunkLoad{b: b, index: i, chunk: &b.plan.Chunks[i], into: into, kind: kind, hand: with})
		})
	}
	if err := group.Wait(); err != nil {
		return err //nolint:wrapcheck // it is ours
	}
	return context.Cause(ctx)
}

// isLoaded says whether the journal has a chunk.
func (b *build) isLoaded(i int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.journal.loaded(i)
	return ok
}

// loadedEvents is how many events the chunks have that the journal has.
func (b *build) loadedEvents() (events uint64) {
	for i := range b.plan.Chunks {
		if _, ok := b.journal.loaded(i); ok {
			events += b.plan.Chunks[i].Events
		}
	}
	return events
}

// way is how the chunks are loaded.
func (b *build) way() Way {
	p := &b.svc.opts.Pushdown
	switch {
	case b.spec.Way == WayGo, b.sub.def.Kind != projection.SQL, b.spec.Way == WayPushdown:
		return map[bool]Way{true: WayPushdown, false: WayGo}[b.spec.Way == WayPushdown]
	case p.S3 == nil && p.Dir == "":
		return WayGo
	case b.sub.def.Upcast && b.svc.opts.Upcasters.Len() > 0:
		b.h.Log("info", "the events go through upcasters, and so through this process")
		return WayGo
	}
	return WayPushdown
}

// reconcile makes the table what the journal says, after a crash: chunks that are
// there and not in the journal are removed, and those that are not there as a whole
// are loaded again.
func (b *build) reconcile(ctx context.Context, into chstore.Table, kind chstore.Kind) error {
	if kind == chstore.Replacing {
		return nil // to load a chunk again does no harm
	}
	there, err := b.db.Chunks(ctx, into, b.number(0))
	if err != nil {
		return err //nolint:wrapcheck // it says what
	}
	for i := range b.plan.Chunks {
		rows, loaded := b.journal.loaded(i)
		has := there[b.number(i)]
		if loaded && b.holdsAll(has, rows) {
			continue
		}
		if loaded {
			b.h.Log("warn", fmt.Sprintf("chunk %d has %d rows in %s, and had %d: it is loaded again", i, has, into.Name, rows))
		}
		b.journal.forget(i)
		if has > 0 {
			if err := b.db.Clean(ctx, into, b.number(i)); err != nil {
				return err //nolint:wrapcheck // it says what
			}
		}
	}
	return nil
}

// hand is what one of the chunks that are loaded at once is loaded with. The next one
// takes its memory over.
type hand struct {
	rows   blockMaker
	strays strayMaker // of a scoped rebuild
	events batch      // of a chunk on which the SELECT fails
}

// chunkLoad is the loading of one chunk.
type chunkLoad struct {
	b     *build
	index int
	chunk *Chunk
	into  chstore.Table
	kind  chstore.Kind
	*hand
	tries   int
	pushed  bool // ClickHouse reads the events of this try itself
	parts   int  // statements of this try
	letters []Letter
	// written is how many rows the server has written for the statements of this try, the
	// last of which has come to now; 0 where the protocol does not tell.
	written uint64
	now     *atomic.Uint64
	shown   shown // b.mu is held
}

// loadChunk loads a chunk, whatever it takes, and notes that in the journal.
func (b *build) loadChunk(ctx context.Context, c *chunkLoad) error {
	defer c.takeBack()
	var rows uint64
	err := patiently(ctx, b.holdsLocked, func(ctx context.Context) (err error) {
		// It has its turn once: nothing is waited for after it was looked for what
		// another try has left.
		if c.tries == 0 {
			err = b.tempo.begin(ctx, c.chunk.Events)
		} else {
			err = c.clean(ctx)
		}
		if err != nil {
			return err
		}
		if rows, err = c.once(ctx); err != nil {
			c.takeBack()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("chunk %d, of stream %q from %s to %s: %w", c.index, b.plan.Streams[c.chunk.Stream].Stream, c.chunk.Range.From, c.chunk.Range.To, err)
	}
	if err := b.aside(ctx, b.number(c.index), c.letters); err != nil {
		return err
	}
	if err := b.stillThere(ctx, c.into, c.kind); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.journal.finish(c.index, rows)
	c.turn(0)
	b.events += c.chunk.Events
	return b.progress()
}

// holdsLocked is holds for several goroutines.
func (b *build) holdsLocked(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holds(reason)
}

// clean removes what an attempt may have left, and may still be on its way.
func (c *chunkLoad) clean(ctx context.Context) error {
	number := c.b.number(c.index)
	kill := func() error { return c.b.db.Kill(ctx, fmt.Sprintf("chunk/%d", number)) }
	if err := kill(); err != nil {
		return err
	}
	if err := wait(ctx, killDelay); err != nil {
		return err
	}
	if err := kill(); err != nil {
		return err
	}
	if c.kind == chstore.Replacing {
		return nil
	}
	rows, err := c.b.db.Prove(ctx, c.into, number)
	if err != nil || rows == 0 {
		return err //nolint:wrapcheck // it says what
	}
	return c.b.db.Clean(ctx, c.into, number) //nolint:wrapcheck // it says what
}

// attemptsPerEpoch keeps the tokens of a worker's attempts apart from another's.
const attemptsPerEpoch = 1 << 20

// once issues the statement of a chunk, and returns how many rows it gave.
func (c *chunkLoad) once(ctx context.Context) (uint64, error) {
	c.begin()
	if c.b.pushes(c.chunk) {
		c.pushed = true
		rows, err := c.push(ctx)
		switch {
		case errors.Is(err, chstore.ErrSource), errors.Is(err, chstore.ErrNotPushable):
			if c.b.spec.Way == WayPushdown {
				return 0, err
			}
			c.b.goThrough(err)
		case errors.Is(err, chstore.ErrData): // find out which events it is
		case errors.Is(err, chstore.ErrResources), errors.Is(err, errManyUnusable): // in smaller blocks
			c.b.h.Log("warn", fmt.Sprintf("chunk %d goes through this process, in smaller blocks: %v", c.index, err))
		default:
			return rows, err
		}
		if err := c.clean(ctx); err != nil {
			return 0, err
		}
		c.begin()
	}
	return c.stream(ctx)
}

// begin begins another try.
func (c *chunkLoad) begin() {
	c.tries++
	c.pushed, c.parts, c.letters = false, 0, c.letters[:0]
	c.written, c.now = 0, &atomic.Uint64{}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.turn(c.tries)
}

// asWritten says whether there are as many rows in the table as the statements of this
// try have written: more may come from a statement of another try, or worker, that was on
// its way for long.
func (c *chunkLoad) asWritten(there uint64) error {
	if wrote := c.written + c.now.Load(); c.kind == chstore.Keeping && wrote > 0 && !c.b.holdsAll(there, wrote) {
		return fmt.Errorf("%w: %d rows were written, and %d are there", errNotThere, wrote, there)
	}
	return nil
}

// pushes says whether ClickHouse reads a chunk itself.
func (b *build) pushes(c *Chunk) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cp.Way == WayPushdown && c.Format == archive.Parquet
}

// goThrough takes the way through this process from here on.
func (b *build) goThrough(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cp.Way == WayPushdown {
		b.cp.Way = WayGo
		b.h.Log("warn", fmt.Sprintf("ClickHouse cannot read the archive itself, so its events go through this process: %v", why))
	}
}

func (c *chunkLoad) load() chstore.Load {
	now, try := &atomic.Uint64{}, c.tries
	c.written, c.now = c.written+c.now.Load(), now
	return chstore.Load{
		Progress: func(p chstore.Progress) {
			now.Store(p.WrittenRows)
			if c.pushed { // else it reads what was sent along
				c.shows(try, p.ReadRows)
			}
		},
		Into: c.into, Columns: c.b.sub.columns, Select: c.b.sub.def.Select, Chunk: c.b.number(c.index),
		Attempt: int(c.b.h.Epoch())*attemptsPerEpoch + c.tries, Part: c.parts, //nolint:gosec // small
	}
}

// aside keeps letters among the job's files, as far as the definition lets it.
func (b *build) aside(ctx context.Context, number uint64, letters []Letter) error {
	if len(letters) == 0 {
		return nil
	}
	count, err := b.noteLetters(ctx, number, letters)
	if err != nil {
		return err
	}
	if err := allowed(b.sub.def, count, letters); err != nil {
		return err
	}
	return putAnew(ctx, b.h.Files(), letterKey(number), letters)
}

// noteLetters gives how many letters there are with these.
func (b *build) noteLetters(ctx context.Context, number uint64, letters []Letter) (count uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.letters == nil {
		if b.letters, err = readLetterBook(ctx, b.h.Files(), "", 0, math.MaxUint64); err != nil {
			return 0, err
		}
	}
	b.cp.Letters = b.letters.put(number, len(letters))
	return b.cp.Letters, nil
}

// allowed says whether so many events may be put aside.
func allowed(d *projection.Definition, count uint64, letters []Letter) error {
	if count <= d.Failures.DeadLetters {
		return nil
	}
	named := ""
	for i := range letters[:min(len(letters), 3)] {
		named += "; " + letters[i].String()
	}
	return fmt.Errorf("%d events cannot be used, and the definition of %s puts at most %d aside%s", count, d.Name, d.Failures.DeadLetters, named)
}

func letterKey(number uint64) string { return fmt.Sprintf("letters/%020d.json", number) }

// rangeOf narrows what is read of a chunk's objects, where they hold more.
func rangeOf(c *Chunk) event.Range {
	if c.Whole {
		return event.Range{}
	}
	return c.Range
}
