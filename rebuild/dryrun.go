package rebuild

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
)

// DryRunOptions say which events are tried.
type DryRunOptions struct {
	// Events is how many events of each stream are taken, the first ones; default 1000,
	// at most 50,000.
	Events int
	// Aggregate, if set, is the ID of an aggregate: its events are taken.
	Aggregate string
	// Rows is how many rows are shown; default 20, at most 10,000.
	Rows int
}

const (
	maxDryRows    = 10_000
	maxDryLetters = 1000
	// dryFailing bounds the events of a batch on which the SELECT fails, each of which takes
	// several statements to find.
	dryFailing = 10_000
)

// DryRunResult is what became of the events.
type DryRunResult struct {
	Read     uint64 `json:"read"`     // events
	Selected uint64 `json:"selected"` // of these, without those that cannot be used
	// Rows are the first ones of the table, merged, in the order of its keys.
	Rows chstore.Rows `json:"rows"`
	// Refused is how many events cannot be used. DeadLetters are the first 1000 of them.
	Refused     uint64   `json:"refused,omitempty"`
	DeadLetters []Letter `json:"dead_letters,omitempty"`
}

// DryRun gives the rows that a definition makes of the first archived events of each
// stream, or of an aggregate's. They are put into a table of its own, which is dropped
// again; its dependent tables are not made. Nothing else is written.
func (s *Service) DryRun(ctx context.Context, name string, opts DryRunOptions) (*DryRunResult, error) {
	if opts.Events <= 0 {
		opts.Events = 1000
	}
	opts.Events = min(opts.Events, batchEvents)
	if opts.Rows <= 0 {
		opts.Rows = 20
	}
	opts.Rows = min(opts.Rows, maxDryRows)
	d, set, digest, err := s.definition(name)
	if err != nil {
		return nil, err
	}
	sub, err := s.subject(ctx, d, set, digest)
	if err != nil {
		return nil, err
	}
	left, err := s.opts.ClickHouse.Marked(ctx, "", name)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what
	}
	if err := projection.DropLeft(ctx, s.opts.ClickHouse, left); err != nil {
		return nil, err //nolint:wrapcheck // it says what
	}
	result := &DryRunResult{}
	err = d.InThrowAway(ctx, s.opts.ClickHouse, func(ctx context.Context, table chstore.Table) error {
		return s.dryRun(ctx, sub, opts, table, result)
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what
	}
	return result, nil
}

// dryRun fills a table, and shows it.
func (s *Service) dryRun(ctx context.Context, sub *subject, opts DryRunOptions, table chstore.Table, result *DryRunResult) (err error) {
	alone := *s
	alone.opts.Redis = nil // what is archived, and no more
	if sub.def.Kind == projection.Fold {
		if alone.opts.StateDir, err = os.MkdirTemp("", "reservoir-dry-run-*"); err != nil {
			return fmt.Errorf("make a directory for the states of a fold: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(alone.opts.StateDir)) }()
	}
	d := &dryRun{svc: &alone, sub: sub, opts: opts, into: table, result: result}
	d.batch.reset()
	if d.selector, err = newSelector(sub.def, s.opts.Mapping, s.opts.Upcasters); err != nil {
		return err
	}
	if opts.Aggregate != "" {
		d.selector.scope = &Scope{Aggregates: []string{opts.Aggregate}}
	}
	if d.rows, err = alone.rows(sub, 0, nil, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeRows(d.rows)) }()
	if rows, ok := d.rows.(*sqlRows); ok {
		rows.failing = dryFailing // whatever the policy is
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	page := chstore.Page{OrderBy: sub.def.Keys, Final: true, Limit: opts.Rows}
	result.Rows, err = s.opts.ClickHouse.Read(ctx, table, page)
	return err //nolint:wrapcheck // it says what
}

// dryRun is a dry run that has its table.
type dryRun struct {
	svc      *Service
	sub      *subject
	opts     DryRunOptions
	into     chstore.Table
	selector *selector // of what goes into batch
	rows     rowMaker
	batch    batch
	chunk    uint64
	result   *DryRunResult
}

// fill puts the rows of the events into the table.
func (d *dryRun) fill(ctx context.Context) error {
	streams, err := d.svc.streams(ctx, d.sub.def)
	if err != nil {
		return err
	}
	var matcher *event.Matcher
	if d.opts.Aggregate != "" && !d.sub.def.Upcast { // upcasters may make another one of it
		filter := event.Filter{Aggregates: []string{d.opts.Aggregate}}
		if matcher, err = filter.Compile(); err != nil {
			return fmt.Errorf("select the events of an aggregate: %w", err)
		}
	}
	for _, stream := range streams {
		if err := d.stream(ctx, stream, matcher); err != nil {
			return err
		}
	}
	return d.flush(ctx)
}

// stream takes the events of a stream.
func (d *dryRun) stream(ctx context.Context, stream string, matcher *event.Matcher) error {
	plan, err := d.svc.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: stream, Filter: matcher})
	if err != nil {
		return err //nolint:wrapcheck // it names the stream
	}
	left := d.opts.Events
	for read, err := range plan.Batches(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		if left, err = d.take(stream, read, left); err != nil {
			return err
		}
		if d.batch.full() {
			if err := d.flush(ctx); err != nil {
				return err
			}
		}
		if left == 0 {
			return nil
		}
	}
	return nil
}

// take takes events of what was read until so many are taken as are left, and returns how
// many are left then. Those of other aggregates do not count.
func (d *dryRun) take(stream string, read archive.Batch, left int) (int, error) {
	var e event.Event
	var refused []Letter
	for i := 0; i < read.Len() && left > 0; i++ {
		wanted := false
		refused = refused[:0]
		err := d.selector.each(stream, read.Incarnation, read.Batch, i, i+1, &refused, func(*event.Event, *event.Envelope) error {
			wanted = true
			return nil
		})
		if err != nil {
			return left, err
		}
		d.result.Read++
		if len(refused) > 0 { // rows says so too
			wanted = d.opts.Aggregate == "" || columnText(&d.selector.env, event.AggregateID) == d.opts.Aggregate
		}
		if wanted || d.opts.Aggregate == "" {
			left--
		}
		if wanted {
			read.Event(i, &e)
			d.batch.append(stream, read.Incarnation, &e)
			d.result.Selected++
		}
	}
	return left, nil
}

// append appends an event to the last run, or begins one.
func (b *batch) append(stream string, incarnation int, e *event.Event) {
	at := b.events.Len()
	b.events.Append(e)
	if n := len(b.runs); n > 0 && b.runs[n-1].stream == stream && b.runs[n-1].incarnation == incarnation {
		b.runs[n-1].to = at + 1
		return
	}
	b.runs = append(b.runs, run{stream, incarnation, at, at + 1})
}

// flush puts the rows of the events that were taken into the table.
func (d *dryRun) flush(ctx context.Context) error {
	if d.batch.events.Len() == 0 {
		return nil
	}
	m, err := d.rows.make(ctx, &d.batch, true)
	if err != nil {
		return err
	}
	d.batch.reset()
	refused := uint64(len(m.letters))
	d.result.Refused, d.result.Selected = d.result.Refused+refused, d.result.Selected-refused
	d.result.DeadLetters = append(d.result.DeadLetters, m.letters[:min(len(m.letters), maxDryLetters-len(d.result.DeadLetters))]...)
	if m.rows == 0 {
		return nil
	}
	d.chunk++
	_, err = d.rows.insert(ctx, d.svc.opts.ClickHouse, chstore.Load{Into: d.into, Chunk: d.chunk, Adding: d.sub.kind == chstore.Adding})
	return err
}
