package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// rowMaker makes rows of batches. It holds one batch at a time, and is not safe for
// concurrent use.
type rowMaker interface {
	// make takes a batch and, if asked to, counts the rows that it gives.
	make(ctx context.Context, b *batch, count bool) (made, error)
	// insert issues the statement that puts the rows of the batch that was taken last
	// into a table.
	insert(ctx context.Context, db *chstore.Store, load chstore.Load) (rows uint64, err error)
}

// made is what became of a batch.
type made struct {
	rows    uint64
	letters []Letter // what could not be used
}

// sqlRows makes rows with a SELECT, on the server.
type sqlRows struct {
	db       *chstore.Store
	def      *projection.Definition
	columns  []string // that the SELECT gives
	selector *selector
	block    *chstore.Block
	failing  uint64 // how many events of a batch on which the SELECT fails are looked for
}

func newSQLRows(db *chstore.Store, d *projection.Definition, columns []string, s *selector) (*sqlRows, error) {
	selections := []string{d.Select}
	if len(d.Require) > 0 {
		selections = append(selections, unusable(d))
	}
	block, err := chstore.NewBlock(selections...)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what
	}
	return &sqlRows{db: db, def: d, columns: columns, selector: s, block: block, failing: d.Failures.DeadLetters}, nil
}

// tooManyLetters is how many events of one batch, or of a chunk that ClickHouse reads
// itself, may be put aside: more are not looked for.
const tooManyLetters = 100_000

// make implements rowMaker.
func (r *sqlRows) make(ctx context.Context, b *batch, count bool) (made, error) {
	var m made
	if err := r.fill(b, nil, &m.letters); err != nil {
		return m, err
	}
	if err := r.leaveOutUnusable(ctx, b, &m); err != nil || !count {
		return m, err
	}
	rows, err := r.count(ctx)
	if errors.Is(err, chstore.ErrData) {
		if err := r.leaveOutFailing(ctx, b, &m); err != nil {
			return m, err
		}
		rows, err = r.count(ctx)
	}
	m.rows = rows
	return m, err
}

// begin implements blockMaker.
func (r *sqlRows) begin() { r.block.Reset() }

// take implements blockMaker.
func (r *sqlRows) take(of run, b *event.Batch, letters *[]Letter) error {
	return r.selector.each(of.stream, of.incarnation, b, of.from, of.to, letters, func(e *event.Event, env *event.Envelope) error {
		return r.block.AppendEvent(of.stream, of.incarnation, e.ID, env) //nolint:wrapcheck // it says what
	})
}

// needs implements blockMaker.
func (r *sqlRows) needs() event.Attributes { return 0 }

// full implements blockMaker.
func (r *sqlRows) full() bool {
	return r.block.Len() >= blockRows || r.block.Bytes() >= eventsBytes || len(r.def.Require) > 0 && r.block.Len() >= tooManyLetters
}

// flush implements blockMaker.
func (r *sqlRows) flush(ctx context.Context, db *chstore.Store, load chstore.Load, letters *[]Letter) (rows int, err error) {
	if r.block.Len() == 0 {
		return 0, nil
	}
	unusable, err := r.unusable(ctx)
	if err != nil {
		return 0, err
	}
	where := ""
	if len(unusable) > 0 {
		where = r.def.Usable()
	}
	load.Columns, load.Select = r.columns, r.def.Select
	_, err = db.LoadBlock(ctx, r.block, where, load)
	*letters = append(*letters, unusable...)
	r.block.Reset()
	return unknownRows, err //nolint:wrapcheck // it says what
}

// count gives how many rows the block makes. All of their values are made, in the
// types of the table, so that one that cannot be shows before it is inserted.
func (r *sqlRows) count(ctx context.Context) (uint64, error) {
	if r.block.Len() == 0 {
		return 0, nil
	}
	return r.db.CountBlock(ctx, r.block, r.evaluated()) //nolint:wrapcheck // it says what
}

// evaluated is a SELECT of as many rows as the definition's, for which all of its
// values are made.
func (r *sqlRows) evaluated() string {
	var casts []string
	for _, name := range r.columns {
		c, _ := r.def.Table.Column(name)
		if strings.Contains(c.Type, "AggregateFunction(") {
			casts = append(casts, chstore.Identifier(name))
			continue
		}
		casts = append(casts, "CAST("+chstore.Identifier(name)+" AS "+c.Type+")")
	}
	return "SELECT 1 AS x FROM (\n" + strings.TrimRight(r.def.Select, "; \t\r\n") + "\n) WHERE NOT ignore(" + strings.Join(casts, ", ") + ")"
}

