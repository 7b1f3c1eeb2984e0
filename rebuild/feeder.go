package rebuild

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// generationShift makes room for the numbers of chunks and batches of one
// generation: those of a later generation are all above those of the one before, so
// that a statement of a writer that lost its right finds something newer, whichever
// table has the name by then.
const generationShift = 40

// numberBase is below all numbers of a generation's chunks and batches.
func numberBase(generation uint64) uint64 { return generation << generationShift }

// errNotThere says that rows that were written are not in the table.
var errNotThere = errors.New("rows are not in the table that they were written to")

// ledger remembers, durably, how far a table is fed. One writer at a time has it.
type ledger interface {
	// places is how far the table is, and batch the number of the last batch in it.
	places() map[string]place
	batch() uint64
	// pending is the batch in flight, or nil.
	pending() *projection.Pending
	// intend announces a batch before anything of it is sent. When it fails nothing
	// may be sent.
	intend(ctx context.Context, p projection.Pending) error
	// confirm makes sure that this is still the one who feeds, and announces that what is in
	// flight may be sent for so long from now on.
	confirm(ctx context.Context, within time.Duration) error
	// settle says whether the batch in flight is in the table, and how many rows each
	// dependent has got of it, as far as that can be counted; the next announcement makes
	// that durable.
	settle(done bool, derived map[string]uint64)
}

// feeder feeds a table with batches, each exactly once: the batch is announced,
// durably, before it is issued, and what was in doubt after a crash is killed,
// counted, and issued again as it was. It is not safe for concurrent use.
type feeder struct {
	db     *chstore.Store // in the name of the one that feeds
	into   chstore.Table
	kind   chstore.Kind
	rows   rowMaker
	reader *reader
	ledger ledger
	// aside keeps events that cannot be used, before the batch is announced. It may be
	// called again with the same number, and other letters or none.
	aside   func(ctx context.Context, number uint64, letters []Letter) error
	asideOf uint64 // the number that it was called with last
	// waiting is told why nothing can be fed, "" when it can.
	waiting func(reason string)
	mark    chstore.Mark // of the table
	expires bool         // rows leave the table by themselves
	// dependents are made of the rows of each batch.
	dependents *dependents
	// once says that what is in doubt is looked for once in a step, and not for as long as
	// ClickHouse cannot be reached: other tables are fed beside this one.
	once bool
	pace pace
	// fed is told how far the table is, after every batch.
	fed func(places map[string]place) error

	events   batch
	base     uint64 // what an adding table holds
	baseRead bool
}

// step feeds one batch of what is new, and returns how many events were read. The
// error beside a count says what could not be read.
func (f *feeder) step(ctx context.Context) (events int, err error) {
	if err := f.settle(ctx); err != nil {
		return 0, err
	}
	readErr := f.reader.read(ctx, &f.events)
	if f.events.events.Len() == 0 {
		return 0, readErr
	}
	if err := f.feed(ctx); err != nil {
		f.reader.reset(f.ledger.places())
		return 0, err
	}
	return f.events.events.Len(), readErr
}

// feed puts the batch that was read into the table. A batch without rows goes
// nowhere; the places that it moves are announced with the next one.
func (f *feeder) feed(ctx context.Context) error {
	number := f.ledger.batch() + 1
	made, err := f.rows.make(ctx, &f.events, true)
	if err != nil {
		return err
	}
	if len(made.letters) > 0 || f.asideOf == number { // other events may be in it than when it was last tried
		f.asideOf = number
		if err := f.aside(ctx, number, made.letters); err != nil {
			return err
		}
	}
	if err := f.readBase(ctx); err != nil {
		return err
	}
	bases, err := f.dependents.bases(ctx)
	if err != nil {
		return err
	}
	p := projection.Pending{Batch: number, Positions: maps.Clone(f.events.upTo), Rows: made.rows, Base: f.base, Dependents: bases}
	announced, err := f.pace.term(ctx, f.db)
	if err != nil {
		return err
	}
	p.Within = announced.within
	if err := f.ledger.intend(ctx, p); err != nil {
		return err
	}
	if made.rows == 0 {
		f.settled()
		return nil
	}
	err = f.issue(ctx, &p, 0, announced)
	if err == nil {
		err = (&derivation{dependents: f.dependents, p: &p, fresh: true, term: announced, confirm: f.ledger.confirm, pace: &f.pace}).run(ctx)
	}
	if err != nil {
		return f.doubt(ctx, f.pace.refused(err))
	}
	f.pace.went(announced)
	f.settled()
	return f.fed(f.ledger.places())
}

// close gives back what the feeder holds.
func (f *feeder) close() error {
	f.reader.close()
	return closeRows(f.rows)
}

