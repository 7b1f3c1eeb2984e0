package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

// Precision says how far a number of an Estimate can be trusted.
type Precision string

// The precisions.
const (
	Exact     Precision = "exact"     // the replay selects this many
	AtMost    Precision = "at most"   // an upper bound: what the filter takes away is not known
	Estimated Precision = "estimated" // extrapolated from a sample
)

// Count is a number of events.
type Count struct {
	Events    uint64    `json:"events"`
	Precision Precision `json:"precision"`
}

// Bucket is a Count by a name: a type, a tenant, a day.
type Bucket struct {
	Name string `json:"name"`
	Count
}

// Breakdown counts events by something. Buckets are the largest MaxBuckets (days:
// all of them, in order); Other counts the rest and the events of which the
// name is not known.
type Breakdown struct {
	Buckets []Bucket `json:"buckets,omitempty"`
	Other   *Count   `json:"other,omitempty"`
}

// MaxBuckets bounds the buckets of a Breakdown by type or tenant.
const MaxBuckets = 50

// StreamEstimate is what a replay reads of one stream.
type StreamEstimate struct {
	StreamRange
	Count
	Segments uint64 `json:"segments"`
	Bytes    int64  `json:"bytes"`
}

// GapEstimate is a loss in the range: entries that are not in the archive.
type GapEstimate struct {
	Stream string `json:"stream"`
	archive.RecordedGap
}

// maxGaps bounds Estimate.Gaps.
const maxGaps = 100

// TargetEstimate is what the sink says about the target.
type TargetEstimate struct {
	Key         string    `json:"key"`
	Description string    `json:"description"`
	Guarantee   Guarantee `json:"guarantee"`
}

// DurationEstimate is how long a replay takes.
type DurationEstimate struct {
	Expected  time.Duration `json:"expected_ns"`
	Precision Precision     `json:"precision"`
	Basis     string        `json:"basis"` // how it was reckoned, for people
}

// Estimate is what a replay would do, found out without writing anything.
type Estimate struct {
	ResolvedAt time.Time `json:"resolved_at"`
	// Total counts the events that are selected, up to the limit; the breakdowns
	// and Streams do not know the limit.
	Total   Count            `json:"total"`
	Limited bool             `json:"limited,omitempty"` // the limit ends it before the range does
	Streams []StreamEstimate `json:"streams"`
	Types   Breakdown        `json:"types"`
	Tenants Breakdown        `json:"tenants"`
	Days    Breakdown        `json:"days"` // UTC, by the milliseconds of the IDs

	// Segments and Bytes are the archive's objects that may have to be read.
	Segments uint64 `json:"segments"`
	Bytes    int64  `json:"bytes"`
	// Sampled is how many events were read to estimate.
	Sampled uint64 `json:"sampled,omitempty"`

	// GapCount counts the losses in the range, Lost what they lost at the least,
	// and Gaps are the first hundred.
	GapCount uint64        `json:"gap_count,omitempty"`
	Lost     uint64        `json:"lost,omitempty"`
	Gaps     []GapEstimate `json:"gaps,omitempty"`

	// Duration is nil where it is not known: a replay that follows has no end.
	Duration *DurationEstimate `json:"duration,omitempty"`
	// First and Last are the first and the last selected events in the order of
	// the replay, as far as they were found by reading little: with Partial
	// set there may be others before or after them. The limit does not count.
	First   []event.View `json:"first,omitempty"`
	Last    []event.View `json:"last,omitempty"`
	Partial bool         `json:"partial,omitempty"`

	Target   *TargetEstimate `json:"target,omitempty"` // nil when the spec has no sink
	Warnings []string        `json:"warnings,omitempty"`
}

// EstimateOptions say how closely to look.
type EstimateOptions struct {
	// Sample reads up to 200,000 events where commit logs and summaries do not
	// tell: what is small is then counted, what is large extrapolated.
	Sample bool
	// Events is how many of the first and of the last events are shown; default
	// 3, less than zero none.
	Events int
}

// Estimate finds out what a replay would do, without writing anything: the dry
// run. Counts come from commit logs and segment summaries alone unless
// opts.Sample is set. It refuses what Create refuses; a spec without a sink is
// taken too, and its target not looked at.
func (s *Service) Estimate(ctx context.Context, spec Spec, opts EstimateOptions) (*Estimate, error) {
	if opts.Events == 0 {
		opts.Events = 3
	}
	if err := s.validateForEstimate(&spec); err != nil {
		return nil, err
	}
	frozen, err := s.resolve(ctx, &spec)
	if err != nil {
		return nil, err
	}
	est := &Estimate{ResolvedAt: frozen.ResolvedAt, Warnings: frozen.Warnings}
	if spec.Sink.Type != "" {
		target, err := s.check(ctx, &spec, frozen)
		if err != nil {
			return nil, err
		}
		est.Target = &TargetEstimate{target.Key, target.Description, target.Guarantee}
		est.Warnings = slices.Concat(frozen.Warnings, target.Warnings)
	}
	if spec.DeadLettersOf != "" {
		est.Total = Count{frozen.Events, Exact}
		est.Duration = duration(&spec, est, nil)
		return est, nil
	}
	filter, where, err := splitFilter(spec.Filter)
	if err != nil {
		return nil, err
	}
	look := &looker{s: s, spec: &spec, lists: filter, where: where, extract: s.opts.Mapping.Extractor()}
	edges, err := look.count(ctx, frozen, opts.Sample, est)
	if err != nil {
		return nil, fmt.Errorf("estimate: %w", err)
	}
	if opts.Events > 0 {
		if err := look.preview(ctx, frozen, edges, opts.Events, est); err != nil {
			return nil, fmt.Errorf("estimate: %w", err)
		}
	}
	if look.failed != nil {
		est.Warnings = append(est.Warnings, fmt.Sprintf("the condition cannot be evaluated for every event, and these become dead letters; the first: %v", look.failed))
	}
	return est, nil
}