// fill puts the batch into the block, without some events.
func (r *sqlRows) fill(b *batch, without map[eventKey]bool, letters *[]Letter) error {
	r.block.Reset()
	for _, run := range b.runs {
		err := r.selector.each(run.stream, run.incarnation, &b.events, run.from, run.to, letters, func(e *event.Event, env *event.Envelope) error {
			if without[eventKey{run.stream, place{Incarnation: run.incarnation, ID: e.ID}}] {
				return nil
			}
			return r.block.AppendEvent(run.stream, run.incarnation, e.ID, env) //nolint:wrapcheck // it says what
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eventKey names an event.
type eventKey struct {
	stream string
	at     place
}

// leaveOutUnusable leaves out the events that do not meet what the definition
// requires.
func (r *sqlRows) leaveOutUnusable(ctx context.Context, b *batch, m *made) error {
	letters, err := r.unusable(ctx)
	if err != nil || len(letters) == 0 {
		return err
	}
	return r.leaveOut(b, letters, m)
}

// unusable gives the events of the block that do not meet what the definition requires.
func (r *sqlRows) unusable(ctx context.Context) ([]Letter, error) {
	if len(r.def.Require) == 0 || r.block.Len() == 0 {
		return nil, nil
	}
	n, err := r.db.CountBlock(ctx, r.block, "SELECT 1 AS x FROM events WHERE NOT ("+r.def.Usable()+"\n)")
	if err != nil || n == 0 {
		return nil, err //nolint:wrapcheck // it says what
	}
	rows, err := r.db.Preview(ctx, r.block, unusable(r.def), tooManyLetters)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what
	}
	letters, err := unusableLetters(rows)
	if err == nil && uint64(len(letters)) < n {
		err = fmt.Errorf("%d of %d events cannot be used, the first of them: %s", n, r.block.Len(), &letters[0])
	}
	return letters, err
}

// leaveOut fills the block again without some events.
func (r *sqlRows) leaveOut(b *batch, letters []Letter, m *made) error {
	m.letters = append(m.letters, letters...)
	without := make(map[eventKey]bool, len(m.letters))
	for i := range m.letters {
		l := &m.letters[i]
		without[eventKey{l.Stream, place{Incarnation: l.Incarnation, ID: l.ID}}] = true
	}
	var again []Letter
	return r.fill(b, without, &again)
}

// unusable is the SELECT that names the events that do not meet what a definition
// requires.
func unusable(d *projection.Definition) string {
	return "SELECT stream, incarnation, toString(id_ms) AS ms, toString(id_seq) AS seq, event_id, type, tenant, " + d.Unusable() +
		" AS reason FROM events WHERE reason != ''"
}

// unusableLetters reads the rows of unusable.
func unusableLetters(rows chstore.Rows) ([]Letter, error) {
	letters := make([]Letter, 0, len(rows.Rows))
	for _, row := range rows.Rows {
		var l Letter
		var ms, seq string
		for i, to := range []any{&l.Stream, &l.Incarnation, &ms, &seq, &l.EventID, &l.Type, &l.Tenant, &l.Reason} {
			if err := json.Unmarshal(row[i], to); err != nil {
				return nil, fmt.Errorf("read which events cannot be used: %w", err)
			}
		}
		var err, seqErr error
		l.ID.Ms, err = strconv.ParseUint(ms, 10, 64)
		l.ID.Seq, seqErr = strconv.ParseUint(seq, 10, 64)
		if err := errors.Join(err, seqErr); err != nil {
			return nil, fmt.Errorf("read which events cannot be used: %w", err)
		}
		letters = append(letters, l)
	}
	return letters, nil
}

// leaveOutFailing finds the events on which the SELECT fails, by halves.
func (r *sqlRows) leaveOutFailing(ctx context.Context, b *batch, m *made) error {
	without := map[eventKey]bool{}
	for i := range m.letters {
		l := &m.letters[i]
		without[eventKey{l.Stream, place{Incarnation: l.Incarnation, ID: l.ID}}] = true
	}
	var failing []Letter
	for _, one := range b.runs {
		if err := r.halve(ctx, b, one, without, &failing); err != nil {
			return err
		}
	}
	if len(failing) == 0 {
		return errors.New("the SELECT fails on a batch, and on no event of it alone")
	}
	return r.leaveOut(b, failing, m)
}

func (r *sqlRows) halve(ctx context.Context, b *batch, part run, without map[eventKey]bool, failing *[]Letter) error {
	var ignored []Letter
	only := batch{events: b.events, runs: []run{part}}
	if err := r.fill(&only, without, &ignored); err != nil {
		return err
	}
	_, err := r.count(ctx)
	if err == nil {
		return nil
	}
	if !errors.Is(err, chstore.ErrData) {
		return err
	}
	if part.to-part.from > 1 {
		middle := (part.from + part.to) / 2
		first, second := part, part
		first.to, second.from = middle, middle
		if err := r.halve(ctx, b, first, without, failing); err != nil {
			return err
		}
		return r.halve(ctx, b, second, without, failing)
	}
	var e event.Event
	b.events.Event(part.from, &e)
	var env event.Envelope
	r.selector.extractor.Extract(&e, &env)
	*failing = append(*failing, letterOf(part.stream, part.incarnation, e.ID, &env, err.Error()))
	if n := uint64(len(*failing)); n > r.failing && n > 2 { // a few are named
		if err := allowed(r.def, n, *failing); err != nil {
			return err
		}
		return fmt.Errorf("more than %d events of one batch cannot be used, the last one for: %w", r.failing, err)
	}
	return nil
}

// insert implements rowMaker.
func (r *sqlRows) insert(ctx context.Context, db *chstore.Store, load chstore.Load) (uint64, error) {
	if r.block.Len() == 0 {
		return 0, nil
	}
	load.Columns, load.Select = r.columns, r.def.Select
	return db.LoadBlock(ctx, r.block, "", load) //nolint:wrapcheck // it says what
}