// fedBy gives what a maker of rows does with feeder.fed.
func fedBy(rows rowMaker) func(map[string]place) error {
	if r, ok := rows.(*foldRows); ok {
		return r.fed
	}
	return func(map[string]place) error { return nil }
}

// follow adds streams that are not followed yet, from their beginnings.
func (f *feeder) follow(streams map[string]place) {
	for stream := range streams {
		if _, ok := f.ledger.places()[stream]; !ok {
			f.reader.follow(stream, place{})
		}
	}
}

// readBase asks an adding table once what it holds.
func (f *feeder) readBase(ctx context.Context) (err error) {
	if f.kind != chstore.Adding || f.baseRead && !f.expires {
		return nil
	}
	f.base, err = f.db.Added(ctx, f.into)
	f.baseRead = err == nil
	return err //nolint:wrapcheck // it says what
}

// settled takes note that the table has the batch in flight.
func (f *feeder) settled() {
	if f.kind == chstore.Adding {
		f.base = f.ledger.pending().Base + f.ledger.pending().Rows
		f.baseRead = true
	}
	f.ledger.settle(true, f.dependents.taken())
}

// issue issues the statement of a batch that was made, within the term of its
// announcement.
func (f *feeder) issue(ctx context.Context, p *projection.Pending, attempt int, within term) error {
	load := chstore.Load{
		Into: f.into, Chunk: p.Batch, Adding: f.kind == chstore.Adding, Attempt: contentOf(p) + attempt,
		Guard: f.kind == chstore.Keeping, Fence: within.fence(f.mark),
	}
	rows, err := f.rows.insert(ctx, f.db, load)
	if err == nil && f.kind == chstore.Keeping && rows != p.Rows && !(f.expires && rows < p.Rows) {
		return fmt.Errorf("batch %d of table %s: %w: %d of %d", p.Batch, f.into.Name, errNotThere, rows, p.Rows)
	}
	return err
}

// contentOf tells a batch from another one of the same number, which takes its place
// where another feeder goes on: what ClickHouse knows of the first must not count for
// the second.
func contentOf(p *projection.Pending) int {
	h := fnv.New32a()
	for _, stream := range slices.Sorted(maps.Keys(p.Positions)) {
		at := p.Positions[stream]
		fmt.Fprintf(h, "%q %d %s\n", stream, at.Incarnation, at.ID)
	}
	fmt.Fprintf(h, "%d", p.Rows)
	return int(h.Sum32()>>1) * 2 * settleAttempts
}

// doubt settles the batch in flight after an error, unless the error says that it
// will fail again.
func (f *feeder) doubt(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !passes(err) {
		return err
	}
	if errors.Is(err, chstore.ErrLate) && f.waiting != nil {
		f.waiting(err.Error())
	}
	return f.settle(ctx)
}

// passes says whether what failed may work when it is tried again.
func passes(err error) bool {
	return chstore.Retryable(err) || errors.Is(err, chstore.ErrKilled) || errors.Is(err, chstore.ErrLate)
}

const (
	settleAttempts = 4
	retryDelay     = 100 * time.Millisecond
	retryMaxDelay  = 2 * time.Second
)

// settle finds out whether the table has the batch in flight, and issues it again
// if not. It waits for as long as ClickHouse cannot be reached.
func (f *feeder) settle(ctx context.Context) error {
	if f.ledger.pending() == nil {
		return nil
	}
	settle := func(ctx context.Context) error {
		err := f.settleOnce(ctx)
		return f.pace.refused(err)
	}
	var err error
	if f.once {
		err = settle(ctx)
	} else {
		err = patiently(ctx, f.waiting, settle)
	}
	if err != nil {
		return err
	}
	f.reader.reset(f.ledger.places()) // what was settled may not have been read by it
	return nil
}

