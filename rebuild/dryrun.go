package rebuild

import (
	"context"
	"fmt"

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
	// Rows is how many rows are shown; default 20.
	Rows int
}

// DryRunResult is what became of the events.
type DryRunResult struct {
	Read     uint64 `json:"read"`     // events
	Selected uint64 `json:"selected"` // of these
	// Rows are the first ones that they give.
	Rows        chstore.Rows `json:"rows"`
	DeadLetters []Letter     `json:"dead_letters,omitempty"`
}

// DryRun gives the rows that a definition of kind sql makes of the first events of each
// stream, or of an aggregate's. Nothing is written.
func (s *Service) DryRun(ctx context.Context, name string, opts DryRunOptions) (*DryRunResult, error) {
	if opts.Events <= 0 {
		opts.Events = 1000
	}
	opts.Events = min(opts.Events, batchEvents)
	if opts.Rows <= 0 {
		opts.Rows = 20
	}
	d, set, digest, err := s.definition(name)
	if err != nil {
		return nil, err
	}
	if d.Kind != projection.SQL {
		return nil, fmt.Errorf("%w: %s is of kind %s: `reservoir projections test` runs its function", ErrInvalid, name, d.Kind)
	}
	sub, err := s.subject(ctx, d, set, digest)
	if err != nil {
		return nil, err
	}
	var scope *Scope
	filter := event.Filter{}
	if opts.Aggregate != "" {
		scope, filter = &Scope{Aggregates: []string{opts.Aggregate}}, event.Filter{Aggregates: []string{opts.Aggregate}}
	}
	maker, err := s.rows(sub, 0, scope, nil)
	if err != nil {
		return nil, err
	}
	rows := maker.(*sqlRows)
	result := &DryRunResult{}
	events, err := s.sample(ctx, d, filter, opts.Events, result)
	if err != nil {
		return nil, err
	}
	m, err := rows.make(ctx, events, true)
	if err != nil {
		return nil, err
	}
	result.DeadLetters = m.letters
	result.Selected = uint64(rows.block.Len()) //nolint:gosec // a length
	result.Rows, err = s.opts.ClickHouse.Preview(ctx, rows.block, d.Select, opts.Rows)
	return result, err //nolint:wrapcheck // it says what
}

// sample reads the first events of every stream.
func (s *Service) sample(ctx context.Context, d *projection.Definition, filter event.Filter, limit int, result *DryRunResult) (*batch, error) {
	streams, err := s.streams(ctx, d)
	if err != nil {
		return nil, err
	}
	var matcher *event.Matcher
	if !filter.IsZero() {
		if matcher, err = filter.Compile(); err != nil {
			return nil, fmt.Errorf("select the events of an aggregate: %w", err)
		}
	}
	out := &batch{}
	out.reset()
	for _, stream := range streams {
		plan, err := s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: stream, Filter: matcher})
		if err != nil {
			return nil, err //nolint:wrapcheck // it names the stream
		}
		left := limit
		for read, err := range plan.Batches(ctx) {
			if err != nil {
				return nil, err //nolint:wrapcheck // it names the stream
			}
			n := min(left, read.Len())
			out.add(stream, read, n)
			result.Read += uint64(n) //nolint:gosec // a count
			if left -= n; left == 0 {
				break
			}
		}
	}
	return out, nil
}