// looker looks at the events of one spec.
type looker struct {
	s       *Service
	spec    *Spec
	lists   *event.Matcher   // what the archive applies; nil: all
	where   *event.Predicate // nil: all
	extract *event.Extractor
	env     event.Envelope
	failed  error // the first time that the predicate could not be evaluated
}

// selects reports whether an event is selected, by the predicate and, unless
// the archive did that, by the lists. Its envelope is in env afterwards.
func (l *looker) selects(e *event.Event, listed bool) (bool, error) {
	l.extract.Extract(e, &l.env)
	if l.lists != nil && !listed {
		if ok, err := l.lists.Match(e, &l.env); err != nil || !ok {
			return false, err //nolint:wrapcheck // lists have no errors
		}
	}
	if l.where == nil {
		return true, nil
	}
	ok, err := l.where.Match(e, &l.env)
	if err != nil && l.failed == nil {
		l.failed = err
	}
	return ok && err == nil, nil
}

// validateForEstimate is Validate of a spec that need not have a sink yet.
func (s *Service) validateForEstimate(spec *Spec) error {
	checked := *spec
	if checked.Sink.Type == "" {
		for kind := range s.kinds {
			checked.Sink.Type = kind
		}
	}
	return s.Validate(&checked)
}

// count fills in everything that is counted, and gives where the streams begin
// and end.
func (l *looker) count(ctx context.Context, frozen *Frozen, sample bool, est *Estimate) ([]edge, error) {
	mapping, err := mappingDigest(l.s.opts.Mapping)
	if err != nil {
		return nil, err
	}
	spec := l.spec
	c := newCounter(&spec.Filter, l.lists, mapping)
	span := newSpan(spec.Order == OrderStream)
	var edges []edge
	for i := range frozen.Streams {
		r := &frozen.Streams[i]
		c.beginStream(r.Stream)
		span.beginStream()
		st, e, err := l.countStream(ctx, r, c, span, est)
		if err != nil {
			return nil, err
		}
		if e != nil {
			e.stream, e.first.Stream, e.last.Stream = i, i, i
			edges = append(edges, *e)
		}
		est.Segments += st.Segments
		est.Bytes += st.Bytes
		est.Streams = append(est.Streams, st)
	}
	if sample {
		if err := l.sample(ctx, c); err != nil {
			return nil, err
		}
	}
	c.fill(est)
	if spec.Limit > 0 && est.Total.Events > spec.Limit {
		est.Limited = true
		est.Total.Events = spec.Limit
	}
	est.Duration = duration(spec, est, span)
	return edges, nil
}

// countStream counts one stream; the edge is nil where nothing is selected.
func (l *looker) countStream(ctx context.Context, r *StreamRange, c *counter, span *span, est *Estimate) (StreamEstimate, *edge, error) {
	st := StreamEstimate{StreamRange: *r}
	plans, err := l.s.plans(ctx, r, l.spec.Order, l.lists)
	if err != nil {
		return st, nil, err
	}
	var e *edge
	for _, p := range plans {
		st.Segments += p.Totals.Segments
		st.Bytes += p.Totals.Bytes
		est.Lost += p.Totals.Lost
		est.GapCount += p.Totals.Gaps
		for seg, err := range p.Segments(ctx) {
			if err != nil {
				return st, nil, err
			}
			c.add(&seg, p.span)
			span.add(p.span, &seg)
			if e == nil {
				e = &edge{first: p.position(l.spec.Order, seg.First)}
			}
			e.last = p.position(l.spec.Order, seg.Last)
		}
		if err := addGaps(ctx, p.Plan, est); err != nil {
			return st, nil, err
		}
	}
	return st, e, nil
}

// addGaps lists the losses of a plan, as far as there is room.
func addGaps(ctx context.Context, p *archive.Plan, est *Estimate) error {
	if p.Totals.Gaps == 0 || len(est.Gaps) == maxGaps {
		return nil
	}
	for g, err := range p.Gaps(ctx) {
		if err != nil {
			return err
		}
		if len(est.Gaps) == maxGaps {
			return nil
		}
		est.Gaps = append(est.Gaps, GapEstimate{p.Stream(), g})
	}
	return nil
}