// patiently does something again for as long as it fails in a way that may pass.
func patiently(ctx context.Context, waiting func(reason string), do func(context.Context) error) error {
	for delay := retryDelay; ; delay = min(2*delay, retryMaxDelay) {
		err := do(ctx)
		switch {
		case err == nil:
			if waiting != nil {
				waiting("")
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !passes(err):
			return err
		}
		if waiting != nil {
			waiting(withRemedy(err))
		}
		if err := wait(ctx, delay); err != nil {
			return err
		}
	}
}

// withRemedy says what is wrong, and what to do about it.
func withRemedy(err error) string {
	text := err.Error()
	if what := remedy.Of(err); what != "" {
		text += ". " + what
	}
	return text
}

func (f *feeder) settleOnce(ctx context.Context) error {
	p := f.ledger.pending()
	if err := f.db.Kill(ctx, fmt.Sprintf("chunk/%d", p.Batch)); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	for try := range settleAttempts {
		attempt := try
		there, err := look(ctx, f.db, f.into, f.kind, p, f.pace.now(), f.ledger.confirm)
		if err != nil {
			return err
		}
		if p.Rows == 0 {
			f.settled()
			return nil
		}
		if there == all {
			return f.complete(ctx, p)
		}
		if there == some {
			attempt = 0 // what is there of it is left out by the token
		}
		if err := f.again(ctx, p, attempt); err != nil {
			return err
		}
		if f.expires && try > 0 { // it was all there, and what is not any more has expired
			return f.complete(ctx, p)
		}
		if f.kind == chstore.Replacing {
			f.settled()
			return nil
		}
	}
	return fmt.Errorf("batch %d of table %s was issued %d times: %w", p.Batch, f.into.Name, settleAttempts, errNotThere)
}

// complete makes the dependents of a batch that is in the table.
func (f *feeder) complete(ctx context.Context, p *projection.Pending) error {
	err := (&derivation{dependents: f.dependents, p: p, confirm: f.ledger.confirm, pace: &f.pace}).run(ctx)
	if err == nil {
		f.settled()
	}
	return err
}

// presence is how much of a batch a table has.
type presence int

const (
	none presence = iota
	some
	all
)

// look says how much of a batch a table has. What is there in part is removed, where
// it can be told from the rest: then it is none. Of a table that replaces rows
// it is not known, and none: to issue the batch again does no harm.
//
// confirm makes sure, before rows are removed, that this is still the one who feeds: else
// they may be those of a batch that somebody else has issued again.
func look(ctx context.Context, db *chstore.Store, table chstore.Table, kind chstore.Kind, p *projection.Pending, within time.Duration, confirm confirmation) (presence, error) {
	there, err := seen(ctx, db, table, kind, p)
	if err != nil || there != some || kind != chstore.Keeping {
		return there, err
	}
	return none, remove(ctx, db, table, p.Batch, within, confirm)
}

// remove removes what there is of a batch, soon after it was confirmed, or not at all.
// What was removed when this ends too early stays so: a DELETE does not see rows that
// come after it has begun.
func remove(ctx context.Context, db *chstore.Store, table chstore.Table, number uint64, within time.Duration, confirm confirmation) error {
	until := time.Now().Add(within)
	soon, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if err := confirm(ctx, within); err != nil {
		return err
	}
	err := db.Clean(soon, table, number)
	if err != nil && !time.Now().Before(until) && ctx.Err() == nil { // the connection may know before the context
		return fmt.Errorf("remove batch %d from table %s: %w", number, table.Name, chstore.ErrLate)
	}
	return err //nolint:wrapcheck // it says what
}

// seen is look without removing anything.
func seen(ctx context.Context, db *chstore.Store, table chstore.Table, kind chstore.Kind, p *projection.Pending) (presence, error) {
	var rows, before uint64
	var err error
	switch kind {
	case chstore.Replacing:
		return none, nil
	case chstore.Adding:
		rows, err = db.Added(ctx, table)
		before = p.Base
	default:
		rows, err = db.Prove(ctx, table, p.Batch)
	}
	switch {
	case err != nil:
		return none, err //nolint:wrapcheck // it says what
	case rows == before+p.Rows:
		return all, nil
	case rows == before:
		return none, nil
	default:
		return some, nil
	}
}

// again reads the batch in flight once more and issues it.
func (f *feeder) again(ctx context.Context, p *projection.Pending, attempt int) error {
	if err := f.reader.exactly(ctx, f.ledger.places(), p.Positions, &f.events); err != nil {
		return fmt.Errorf("read batch %d of table %s again: %w", p.Batch, f.into.Name, err)
	}
	made, err := f.rows.make(ctx, &f.events, true)
	if err != nil {
		return err
	}
	// The states of a fold may be ahead of the batch, and then give other rows than before:
	// they replace these.
	if made.rows != p.Rows && f.kind != chstore.Replacing {
		return fmt.Errorf("batch %d of table %s gives %d rows now, and gave %d before", p.Batch, f.into.Name, made.rows, p.Rows)
	}
	confirmed, err := f.pace.term(ctx, f.db)
	if err != nil {
		return err
	}
	if err := f.ledger.confirm(ctx, confirmed.within); err != nil {
		return err
	}
	err = f.issue(ctx, p, attempt, confirmed)
	if err != nil && !errors.Is(err, errNotThere) {
		return err
	}
	f.pace.went(confirmed)
	return nil
}

// wait waits, or until the context ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
